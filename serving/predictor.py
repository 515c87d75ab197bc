"""The core that answers requests for every transport, with TensorFlow Serving's checks and messages.

It knows signatures, not wire formats: arrays and Input messages in, arrays and result messages out. The checks have
TensorFlow Serving's order, which shows in the error for a request with two mistakes.
"""
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from time import perf_counter
from typing import Any, Protocol

from serving import inference
from serving.client import payloads
from serving.errors import Code, ServingError, invalid
from serving.request_log import RequestLogs
from serving.servable import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    PREDICT_METHOD,
    REGRESS_METHOD,
    Array,
    ModelSpec,
    Servable,
    Signature,
    VersionStatus,
)
from serving.tensor_proto import numpy_dtype

log = logging.getLogger("serving")
# Clients choose shapes freely, and must not fill the log with them.
_MOST_LOGGED = 100
_METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)


class Store(Protocol):
    """Where servables come from."""

    def pin(self, spec: ModelSpec) -> AbstractContextManager[Servable]:
        """The servable of `spec`; it is not unloaded before the context ends."""

    def status(self, spec: ModelSpec) -> list[VersionStatus]:
        """The known versions of a model, newest first."""


class Predictor:
    """Answers predict, classify and regress for any servable of a store."""

    def __init__(self, store: Store, check_method_names: bool = False,
                 ran: Callable[[str, str, float], None] | None = None, logs: RequestLogs | None = None) -> None:
        """`ran(api, model, seconds)` is called after every run of a graph; `logs` is told of answered predictions."""
        self._store = store
        self._check_method_names = check_method_names
        self._ran = ran
        self._logs = logs
        self._logged = set[str]()

    def pin(self, spec: ModelSpec) -> AbstractContextManager[Servable]:
        """Keeps the servable that `spec` names loaded until the context ends: from parsing to answer.

        Raises INVALID_ARGUMENT for an empty name or unknown label, NOT_FOUND if it is not loaded.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        return self._store.pin(spec)

    def status(self, spec: ModelSpec) -> list[VersionStatus]:
        """The states of a model's versions, newest first. Raises NOT_FOUND."""
        return self._store.status(spec)

    def known(self, name: str) -> list[VersionStatus]:
        """As `status`, but empty for a model of which no version was ever found."""
        try:
            return self._store.status(ModelSpec(name))
        except ServingError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return []

    def signature(self, servable: Servable, signature_name: str) -> Signature:
        """The signature named, or serving_default for "". Raises FAILED_PRECONDITION."""
        name = signature_name or DEFAULT_SIGNATURE
        found = servable.signatures.get(name)
        if found is None:
            raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return found

    def predict(self, servable: Servable, signature_name: str, inputs: Mapping[str, Array],
                output_filter: Sequence[str] = (), timeout_s: float | None = None) -> dict[str, Array]:
        """Runs one signature.

        Args:
            inputs: arrays by input alias; shapes need not be the signature's, the graph decides.
            output_filter: output aliases to compute; all of them when empty.
            timeout_s: seconds until DEADLINE_EXCEEDED.

        Returns:
            Arrays by output alias, in alias order.
        """
        signature = self.signature(servable, signature_name)
        if self._check_method_names and signature.method_name not in _METHODS:
            raise ServingError(Code.INTERNAL, "Expected prediction signature method_name to be one of "
                               f"{{{', '.join(_METHODS)}}}. Was: {signature.method_name}")
        missing = len(signature.inputs) - len(inputs)
        if missing < 0 or (missing > 0 and not signature.defaults):
            raise _wrong_number(signature, inputs)
        feeds, values = [], []
        for alias, spec in signature.inputs.items():
            value = inputs[alias] if alias in inputs else signature.defaults.get(alias)
            if value is None:
                raise _missing_input(signature, alias, inputs)
            feeds.append(spec.name)
            values.append(value)
        aliases = _filtered(signature, output_filter) if output_filter else tuple(signature.outputs)
        for side, specs in (("input", signature.inputs), ("output", {a: signature.outputs[a] for a in aliases})):
            for alias, spec in specs.items():
                if not spec.name:
                    raise _of_several_tensors(servable, signature, side, alias)
        try:
            results = self._run("Predict", servable, feeds, values, [signature.outputs[a].name for a in aliases],
                                timeout_s)
        except ServingError as error:
            self._log_misfits(servable, signature, inputs, error)
            raise
        outputs = dict(zip(aliases, results, strict=True))
        if self._logs is not None:
            self._logs.answered(servable.name, servable.version, signature.name, inputs, outputs)
        return outputs

    def _log_misfits(self, servable: Servable, signature: Signature, inputs: Mapping[str, Array],
                     error: ServingError) -> None:  # decision 144
        """Logs which inputs of a failed request have a wrong shape, each such case once."""
        specs = {}
        for alias, spec in signature.inputs.items():
            with suppress(ValueError):  # a resource, or no type at all
                specs[alias] = payloads.TensorSpec(numpy_dtype(spec.dtype), spec.shape)
        for text in payloads.misfits(inputs, specs):
            line = f"version {servable.version} of model {servable.name}, signature {signature.name}: {text}"
            if line not in self._logged and len(self._logged) < _MOST_LOGGED:
                self._logged.add(line)
                log.warning("a request failed: %s; %s: %s", line, error.code.name, error.message.partition("\n")[0])

    def classify(self, servable: Servable, signature_name: str, examples: Any,
                 timeout_s: float | None = None) -> Any:
        """A ClassificationResult message for an Input message of tf.Examples."""
        return self._infer("Classify", servable, signature_name, inference.CLASSIFY, examples, timeout_s)

    def regress(self, servable: Servable, signature_name: str, examples: Any,
                timeout_s: float | None = None) -> Any:
        """A RegressionResult message for an Input message of tf.Examples."""
        return self._infer("Regress", servable, signature_name, inference.REGRESS, examples, timeout_s)

    def multi_inference(self, servable: Servable, tasks: Sequence[tuple[ModelSpec, str]], examples: Any,
                        timeout_s: float | None = None) -> list[Any]:
        """Classifies and regresses the same examples in one run of the graph.

        Args:
            tasks: which signature, and by which method ("tensorflow/serving/classify" or ".../regress").

        Returns:
            A ClassificationResult or a RegressionResult for each task.
        """
        plans: list[tuple[inference.Method, inference.Fetches]] = []
        feeds, seen = set[str](), set[str]()
        for spec, method_name in tasks:
            if not spec.name:
                raise invalid("Found ModelSpec with an empty model name.")
            if spec.name != tasks[0][0].name:
                raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            name = spec.signature_name or DEFAULT_SIGNATURE
            if name in seen:
                raise invalid(f"Duplicate evaluation of signature: {name}")
            seen.add(name)
            signature = inference.find_signature(
                servable, name, "Requested signature not found in model graph: ")
            method = {CLASSIFY_METHOD: inference.CLASSIFY, REGRESS_METHOD: inference.REGRESS}.get(method_name)
            if method is None:
                raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method_name}")
            tensor, fetches = method.plan(signature, self._check_method_names)
            feeds.add(tensor)
            plans.append((method, fetches))
        serialized = inference.serialized_examples(examples)
        tensors = sorted({tensor for _, fetches in plans for tensor in fetches.values()})
        # Every distinct input tensor of the signatures is fed the same examples.
        results = servable.run(sorted(feeds), [serialized] * len(feeds), tensors, timeout_s)
        found = dict(zip(tensors, results, strict=True))
        return [method.result({part: found[tensor] for part, tensor in fetches.items()}, len(serialized))
                for method, fetches in plans]

    def _infer(self, api: str, servable: Servable, signature_name: str, method: inference.Method, examples: Any,
               timeout_s: float | None) -> Any:
        signature = inference.find_signature(servable, signature_name)
        feed, fetches = method.plan(signature, self._check_method_names)
        serialized = inference.serialized_examples(examples)
        results = self._run(api, servable, [feed], [serialized], list(fetches.values()), timeout_s)
        return method.result(dict(zip(fetches, results, strict=True)), len(serialized))

    def _run(self, api: str, servable: Servable, feeds: Sequence[str], values: Sequence[Array],
             fetches: Sequence[str], timeout_s: float | None) -> list[Array]:
        if self._ran is None:
            return servable.run(feeds, values, fetches, timeout_s)
        began = perf_counter()
        results = servable.run(feeds, values, fetches, timeout_s)
        self._ran(api, servable.name, perf_counter() - began)
        return results


