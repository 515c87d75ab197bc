"""One graph (IR) compiled by OpenVINO, and the infer requests that run it."""
import math
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import ml_dtypes
import numpy as np

from other_engines import OPENVINO
from serving.engines.damage import damaged
from serving.engines.inputs import check_indices, check_type, fits, no_examples, shown, wrong_shape
from serving.engines.lending import Pool
from serving.engines.openvino_files import GraphFiles
from serving.engines.openvino_request import Request
from serving.engines.openvino_runtime import core, reason_of, shape_of
from serving.engines.trial import pace_of_runs
from serving.errors import Code, ServingError, invalid, timed_out
from serving.memory import FEWEST_EXAMPLES, MemoryLimit, used_bytes, worth_keeping
from serving.servable import Array

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
# Kernels are kept for about so many batch sizes: two for each layer and size, one that computes and one that reorders.
_SIZES_KEPT = 8
_LAYERS = re.compile("Convolution|MatMul|Pool|Reduce|Softmax|Sequence|Normalize|Interpolate")
_MOST_ZEROS = 1 << 24
_MOST_SHAPES = 100  # clients choose the shapes of empty inputs
_DTYPES = {name: np.dtype(dtype) for name, dtype in {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i8": np.int8, "i16": np.int16,
    "i32": np.int32, "i64": np.int64, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64,
    "boolean": np.bool_}.items()}
# Their time or the size of their result depends on values, not on the size of their inputs.
_LOOPS = {"Loop", "TensorIterator", "If", "NonMaxSuppression"}
_SIZED_BY_VALUES = {"Range", "Tile", "Broadcast", "OneHot", "Interpolate", "Pad", "RandomUniform", "Multinomial"}
_NO_MEMORY = re.compile("Failed to allocate|bad_alloc|not enough memory", re.I)


@dataclass(frozen=True, slots=True)
class Resources:
    """What the graphs of one version may use: threads in all, requests at the same time, memory of large requests."""

    threads: int
    streams: int
    memory: MemoryLimit


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output: its name in saved_model.pb, its type and shape (-1: any size; None: any rank)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...] | None
    limit: int | None = None  # the size of the table in which its values are looked up


