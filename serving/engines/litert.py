"""model.tflite -> Servable: a version run by LiteRT, as TensorFlow Serving does with --prefer_tflite_model.

The file is read once; several interpreters share it. Each runs one request at a time, with its own threads. Signatures
are found as the original finds them: in the file's metadata; a file without gets a signature whose keys are the names
of its tensors.
"""
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from google.protobuf.message import DecodeError

from serving.engines.damage import check_digest
from serving.engines.inputs import check_type, fits, no_examples, wrong_shape
from serving.engines.lending import Pool
from serving.engines.signatures import signatures_of
from serving.engines.trial import Zeros, pace_of_runs, run_zeros
from serving.engines.wanted import LITERT
from serving.errors import Code, ServingError, invalid, timed_out
from serving.protos import get_model_metadata_pb2, meta_graph_pb2
from serving.saved_model_file import TFLITE
from serving.servable import DEFAULT_SIGNATURE, PREDICT_METHOD, Array, Signature
from serving.tensor_proto import data_type
from version_directory import MANIFEST, read_manifest

SIGNATURES = b"signature_defs_metadata"  # the name that the original looks for


class LiteRTModel:  # decision 198
    """A Servable whose requests are run by LiteRT's interpreters."""

    engine = LITERT

    def __init__(self, name: str, version: int, content: bytes, interpreters: int, threads: int) -> None:
        """`threads`: of each interpreter. Raises ServingError if LiteRT does not take the file."""
        self.name = name
        self.version = version
        self.answers = True
        first = _Worker(content, threads)
        self._pool = Pool([first, *(_Worker(content, threads) for _ in range(interpreters - 1))])
        self._inputs = {_name(one): one for one in first.inputs}
        self._outputs = {_name(one): one for one in first.outputs}
        self.metadata = get_model_metadata_pb2.SignatureDefMap()
        for key, message in (_signatures(content) or {DEFAULT_SIGNATURE: self._made_up()}).items():
            self.metadata.signature_def[key].CopyFrom(self._checked(key, message))
        self.signatures: Mapping[str, Signature] = signatures_of(self.metadata)
        # A loop or a branch is a subgraph of its own; without, the time of a run is bounded by the size of its input.
        self._bounded = first.subgraphs == 1
        self._pace = pace_of_runs()

    def try_out(self) -> None:
        """One run with zeros (a batch of 1); then `answers` says whether this version can answer at all."""
        run_zeros(self, self._zeros)

    def _zeros(self) -> Zeros:
        shapes = [[1 if size < 0 else size for size in one["shape_signature"]] for one in self._inputs.values()]
        return list(self._inputs), [np.zeros(shape, one["dtype"]) for shape, one in zip(
            shapes, self._inputs.values(), strict=True)], list(self._outputs)

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        """See Servable.run. A run that has begun is not interrupted at its deadline."""
        size = sum([value.nbytes for value in values])
        here = timeout_s == 0
        if here and size > self._pace.quick_bytes:
            raise timed_out()
        given = {}
        for place, (feed, value) in enumerate(zip(feeds, values, strict=True)):
            given[self._fitting(place, feed, value)] = value
        wanted = [self._output(fetch) for fetch in fetches]
        if any(value.size == 0 for value in values):
            return [_empty(one) for one in wanted]
        shapes = tuple((index, value.shape) for index, value in sorted(given.items()))
        with self._pool.worker(timeout_s, lambda one: one.shapes == shapes) as worker:
            if started is not None:
                started()
            began = perf_counter()
            found = worker.run(given, shapes, [int(one["index"]) for one in wanted])
            if self._bounded:
                self._pace.note(size, began, perf_counter(), here)
        self.answers = True
        return found

    def close(self) -> None:
        """Frees the interpreters. No request is running."""
        self._pool.close()

    def _fitting(self, place: int, feed: str, value: Array) -> int:
        """The index of the input that `value` is for. Raises INVALID_ARGUMENT if it has another type or shape."""
        tensor = self._inputs.get(feed)
        if tensor is None:
            raise ServingError(Code.INTERNAL, f"Unknown tensor '{feed}'.")
        check_type(place, value, np.dtype(tensor["dtype"]))
        # Converters write a batch of 1 for any batch, and LiteRT takes another; other sizes are those of the weights.
        declared = tuple(-1 if axis == 0 else int(size) for axis, size in enumerate(tensor["shape_signature"]))
        if not _fits(value.shape, declared):
            raise wrong_shape(feed, value.shape, declared)
        return int(tensor["index"])

    def _output(self, fetch: str) -> Any:
        if fetch not in self._outputs:
            raise ServingError(Code.INTERNAL, f"Missing output TFLite tensor: {fetch}: Unknown tensor '{fetch}'.")
        return self._outputs[fetch]

    def _made_up(self) -> Any:
        """The signature that the original makes for a file without any: its keys are names of tensors."""
        message = meta_graph_pb2.SignatureDef(method_name=PREDICT_METHOD)
        for side, tensors in ((message.inputs, self._inputs), (message.outputs, self._outputs)):
            for name, tensor in tensors.items():
                info = side[name.partition(":")[0]]
                info.name, info.dtype = name, data_type(np.dtype(tensor["dtype"]))
                for size in tensor["shape"]:
                    info.tensor_shape.dim.add(size=int(size))
        return message

    def _checked(self, key: str, message: Any) -> Any:
        """The signature with the names of the tensors that are there: old converters left ":0" out."""
        for what, side, tensors in (("input", message.inputs, self._inputs),
                                    ("output", message.outputs, self._outputs)):
            for alias, info in side.items():
                found = next((name for name in (info.name, info.name.partition(":")[0]) if name in tensors), None)
                if found is None:
                    raise ServingError(Code.INTERNAL, f"Unknown tensor '{info.name}'.\n\tSignature {what} {alias} "
                                       "references an unknown tensor", "Convert the model again.")
                info.name = found
        if len(message.inputs) != len(self._inputs):
            raise ServingError(Code.INTERNAL, f"signature '{key}' has {len(message.inputs)} of the model's "
                               f"{len(self._inputs)} inputs", "Convert the model again, with this signature alone.")
        return message


