"""SavedModel -> Servable: a version loaded into a v1 Session, as TensorFlow Serving runs models.

Session.run takes 84 us per call for a trivial graph, most of it in Python. The lower-level call that it makes takes
20 us with the same arrays; it is used here.
"""
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from freed_memory import give_back_memory
from other_engines import TENSORFLOW
from serving.engines.runtime import SavedModelLoader, op_def_registry, pywrap_tf_session, tf
from serving.engines.signatures import map_of, signatures_of
from serving.engines.trial import Zeros, pace_of_runs, run_zeros
from serving.errors import Code, ServingError, invalid, not_found, timed_out
from serving.memory import FEWEST_EXAMPLES, MemoryLimit, bytes_per_example
from serving.pace import Pace, Steps
from serving.protos import config_pb2, types_pb2
from serving.remote_path import StorageError
from serving.saved_model_file import read_meta_graph
from serving.servable import DEFAULT_SIGNATURE, Array, Signature
from serving.tensor_proto import STRING


class LoadedModel:  # decision 30
    """A Servable whose graph runs in a v1 Session."""

    engine = TENSORFLOW

    def __init__(self, name: str, version: int, session: Any, meta_graph: Any) -> None:
        self.name = name
        self.version = version
        self.metadata = map_of(meta_graph)
        self.signatures: Mapping[str, Signature] = signatures_of(self.metadata)
        self._session = session
        self._steps = Steps(meta_graph.graph_def.library.function, _is_stateless)
        self._small = meta_graph.ByteSize() <= _SMALL_BYTES
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], _Plan] = {}
        # Whether a run has succeeded, or no trial run is allowed.
        self.answers = True
        self.memory = MemoryLimit(-1)

    def try_out(self) -> None:
        """One run with zeros (a batch of 1); then `answers` says whether this version can answer at all."""
        run_zeros(self, self._zeros)

    def _zeros(self) -> Zeros | None:
        """Only for a graph of bounded operations: any other might store its input, or never end. And only if the rank
        of every input is known: an operation that meets another rank than it expects can end the process."""
        signature = self.signatures.get(DEFAULT_SIGNATURE) or next(iter(self.signatures.values()), None)
        if signature is None:
            return None
        feeds = tuple(spec.name for spec in signature.inputs.values())
        fetches = tuple(spec.name for spec in signature.outputs.values())
        plan = self._plans[feeds, fetches] = self._plan(feeds, fetches)
        # The graph's shapes: an old one has unknown ranks that its signature states as scalars.
        known = [shape for feed in feeds if (shape := self._tensor(feed).shape).rank is not None]
        shapes = [tuple(1 if size is None else size for size in shape.as_list()) for shape in known]
        if not plan.bounded or len(known) != len(feeds) or max(map(math.prod, shapes), default=0) > _MOST_ZEROS:
            return None
        return feeds, [np.full(shape, b"" if dtype == STRING else 0, dtype)
                       for shape, dtype in zip(shapes, plan.dtypes, strict=True)], fetches

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        """See Servable.run."""
        key = (tuple(feeds), tuple(fetches))
        plan = self._plans.get(key)
        if plan is None:
            if timeout_s == 0:
                raise timed_out()  # to make a plan, the graph is searched, which may take long
            plan = self._plan(*key)
            if len(self._plans) < _MOST_PLANS:
                self._plans[key] = plan
            else:
                plan.ran = True
        size = sum([value.nbytes for value in values])
        here = size <= plan.pace.quick_bytes  # decision 37
        call = plan.call if here and plan.fits(values) else None
        reserved = (nullcontext() if here or timeout_s == 0 or not plan.repeatable
                    else self._reserved(plan, feeds, values, fetches, timeout_s))
        options = _run_options(timeout_s, here) if call is None else None
        began = perf_counter()
        try:
            with reserved:
                if started is not None:
                    started()
                began = perf_counter()
                results = call(*values) if call is not None else self._session._call_tf_sessionrun(
                    options, dict(zip(plan.feeds, values, strict=True)), plan.fetches, [], None)
        except tf.errors.OpError as error:
            raise _serving_error(error) from None
        except UnicodeDecodeError as error:
            # TensorFlow's message quotes the request's bytes and cannot be raised in Python; only its code is lost.
            raise invalid(error.object.decode(errors="replace")) from None
        self.answers = True
        if not plan.ran:
            plan.ran = True
            if not self._small:
                give_back_memory()  # several copies of the weights, made and freed when the graph was prepared to run
        if plan.bounded:
            plan.pace.note(size, began, perf_counter(), here)
            if self._small and here and plan.call is None and plan.claim.acquire(blocking=False):
                with suppress(Exception):  # whatever the error: the session can still run the graph
                    plan.call = self._callable(feeds, fetches, values)
        if bytes in map(type, results):  # a string of rank 0
            return [np.array(result, object) if isinstance(result, bytes) else result for result in results]
        return results

    def _reserved(self, plan: "_Plan", feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
                  timeout_s: float | None) -> AbstractContextManager[None]:
        """Reserves the memory that a request of many examples will take; the context raises RESOURCE_EXHAUSTED."""
        examples = max((len(value) for value in values if value.ndim), default=0)
        if examples < FEWEST_EXAMPLES or self.memory.most_bytes < 0:
            return nullcontext()
        # An example of another shape takes another amount of memory.
        sizes = tuple([value.shape[1:] if value.ndim and len(value) == examples else value.shape for value in values])
        each = plan.bytes_per_example.get(sizes)
        if each is None:
            # Two additional runs; the graph keeps no state. If they show no growth there is no limit.
            each = 0
            with suppress(tf.errors.OpError, UnicodeDecodeError):
                each = bytes_per_example(*[self._traced(
                    [value[:count] if value.ndim and len(value) == examples else value for value in values],
                    feeds, fetches, timeout_s) for count in (1, 2)])
            if len(plan.bytes_per_example) < _MOST_PLANS:
                plan.bytes_per_example[sizes] = each
        return self.memory.reserved(examples, each) if each else nullcontext()

    def _traced(self, values: Sequence[Array], feeds: Sequence[str], fetches: Sequence[str],
                timeout_s: float | None) -> dict[str, int]:
        """Runs the graph; node -> bytes of its outputs (in a loop: the largest of its turns)."""
        trace = config_pb2.RunMetadata()
        self._session.run(list(fetches), dict(zip(feeds, values, strict=True)), run_metadata=trace,
                          options=config_pb2.RunOptions(
                              trace_level=config_pb2.RunOptions.FULL_TRACE,
                              timeout_in_ms=min(int(timeout_s * 1000) + 1, 2**31 - 1) if timeout_s else 0))
        found: dict[str, int] = {}
        for device in trace.step_stats.dev_stats:
            for node in device.node_stats:
                size = sum(output.tensor_description.allocation_description.requested_bytes for output in node.output)
                found[node.node_name] = max(found.get(node.node_name, 0), size)
        return found

    def close(self) -> None:
        """Frees the session and its variables. No request may be running."""
        self._session.close()

    def _plan(self, feeds: Sequence[str], fetches: Sequence[str]) -> "_Plan":
        if len(set(feeds)) != len(feeds):
            twice = next(feed for feed in feeds if feeds.count(feed) > 1)
            raise invalid(f'Endpoint "{twice}" fed more than once.')
        fed, fetched = [self._tensor(name) for name in feeds], [self._tensor(name) for name in fetches]
        bounded = self._steps.bounded([tensor.op for tensor in fetched], feeds) and not any(
            tensor.dtype.base_dtype in (tf.resource, tf.variant) for tensor in fed)
        # What a string takes depends on its content: one example says nothing about others.
        repeatable = bounded or (all(tensor.dtype.is_numpy_compatible and tensor.dtype != tf.string for tensor in fed)
                                 and self._steps.stateless([tensor.op for tensor in fetched], feeds))
        return _Plan([tensor._as_tf_output() for tensor in fed], [tensor._as_tf_output() for tensor in fetched],
                     [np.dtype(tensor.dtype.as_numpy_dtype) for tensor in fed] if bounded else [], bounded,
                     repeatable=repeatable)

    def _callable(self, feeds: Sequence[str], fetches: Sequence[str], values: Sequence[Array]) -> Any:  # decision 71
        call = self._session._make_callable_from_options(config_pb2.CallableOptions(
            feed=feeds, fetch=fetches, run_options=config_pb2.RunOptions(inter_op_thread_pool=-1)))
        call(*values)  # its first run is slow; bounded operations have no effects
        return call

    def _tensor(self, name: str) -> Any:
        try:
            return self._session.graph.get_tensor_by_name(name)
        except (KeyError, ValueError):
            raise invalid(f"Tensor {name}, specified in either feed_devices or fetch_devices was not found "
                          "in the Graph") from None