class Graph:
    """Runs one graph. `inputs` and `outputs` are in the graph's order."""

    def __init__(self, files: GraphFiles, precision: str, resources: Resources) -> None:
        """Raises ServingError that names the file if OpenVINO does not take it."""
        streams = max(resources.streams, 1)
        try:
            self._model = core().read_model(files.model, files.weights)
            operations = self._model.get_ops()
            self._settings = {
                "INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": max(resources.threads, streams),
                # Threads that are bound to a CPU stand in each other's way if several models are served.
                "ENABLE_CPU_PINNING": False,
                "CPU_RUNTIME_CACHE_CAPACITY": _kernels_kept(operations)}  # decision 202
            self._compiled = core().compile_model(self._model, "CPU", self._settings)
        except (RuntimeError, MemoryError) as error:
            raise damaged(files.path, f"OpenVINO does not take it: {reason_of(error)}", OPENVINO.name) from None
        self.inputs = _tensors(files, "inputs", files.inputs, self._compiled.inputs)
        self.outputs = _tensors(files, "outputs", files.outputs, self._compiled.outputs)
        # With a single thread OpenVINO 2026.4 hides errors of runs in the calling thread, and the outputs are those of
        # the request before. Runs that another thread begins report them. decision 201
        self._may_run_here = self._compiled.get_property("INFERENCE_NUM_THREADS") > 1
        self._pool = Pool([Request(self._compiled) for _ in range(streams)])
        self._may_not_end = any(operation.get_type_name() == "Loop" for operation in operations)
        self._bounded = not any(map(_unbounded, operations))
        self._pace = pace_of_runs()
        self._memory = resources.memory
        self._bytes_per_example = _bytes_per_example(self._compiled)
        self._lock = threading.Lock()
        self._largest = 0
        self._release = False
        self._empty: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...] | None]] = {}

    def zeros(self) -> list[Array] | None:
        """One example of zeros; None if the graph cannot be tried: of unknown rank, too large, or perhaps endless."""
        shapes = [tuple(abs(size) for size in one.shape) for one in self.inputs if one.shape is not None]
        if self._may_not_end or len(shapes) != len(self.inputs) or max(map(math.prod, shapes), default=0) > _MOST_ZEROS:
            return None
        return [np.zeros(shape, one.dtype) for shape, one in zip(shapes, self.inputs, strict=True)]

    def run(self, values: Sequence[Array], wanted: Sequence[int], timeout_s: float | None,
            started: Callable[[], None] | None) -> list[Array]:
        """The outputs with the numbers in `wanted`. `timeout_s`, `started` and errors: see Servable.run."""
        size = sum([value.nbytes for value in values])
        here = size <= self._pace.quick_bytes
        if timeout_s == 0 and not here:
            raise timed_out()
        for place, (value, tensor) in enumerate(zip(values, self.inputs, strict=True)):
            check_type(place, value, tensor.dtype)
            if not fits(value.shape, tensor.shape):
                raise wrong_shape(tensor.name, value.shape, tensor.shape)
            if tensor.limit is not None:
                check_indices(value, tensor.limit)
        if not all(value.size for value in values):
            return self._of_nothing(tuple(value.shape for value in values), wanted)
        ends = None if timeout_s is None else perf_counter() + timeout_s
        with self._reserved(values), self._pool.worker(timeout_s) as request:
            if started is not None:
                started()
            began = perf_counter()
            used = used_bytes() if size > self._largest else None
            try:
                request.use(self._compiled)
                request.run(values, None if here else ends, here and self._may_run_here)
                found = [request.output(number, self.outputs[number].dtype) for number in wanted]
            except (RuntimeError, MemoryError) as error:
                failed = self._failed([value.shape for value in values], error)
                if failed.code is Code.RESOURCE_EXHAUSTED:
                    self._make_anew(request)
                raise failed from None
            if self._bounded:
                self._pace.note(size, began, perf_counter(), here)
            if used is not None or self._release:
                self._give_back(size, used, request)
        return found

    def _give_back(self, size: int, used: int | None, request: Request) -> None:
        """Frees what a request took, if that is too much to be kept for the next one of its size."""
        if used is not None and not worth_keeping(used_bytes() - used):
            self._release = True
        if not self._release:
            self._largest = max(self._largest, size)
            return
        with suppress(RuntimeError):  # another stream is running: at the end of a later request
            request.forget()
            self._compiled.release_memory()
            self._release = False

    def close(self) -> None:
        """Frees the graph. No request is running."""
        self._pool.close()
        del self._compiled, self._model

    def _make_anew(self, request: Request) -> None:
        """Compiles the graph again: after it had no memory for a request, OpenVINO finds none for smaller ones."""
        request.forget()
        with self._lock, suppress(RuntimeError, MemoryError):  # then the next request that fails tries it again
            if request.compiled is self._compiled:
                self._compiled = core().compile_model(self._model, "CPU", self._settings)

    def _reserved(self, values: Sequence[Array]) -> AbstractContextManager[None]:
        examples = max([len(value) for value in values if value.ndim], default=0)
        if examples < FEWEST_EXAMPLES or self._memory.most_bytes < 0 or not self._bytes_per_example:
            return nullcontext()
        return self._memory.reserved(examples, self._bytes_per_example)

    def _of_nothing(self, shapes: tuple[tuple[int, ...], ...], wanted: Sequence[int]) -> list[Array]:
        """The outputs for inputs of which one has a size of 0, without a run: kernels refuse such inputs.

        Sizes of outputs grow evenly with the sizes of inputs. So each is found from the sizes for 1 and 2 in place of
        0. Raises INVALID_ARGUMENT if an output is not empty, or if its sizes depend on values.
        """
        with self._lock:
            found = self._empty.get(shapes)
            if found is None:
                one, two = ([shape_of(port) for port in self._reshaped(shapes, instead)] for instead in (1, 2))
                found = [None if a is None or b is None or -1 in a + b else tuple(
                    max(2 * first - second, 0) for first, second in zip(a, b, strict=True))
                    for a, b in zip(one, two, strict=True)]
                if len(self._empty) < _MOST_SHAPES:
                    self._empty[shapes] = found
        made = []
        for number in wanted:
            tensor, shape = self.outputs[number], found[number]
            if shape is None or 0 not in shape:
                raise no_examples(tensor.name, tensor.shape)
            made.append(np.zeros(shape, tensor.dtype))
        return made

    def _reshaped(self, shapes: tuple[tuple[int, ...], ...], instead: int) -> Sequence[Any]:
        model = self._model.clone()
        try:
            model.reshape({place: [size or instead for size in shape] for place, shape in enumerate(shapes)})
        except RuntimeError as error:
            raise self._failed(shapes, error) from None
        return list(model.outputs)

    def _failed(self, shapes: Sequence[tuple[int, ...]], error: Exception) -> ServingError:
        given = ", ".join(f"{one.name} {shown(shape)}" for one, shape in zip(self.inputs, shapes, strict=True))
        reason = reason_of(error)
        if isinstance(error, MemoryError) or _NO_MEMORY.search(reason):
            return ServingError(Code.RESOURCE_EXHAUSTED, f"there is no memory for a request of {given}")
        return invalid(f"OpenVINO cannot run a request of {given}: {reason}")


def _tensors(files: GraphFiles, what: str, names: Sequence[str], ports: Sequence[Any]) -> list[Tensor]:
    if len(names) != len(ports):
        raise damaged(files.path, f"it has {len(ports)} {what}, and engine.json names {len(names)}", OPENVINO.name)
    found = []
    for name, port in zip(names, ports, strict=True):
        kind = port.get_element_type().get_type_name()
        if kind not in _DTYPES:
            raise damaged(files.path, f"tensor '{name}' is of the type {kind}, which is not served", OPENVINO.name)
        found.append(Tensor(name, _DTYPES[kind], shape_of(port), files.limits.get(name)))
    return found


def _kernels_kept(operations: Sequence[Any]) -> int:
    return 2 * _SIZES_KEPT * max(sum(_LAYERS.search(one.get_type_name()) is not None for one in operations), 4)


def _unbounded(operation: Any) -> bool:
    kind = operation.get_type_name()
    return kind in _LOOPS or (kind in _SIZED_BY_VALUES and any(
        source.get_source_output().get_node().get_type_name() != "Constant" for source in operation.inputs()[1:]))


def _bytes_per_example(compiled: Any) -> int:
    """The memory that one more example takes: of the two largest tensors whose size grows with the examples.

    As memory.py estimates it. By the graph as compiled, whose tensors have the types that are used.
    """
    sizes = [port.get_element_type().size * math.prod(shape[1:]) for operation in compiled.get_runtime_model().get_ops()
             for port in operation.outputs()
             if (shape := shape_of(port)) and shape[0] < 0 and min(shape[1:], default=0) >= 0]
    return sum(sorted(sizes)[-2:])
