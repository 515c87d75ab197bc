"""Classify and Regress: tf.Examples in, results out. The predictor runs the graph between the two.

The signature is checked before the examples, and the output tensors after the run, in TensorFlow Serving's order
and with its messages. A method, Classify or Regress, is a `plan` (what is fed, what is fetched) and a `result`.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.errors import invalid
from serving.protos import classification_pb2, regression_pb2
from serving.servable import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    Array,
    Servable,
    Signature,
    string_array,
)
from serving.tensor_proto import data_type, data_type_name

# The tensors to fetch, by their role: {"classes": "Cast:0", "scores": "Softmax:0"}.
Fetches = dict[str, str]


@dataclass(frozen=True, slots=True)
class Method:
    """Classify or Regress: how tf.Examples are answered.

    `plan(signature, check_method_name)` gives the fed tensor and the fetches; `result(outputs, examples)`
    makes the message. Both raise INVALID_ARGUMENT.
    """

    name: str
    plan: Callable[[Signature, bool], tuple[str, Fetches]]
    result: Callable[[Mapping[str, Array], int], Any]


def find_signature(servable: Servable, signature_name: str,
                   missing: str = "No signature was found with the name: ") -> Signature:
    """The signature named, or serving_default for ""; `missing` opens the error message otherwise."""
    name = signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid(missing + name)
    return signature


def serialized_examples(message: Any) -> Array:
    """The tf.Examples of an Input message as a string tensor; a context is put in front of each of them.

    Serialised messages merge when joined, so an example overrides the context feature by feature.
    """
    if message.WhichOneof("kind") == "example_list_with_context":
        context = message.example_list_with_context.context.SerializeToString()
        examples = [context + e.SerializeToString() for e in message.example_list_with_context.examples]
    else:
        examples = [example.SerializeToString() for example in message.example_list.examples]
    if not examples:
        raise invalid("Input is empty.")
    return string_array(examples)


def _plan_classify(signature: Signature, check_method_name: bool) -> tuple[str, Fetches]:
    _check_name("classification", CLASSIFY_METHOD, signature, check_method_name)
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature.text}")
    fetches = {part: signature.outputs[part].name
               for part in ("classes", "scores") if part in signature.outputs}
    if not fetches:
        raise invalid('Expected classification signature outputs to contain at least one of "classes" or '
                      f'"scores". Signature was: {signature.text}')
    return signature.inputs["inputs"].name, fetches


def _classification(outputs: Mapping[str, Array], examples: int) -> Any:
    classes, scores = outputs.get("classes"), outputs.get("scores")
    for part, array, dtype, kind in (("classes", classes, "DT_STRING", "O"),
                                     ("scores", scores, "DT_FLOAT", "f4")):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if array.dtype != np.dtype(kind):
            raise invalid(f"Expected {part} Tensor of {dtype}. Got: {_dtype(array)}")
        if len(array) != examples:
            raise invalid(f"Expected {part} output batch size of {examples}. Got: {len(array)}")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid("Tensors class and score should match in dim_size(1). "
                      f"Got {classes.shape[1]} vs. {scores.shape[1]}")
    result = classification_pb2.ClassificationResult()
    some = scores if classes is None else classes
    assert some is not None
    labels = None if classes is None else classes.tolist()
    numbers = None if scores is None else scores.tolist()
    for row in range(examples):
        made = result.classifications.add().classes
        for column in range(some.shape[1]):
            one = made.add()
            if labels is not None:
                # A proto3 string must be UTF-8: any other label would make the whole answer unreadable.
                one.label = labels[row][column].decode("utf-8", "replace")  # decision 140
            if numbers is not None:
                one.score = numbers[row][column]
    return result


def _plan_regress(signature: Signature, check_method_name: bool) -> tuple[str, Fetches]:
    _check_name("regression", REGRESS_METHOD, signature, check_method_name)
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature.text}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature.text}")
    return signature.inputs["inputs"].name, {"outputs": signature.outputs["outputs"].name}


def _regression(outputs: Mapping[str, Array], examples: int) -> Any:
    values = outputs["outputs"]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid("Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
                      f"{_shape(values)}")
    if len(values) != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(values)}")
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add().value = value
    return result


CLASSIFY = Method(CLASSIFY_METHOD, _plan_classify, _classification)
REGRESS = Method(REGRESS_METHOD, _plan_regress, _regression)


def _check_name(kind: str, wanted: str, signature: Signature, check: bool) -> None:
    if check and signature.method_name != wanted:
        raise invalid(f"Expected {kind} signature method_name to be {wanted}. Was: {signature.method_name}")


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _dtype(array: Array) -> str:
    return data_type_name(data_type(array.dtype))