class _Worker:
    """An interpreter and the input shapes that it is prepared for. One request at a time."""

    shapes: tuple[Any, ...]
    _interpreter: Any

    def __init__(self, content: bytes, threads: int) -> None:
        self._content, self._threads = content, threads
        self._make()
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()
        self.subgraphs = self._interpreter.num_subgraphs()

    def run(self, values: Mapping[int, Array], shapes: tuple[Any, ...], wanted: Sequence[int]) -> list[Array]:
        try:
            if shapes != self.shapes:
                for index, shape in shapes:
                    self._interpreter.resize_tensor_input(index, shape)
                self._interpreter.allocate_tensors()
                self.shapes = shapes
            for index, value in values.items():
                self._interpreter.set_tensor(index, value)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in wanted]
        except (RuntimeError, ValueError) as error:
            self._make()  # it may be half-way to other shapes
            raise ServingError(Code.INTERNAL, f"Failed to invoke TfLite interpreter: {error}") from None

    def _make(self) -> None:
        self.shapes = ()
        try:
            self._interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
        except (RuntimeError, ValueError) as error:
            raise invalid(f"Cannot build FlatBufferModel from buffer. {error}", "Convert the model again: the file was "
                          "cut, altered, or uses operations that LiteRT does not have.") from None
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise ServingError(Code.INTERNAL, f"Failed to allocate tensors: {error}") from None


def load(name: str, version: int, path: Path, interpreters: int, threads: int) -> LiteRTModel:
    """Loads the version's model.tflite. Raises ServingError."""
    try:
        content = (path / TFLITE).read_bytes()
    except OSError as error:
        raise ServingError(Code.NOT_FOUND, f"{error.filename}; {error.strerror}") from None
    if not content:
        raise invalid("Cannot build FlatBufferModel from buffer. The file is empty", "Convert the model again.")
    _check_digest(path, content)
    return LiteRTModel(name, version, content, max(interpreters, 1), max(threads, 1))


def _check_digest(path: Path, content: bytes) -> None:
    """Compares the file with the manifest, if that has its checksum: LiteRT cannot tell that a weight was altered."""
    try:
        digest = (read_manifest(path) or {})["engines"][LITERT]["sha256"][TFLITE]
    except (KeyError, TypeError):
        return
    check_digest(path / TFLITE, content, digest, MANIFEST.name, LITERT)


def _signatures(content: bytes) -> dict[str, Any]:
    """The SignatureDefs in the file's metadata by key; none if it has none. Raises INVALID_ARGUMENT."""
    model = schema.Model.GetRootAs(content, 0)
    for place in range(model.MetadataLength()):
        metadata = model.Metadata(place)
        if metadata.Name() == SIGNATURES:
            try:
                found = flexbuffers.GetRoot(bytes(model.Buffers(metadata.Buffer()).DataAsNumpy())).AsMap
                return {key.AsKey: meta_graph_pb2.SignatureDef.FromString(found[key.AsKey].AsStringBytes)
                        for key in found.Keys}
            except (DecodeError, ValueError, TypeError, KeyError, IndexError, struct.error) as error:
                raise invalid(f"Invalid SignatureDefs found in TfLite model: {error}") from None
    return {}


def _name(tensor: Mapping[str, Any]) -> str:
    if tensor["dtype"] in (np.bytes_, np.str_, np.object_):
        raise ServingError(Code.UNIMPLEMENTED, f"tensor '{tensor['name']}' of {TFLITE} holds strings, and LiteRT runs "
                           "none here", "Serve the SavedModel: leave --prefer_tflite_model out.")
    return str(tensor["name"])


def _fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """Whether LiteRT is asked to take the shape: as declared, or with sizes of 1 left out or added, as clients do."""
    if fits(shape, declared):
        return True
    return bool(shape) and [size for size in shape[1:] if size != 1] == [size for size in declared[1:] if size != 1]


def _empty(tensor: Mapping[str, Any]) -> Array:
    """The answer to no examples. Raises INVALID_ARGUMENT if the output has not one entry for each example."""
    shape = [int(size) for size in tensor["shape_signature"]]
    if not shape or -1 in shape[1:]:
        raise no_examples(tensor["name"], tuple(shape))
    return np.zeros([0, *shape[1:]], tensor["dtype"])