def _is_stateless(operation: str) -> bool:
    known = op_def_registry.get(operation)
    # Operations on a resource or a reference may change it, though they keep nothing themselves.
    return known is not None and not known.is_stateful and operation != "PyFuncStateless" and not any(
        argument.is_ref or argument.type == types_pb2.DT_RESOURCE for argument in known.input_arg)


_MOST_ZEROS = 1 << 24
# A callable holds a copy of the graph with its constants; the time to make it grows with the graph.
_SMALL_BYTES = 1 << 20
# Clients choose which outputs they want, and many outputs have very many combinations.
_MOST_PLANS = 1000


@dataclass(slots=True)
class _Plan:
    """The handles of one combination of tensors, and which of its runs are known to be quick.

    TensorFlow hands every run to its own threads and back, which is most of the time that a small run takes. A quick
    run is done in the calling thread instead, by `call`, once some thread has made that; there it cannot be interrupted
    at its deadline.
    """

    feeds: list[Any]
    fetches: list[Any]
    dtypes: list[np.dtype[Any]]
    bounded: bool
    pace: Pace = field(default_factory=pace_of_runs)
    call: Any = None
    ran: bool = False  # once; also true if the plan is not kept, as its next request would begin anew
    # Whether a part of a request can be run first, to measure its memory.
    repeatable: bool = False
    bytes_per_example: dict[tuple[tuple[int, ...], ...], int] = field(default_factory=dict)
    claim: threading.Lock = field(default_factory=threading.Lock)

    def fits(self, values: Sequence[Array]) -> bool:
        """Whether `call` can run these: it exists, and the arrays have the dtypes that it does not check itself."""
        return self.call is not None and [value.dtype for value in values] == self.dtypes


