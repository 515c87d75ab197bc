"""model.tflite -> Servable: a version run by LiteRT, as TensorFlow Serving does with --prefer_tflite_model.

The file is read once; several interpreters share it. Each runs one request at a time, with its own threads. Signatures
are found as the original finds them: in the file's metadata; a file without gets a signature whose keys are the names
of its tensors.
"""
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from other_engines import LITERT
from serving.engines import litert_file
from serving.engines.inputs import check_type, fits, no_examples, wrong_shape
from serving.engines.lending import Pool
from serving.engines.litert_memory import LiteRTMemory
from serving.engines.signatures import signatures_of
from serving.engines.trial import Zeros, pace_of_runs, run_zeros
from serving.errors import Code, ServingError, timed_out
from serving.memory import MemoryLimit, worth_keeping
from serving.protos import get_model_metadata_pb2, meta_graph_pb2
from serving.servable import DEFAULT_SIGNATURE, PREDICT_METHOD, Array, Signature
from serving.tensor_proto import data_type

# Some operations end the process at tensors of more dimensions than they know.
_MOST_RANK = 4  # decision 208


class LiteRTModel:  # decision 198
    """A Servable whose requests are run by LiteRT's interpreters."""

    engine = LITERT.name

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
        # A signature may say "x:0" of the tensor "x". Its own name is what clients read in metadata and errors.
        self._names: dict[str, str] = {}
        for key, message in (litert_file.signatures(content) or {DEFAULT_SIGNATURE: self._made_up()}).items():
            self._names |= self._found(key, message)
            self.metadata.signature_def[key].CopyFrom(message)
        self.signatures: Mapping[str, Signature] = signatures_of(self.metadata)
        # LiteRT has no unknown ranks: such an input looks like a scalar to it.
        self._any_rank = {self._names[spec.name] for signature in self.signatures.values()
                          for spec in signature.inputs.values() if spec.shape is None}
        # A loop or a branch is a subgraph of its own; without, the time of a run is bounded by the size of its input.
        self._bounded = first.subgraphs == 1
        self._pace = pace_of_runs()
        self.memory = MemoryLimit(-1)
        self._memory = LiteRTMemory(content, threads)

    def try_out(self) -> None:
        """One run with zeros (a batch of 1); then `answers` says whether this version can answer at all."""
        run_zeros(self, self._zeros)

    def _zeros(self) -> Zeros:
        shapes = [[1] if name in self._any_rank else [1 if size < 0 else size for size in one["shape_signature"]]
                  for name, one in self._inputs.items()]
        return list(self._inputs), [np.zeros(shape, one["dtype"]) for shape, one in zip(
            shapes, self._inputs.values(), strict=True)], list(self._outputs)

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        """See Servable.run. A run that has begun is not interrupted at its deadline."""
        if timeout_s == 0 and sum([value.nbytes for value in values]) > self._pace.quick_bytes:
            raise timed_out()
        given = {}
        for place, (feed, value) in enumerate(zip(feeds, values, strict=True)):
            given[self._fitting(place, feed, value)] = value
        wanted = [self._output(fetch) for fetch in fetches]
        if any(value.size == 0 for value in values):
            return self._without_examples(given, wanted, timeout_s, started)
        return self._run(given, wanted, timeout_s, started)

    def _run(self, given: Mapping[int, Array], wanted: Sequence[Any], timeout_s: float | None,
             started: Callable[[], None] | None) -> list[Array]:
        size, here = sum([value.nbytes for value in given.values()]), timeout_s == 0
        shapes = tuple((index, value.shape) for index, value in sorted(given.items()))
        examples, each = (0, 0) if here or self.memory.most_bytes < 0 else self._memory.of_request(given)
        # Within the worker's turn: a request that waits for one takes no memory.
        with self._pool.worker(timeout_s, lambda one: one.shapes == shapes) as worker, (
                self.memory.reserved(examples, each) if each else nullcontext()):
            if started is not None:
                started()
            began = perf_counter()
            found = worker.run(given, shapes, [int(one["index"]) for one in wanted])
            if not worth_keeping(examples * each):
                worker.give_back()
            if self._bounded:
                self._pace.note(size, began, perf_counter(), here)
        self.answers = True
        return found

    def _without_examples(self, given: Mapping[int, Array], wanted: Sequence[Any], timeout_s: float | None,
                          started: Callable[[], None] | None) -> list[Array]:  # decision 206
        """The answer to inputs of size 0, which LiteRT does not take: its shape follows from runs with sizes 1 and 2.

        Raises INVALID_ARGUMENT if an output would not be empty.
        """
        one, two = (self._run({index: value if value.size else np.zeros([size or count for size in value.shape],
                                                                        value.dtype)
                               for index, value in given.items()}, wanted, timeout_s, started) for count in (1, 2))
        found = []
        for tensor, first, second in zip(wanted, one, two, strict=True):
            shape = tuple(2 * size - other for size, other in zip(first.shape, second.shape, strict=True))
            if 0 not in shape:
                raise no_examples(tensor["name"], shape)
            found.append(np.zeros(shape, first.dtype))
        return found

    def close(self) -> None:
        """Frees the interpreters. No request is running."""
        self._pool.close()

    def _fitting(self, place: int, feed: str, value: Array) -> int:
        """The index of the input that `value` is for. Raises INVALID_ARGUMENT if it has another type or shape."""
        name = self._names.get(feed, feed)
        tensor = self._inputs.get(name)
        if tensor is None:
            raise ServingError(Code.INTERNAL, f"Unknown tensor '{feed}'.")
        check_type(place, value, np.dtype(tensor["dtype"]))
        if name in self._any_rank:
            if value.ndim > _MOST_RANK:
                raise wrong_shape(name, value.shape, None)
            return int(tensor["index"])
        # Converters write a batch of 1 for any batch, and LiteRT takes another; other sizes are those of the weights.
        declared = tuple(-1 if axis == 0 else int(size) for axis, size in enumerate(tensor["shape_signature"]))
        if not _fits(value.shape, declared):
            raise wrong_shape(name, value.shape, declared)
        return int(tensor["index"])

    def _output(self, fetch: str) -> Any:
        tensor = self._outputs.get(self._names.get(fetch, fetch))
        if tensor is None:
            raise ServingError(Code.INTERNAL, f"Missing output TFLite tensor: {fetch}: Unknown tensor '{fetch}'.")
        return tensor

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

    def _found(self, key: str, message: Any) -> dict[str, str]:
        """The names that a signature has for tensors -> their names in the file. Raises INTERNAL."""
        names = {}
        for what, side, tensors in (("input", message.inputs, self._inputs),
                                    ("output", message.outputs, self._outputs)):
            for alias, info in side.items():
                found = next((name for name in (info.name, info.name.partition(":")[0]) if name in tensors), None)
                if found is None:
                    raise ServingError(Code.INTERNAL, f"Unknown tensor '{info.name}'.\n\tSignature {what} {alias} "
                                       "references an unknown tensor", "Convert the model again.")
                names[info.name] = found
        if len(message.inputs) != len(self._inputs):
            raise ServingError(Code.INTERNAL, f"signature '{key}' has {len(message.inputs)} of the model's "
                               f"{len(self._inputs)} inputs", "Convert the model again, with this signature alone.")
        return names


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
                if value.ndim:  # set_tensor takes twice as long: 2.1 ms instead of 1.0 for 19 MB
                    self._interpreter.tensor(index)()[...] = value
                else:
                    self._interpreter.set_tensor(index, value)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in wanted]
        except (RuntimeError, ValueError) as error:
            self._make()  # it may be half-way to other shapes
            raise ServingError(Code.INTERNAL, f"Failed to invoke TfLite interpreter: {error}") from None

    def give_back(self) -> None:
        """Frees the memory that requests have taken: LiteRT itself keeps it for the next ones."""
        self._make()

    def _make(self) -> None:
        self.shapes = ()
        self._interpreter = None  # the memory of the old one is free before the new one takes its own
        try:
            self._interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
        except (RuntimeError, ValueError) as error:
            raise litert_file.no_model(error) from None
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            raise litert_file.not_allocated(error) from None


def load(name: str, version: int, path: Path, interpreters: int, threads: int) -> LiteRTModel:
    """Loads the version's model.tflite. Raises ServingError."""
    return LiteRTModel(name, version, litert_file.read(path), max(interpreters, 1), max(threads, 1))


def _name(tensor: Mapping[str, Any]) -> str:
    if tensor["dtype"] in (np.bytes_, np.str_, np.object_):
        raise ServingError(Code.UNIMPLEMENTED, f"tensor '{tensor['name']}' of {LITERT.file} holds strings, and LiteRT "
                           "runs none here", "Serve the SavedModel: leave --prefer_tflite_model out.")
    return str(tensor["name"])


def _fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    """Whether LiteRT is asked to take the shape: as declared, or with sizes of 1 left out or added, as clients do."""
    if fits(shape, declared):
        return True
    return 0 < len(shape) <= max(len(declared), _MOST_RANK) and (
        [size for size in shape[1:] if size != 1] == [size for size in declared[1:] if size != 1])
