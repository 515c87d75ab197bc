"""keras.applications without downloads: random weights, and batch norm statistics of real activations.

    image float32 [-1,224,224,3] -> MobileNetV2 | ResNet50 | EfficientNetB0 -> probabilities float32 [-1,1000]
    image float32 [-1,299,299,3] -> InceptionV3 -> probabilities float32 [-1,1000]

`python -m export build mobilenet_v2 | resnet50 | efficientnet_b0 | inception_v3`. Nothing is trained: such a model
shows speed, size and how far two versions of it are apart, and its classes mean nothing.
"""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from commandline import step
from export.runtime import tf
from export.zoo import keras_export
from export.zoo.pictures import pictures
from export.zoo.random_weights import smoother, spread_out
from version_directory import SAMPLES

# The class in keras.applications, and the range of pixels that its preprocessing gives: pixel * scale + offset.
APPLICATIONS = {"mobilenet_v2": ("MobileNetV2", 1 / 127.5, -1.0), "resnet50": ("ResNet50", 1.0, -118.0),
                "efficientnet_b0": ("EfficientNetB0", 1.0, 0.0), "inception_v3": ("InceptionV3", 1 / 127.5, -1.0)}
SIDE = {"full": 224, "small": 64}
SIDES = {"inception_v3": {"full": 299, "small": 75}}  # 75 is the least that it takes
EXAMPLES = 16

# A network of random weights is chaotic: one rounding error of the input changes the logits as much as wrong folding
# would. Trained ones are not, so three things are as in those: the last norm of a residual block, found by the end of
# its name, has small factors; a channel that hardly varies is not multiplied until it does; gates are half open.
BLOCK_ENDS, IN_BLOCK = ("project_bn", "_3_bn"), 0.2
LEAST_VARIANCE = 0.05  # of a layer's mean variance
GATES = 0.3


def build(version: Path, name: str, size: str, seed: int, keeps: bool = False) -> dict[str, Any]:
    """Writes the SavedModel of an application into `version`; returns facts about it for the manifest."""
    application, scale, offset = APPLICATIONS[name]
    side = SIDES.get(name, SIDE)[size]
    images = pictures(EXAMPLES, side, seed) * np.float32(scale) + np.float32(offset)
    with step(f"make {application} with random weights, and norms from {EXAMPLES} made-up pictures of {side}x{side}"):
        model = randomised(application, images, seed)
        spread_out(model, images)
    with step("export with keras.export.ExportArchive"):
        whole = keras.Model(model.input, keras.layers.Softmax()(model.output))
        keras_export.export(whole, version, keeps, lambda image: {"probabilities": whole(image, training=False)},
                            [tf.TensorSpec((None, side, side, 3), tf.float32, name="image")])
        np.savez_compressed(version / SAMPLES, image=images)
    return {"weights": "random", "samples": f"{EXAMPLES} made-up pictures", "image": side,
            "parameters": model.count_params(), "seed": seed}


def randomised(application: str, images: np.ndarray, seed: int) -> keras.Model:
    """An application with random weights whose output is its logits.

    Its batch norms have the statistics of the activations that `images` [N, side, side, 3] give, changed a little: a
    norm at its initial state proves nothing.
    """
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    model = getattr(keras.applications, application)(
        weights=None, input_tensor=keras.Input(images.shape[1:], name="image"), classifier_activation=None)
    model = keras.Model(model.inputs[0], model.outputs[0])  # with `input_tensor` its input is a list
    for weight in model.weights:
        if weight.name == "bias":
            weight.assign(random.normal(0, 0.1, weight.shape))
        elif "_se_" in weight.path and weight.name == "kernel":  # the gates of EfficientNet's channels
            weight.assign(weight.numpy() * GATES)
        elif len(weight.shape) == 4 and max(weight.shape[:2]) > 1:
            weight.assign(smoother(weight.numpy()))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign([0.4, 0.5, 0.6])
            layer.adapt_variance.assign([0.2, 0.3, 0.4])
            layer.finalize_state()
    small = {name for name in _summands(model) if name.lower().endswith(BLOCK_ENDS)}
    for layer in norms:
        layer.beta.assign(random.normal(0, 0.1, layer.beta.shape))
        if layer.scale:
            largest = IN_BLOCK if layer.name in small else 1.2
            layer.gamma.assign(random.uniform(largest / 2, largest, layer.gamma.shape))
        layer.momentum = 0.0
    # One batch in training mode with momentum 0 sets the statistics to those of real activations in every layer.
    model(images, training=True)
    for layer in norms:
        variance = layer.moving_variance.numpy()
        # A little, and in proportion to the layer's standard deviation: all later layers get what this one gives.
        shift = 0.05 * np.sqrt(variance) * random.standard_normal(variance.shape)
        layer.moving_mean.assign(layer.moving_mean.numpy() + shift)
        layer.moving_variance.assign(variance * random.uniform(0.8, 1.25, variance.shape)
                                     + LEAST_VARIANCE * variance.mean())
    return model


def _summands(model: keras.Model) -> Iterator[str]:
    """The names of the layers whose outputs are added up, through the dropout after some of them."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Add):
            for tensor in layer.input:
                maker = tensor._keras_history.operation
                yield (maker.input._keras_history.operation if isinstance(maker, keras.layers.Dropout) else maker).name