_NO_XLA = "The model asks for XLA: start the server with --xla_cpu_compilation_enabled."
_UNKNOWN_OPERATION = re.compile(r"Op type not registered '([^']+)'")


def load(name: str, version: int, path: Path, tags: Sequence[str], options: Any) -> LoadedModel:
    """Loads a version. Raises ServingError with TensorFlow Serving's code and message."""
    meta_graph = read_meta_graph(path, tags)
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=options)
    try:
        _refuse_missing_variables(meta_graph, path)
        files = SavedModelLoader(str(path))
        saver, _ = files.load_graph(graph, list(tags))
        variables = path / "variables" / "variables"
        if saver is not None and variables.with_suffix(".index").is_file():
            # Not Saver.restore, which hides the error about a file behind advice for training.
            names = saver.saver_def
            session.run(names.restore_op_name, {names.filename_tensor_name: str(variables)})
        files.run_init_ops(session, list(tags))
        return LoadedModel(name, version, session, meta_graph)
    except tf.errors.OpError as error:
        session.close()
        if missing := _UNKNOWN_OPERATION.search(error.message):
            raise _unknown_operation(missing[1]) from None
        raise _serving_error(error) from None
    except (ServingError, StorageError):
        session.close()
        raise
    except Exception as error:
        session.close()
        if missing := _UNKNOWN_OPERATION.search(str(error)):
            raise _unknown_operation(missing[1]) from None
        # TensorFlow's Python loader raises several error types for a graph that it cannot import.
        raise ServingError(Code.INVALID_ARGUMENT, f"{type(error).__name__}: {error}") from error


def _unknown_operation(name: str) -> ServingError:
    """The error for a graph with an operation that is not registered."""
    return ServingError(
        Code.NOT_FOUND, f"Op type not registered '{name}' in binary running on this machine",
        f"The operation {name} belongs to a library that is not loaded: give its shared library (a .so file in its "
        "Python package, such as tensorflow_text) to --tensorflow_op_libraries, or export the model without it.")


def _refuse_missing_variables(meta_graph: Any, path: Path) -> None:  # decision 33
    """Refuses a graph whose file of variables is missing: TensorFlow Serving loads it, and every request fails."""
    if (path / "variables" / "variables.index").is_file():
        return
    held = {node.op for node in meta_graph.graph_def.node} & {"VariableV2", "Variable", "VarHandleOp"}
    if held and meta_graph.saver_def.restore_op_name:
        raise not_found(f"{path}/variables/variables.index is missing, but the graph has variables; "
                        "copy the whole version directory")


# What Session.run puts before TensorFlow's own message.
_PYTHON_PREFIX = re.compile(r"Graph execution error:\n\n(Detected at .*?\nNode: '[^'\n]*'\n)?", re.S)


def _serving_error(error: Any) -> ServingError:
    return ServingError(Code(error.error_code), _PYTHON_PREFIX.sub("", error.message, count=1),
                        _NO_XLA if "XLA compilation disabled" in error.message else "")


_buffers: dict[tuple[int, bool], Any] = {}
_buffers_lock = threading.Lock()


def _run_options(timeout_s: float | None, here: bool) -> Any:
    """A RunOptions buffer, from a cache; timeouts are rounded up by at most 2 %, so that few buffers are made."""
    milliseconds = 0
    if timeout_s is not None and not here:
        if timeout_s <= 0:
            raise timed_out()
        milliseconds = int(timeout_s * 1000) + 1
        step = max(1, milliseconds >> 6)
        milliseconds = min(-(-milliseconds // step) * step, 2**31 - 1)
    buffer = _buffers.get((milliseconds, here))
    if buffer is None:
        with _buffers_lock:
            options = config_pb2.RunOptions(timeout_in_ms=milliseconds, inter_op_thread_pool=-1 if here else 0)
            buffer = _buffers.setdefault(
                (milliseconds, here), pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString()))
    return buffer