def _of_several_tensors(servable: Servable, signature: Signature, side: str, alias: str) -> ServingError:
    """The error for a ragged or sparse tensor, which has no tensor name: only its components have one."""
    where = servable.metadata.signature_def[signature.name] if servable.metadata is not None else None
    info = None if where is None else (where.inputs if side == "input" else where.outputs)[alias]
    sparse = info is not None and info.WhichOneof("encoding") == "coo_sparse"
    kind, parts = (("sparse", "indices, values and dense_shape") if sparse else
                   ("ragged (or another of several tensors)", "values and row_splits"))
    return ServingError(Code.UNIMPLEMENTED, f'{side} "{alias}" of signature "{signature.name}" is {kind}, which no '
                        f"request or answer can hold; export its parts ({parts}) as {side}s of their own")


def _filtered(signature: Signature, output_filter: Sequence[str]) -> Sequence[str]:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                          f"the set {_braces(signature.outputs)}.")
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return sorted(seen)


def _wrong_number(signature: Signature, inputs: Mapping[str, Array]) -> ServingError:
    return invalid(
        f"input size does not match signature: {len(inputs)}!={len(signature.inputs)} "
        f"len({_braces(inputs)}) != len({_braces(signature.inputs)}). "
        f"Sent extra: {_braces(inputs.keys() - signature.inputs.keys())}. "
        f"Missing but required: {_braces(signature.inputs.keys() - inputs.keys())}.")


def _missing_input(signature: Signature, alias: str, inputs: Mapping[str, Array]) -> ServingError:
    return invalid(
        f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request "
        f"and no default value provided. Inputs expected to be in the request {_braces(inputs)}, or default "
        f"input alias set: {','.join(sorted(signature.defaults))}")


def _braces(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
