"""Frozen keras.applications with random weights, and what should have been folded in them."""
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from graph_session import tf

from export.zoo.applications import randomised

# How many additions cannot be folded in each architecture, because only relu or zero padding reads their output.
LEFT_OVER = {"ResNet50": 0, "MobileNetV2": 0, "InceptionV3": 0, "EfficientNetB0": 1, "DenseNet121": 62}
SMALLEST = {"InceptionV3": 75}
CONTRACTIONS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


@lru_cache(maxsize=1)
def frozen(name: str, size: int, seed: int = 5) -> tuple[Any, str, str]:
    """The frozen GraphDef of an application whose output is its logits, and the names of its input and output."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    keras.backend.clear_session()
    images = np.random.default_rng(seed).uniform(0, 255, (4, size, size, 3)).astype(np.float32)
    model = randomised(name, images, seed)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec([None, size, size, 3], tf.float32))
    constant = convert_variables_to_constants_v2(function)
    return constant.graph.as_graph_def(), constant.inputs[0].op.name, constant.outputs[0].op.name


def foldable(graph_def: Any) -> list[str]:
    """The affine ops with constants that should have been folded into a contraction, found without the folding code.

    These are all multiplications, divisions, subtractions and norms, and additions that do not directly follow a
    contraction, unless only relu or zero padding reads them and they do not follow another addition.
    """
    nodes = {item.name: item for item in graph_def.node}
    readers: dict[str, list[Any]] = {}
    for item in graph_def.node:
        for ref in item.input:
            readers.setdefault(ref.lstrip("^").partition(":")[0], []).append(item)
    found = []
    for item in graph_def.node:
        sources = [nodes[ref.lstrip("^").partition(":")[0]] for ref in item.input if ref[0] != "^"]
        if not any(source.op == "Const" for source in sources):
            continue
        if item.op in ("Mul", "Div", "RealDiv", "Sub", "Rsqrt", "Sqrt") or item.op.startswith("FusedBatchNorm"):
            found.append(item.name)
        elif item.op in ("Add", "AddV2", "BiasAdd"):
            after_contraction = any(source.op in CONTRACTIONS for source in sources)
            blocked = all(reader.op in ("Relu", "Pad") or reader.attr["padding"].s == b"SAME"
                          for reader in readers[item.name])
            after_addition = any(source.op in ("Add", "AddV2", "BiasAdd") for source in sources)
            if not after_contraction and (after_addition or not blocked):
                found.append(item.name)
    return found
