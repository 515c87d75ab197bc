"""A detector of the kind of ssd_inception_v2 with random weights, in TensorFlow 1 form.

    inputs float32 [-1,300,300,3] -> Inception v2 -> six feature maps of 19, 10, 5, 3, 2 and 1 squares a side
    -> box_encodings float32 [-1,1917,4], class_predictions_with_background float32 [-1,1917,91]   (serving_default)
    -> decoded boxes, sigmoid scores, non-maximum suppression                                      (detection):
       detection_boxes float32 [-1,100,4], detection_scores, detection_classes float32 [-1,100],
       num_detections float32 [-1]

77 convolutions have a FusedBatchNorm and a Relu6; before the first is a depthwise one, and each feature map has two
more with a bias. Boxes are [top, left, bottom, right], 0 to 1. Classes are 1 to 90. The first `num_detections` of the
100 places are detections, best first; in the others are zeros, and the class 1.

The weights are random. All scores would be about 0.5 then, and suppression would work on 172,530 candidates, where a
trained detector gives it a few. So the class heads are set by the samples: each logit of a class has the same mean,
which is such that 48 scores of a picture (on average) are over 0.3; and black, grey and noise have lower ones, because
no detector finds a hundred things there. The logits of `serving_default` are therefore around -6.5, those of the
background too. Where the boxes are still means nothing.

Source of the layout: Inception v2 in TF-Slim, and the SSD of the TensorFlow Object Detection API, whose
post-processing the signature `detection` has.
"""
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from commandline import step
from export.runtime import tf, writing
from export.zoo import class_heads
from export.zoo.boxes import CLASSES, anchors, decoded, selected
from export.zoo.pictures import pictures
from export.zoo.random_weights import smoother
from version_directory import EXTRA, SAMPLES

EXAMPLES = 16
SIDE = {"full": 300, "small": 96}
THINNER = {"full": 1, "small": 8}  # divides the number of channels
SIGNATURES = {"serving_default": ("box_encodings", "class_predictions_with_background"),
              "detection": ("detection_boxes", "detection_scores", "detection_classes", "num_detections")}
EPSILON = 0.001
# The branches of a block: each a list of convolutions (kernel, channels); "avg" and "max" pool first. A block of
# stride 2 has the stride in each branch's last convolution, and pools without a convolution.
BLOCKS: tuple[tuple[str, int, tuple[tuple[Any, ...], ...]], ...] = (
    ("Mixed_3b", 1, (((1, 64),), ((1, 64), (3, 64)), ((1, 64), (3, 96), (3, 96)), ("avg", (1, 32)))),
    ("Mixed_3c", 1, (((1, 64),), ((1, 64), (3, 96)), ((1, 64), (3, 96), (3, 96)), ("avg", (1, 64)))),
    ("Mixed_4a", 2, (((1, 128), (3, 160)), ((1, 64), (3, 96), (3, 96)), ("max",))),
    ("Mixed_4b", 1, (((1, 224),), ((1, 64), (3, 96)), ((1, 96), (3, 128), (3, 128)), ("avg", (1, 128)))),
    ("Mixed_4c", 1, (((1, 192),), ((1, 96), (3, 128)), ((1, 96), (3, 128), (3, 128)), ("avg", (1, 128)))),
    ("Mixed_4d", 1, (((1, 160),), ((1, 128), (3, 160)), ((1, 128), (3, 160), (3, 160)), ("avg", (1, 96)))),
    ("Mixed_4e", 1, (((1, 96),), ((1, 128), (3, 192)), ((1, 160), (3, 192), (3, 192)), ("avg", (1, 96)))),
    ("Mixed_5a", 2, (((1, 128), (3, 192)), ((1, 192), (3, 256), (3, 256)), ("max",))),
    ("Mixed_5b", 1, (((1, 352),), ((1, 192), (3, 320)), ((1, 160), (3, 224), (3, 224)), ("avg", (1, 128)))),
    ("Mixed_5c", 1, (((1, 352),), ((1, 192), (3, 320)), ((1, 192), (3, 224), (3, 224)), ("max", (1, 128)))),
)
# The feature maps that boxes are predicted from: two blocks, then what these pairs of convolutions (1x1, 3x3 stride 2)
# make of the last.
MAPS = ("Mixed_4c", "Mixed_5c")
FURTHER = ((256, 512), (128, 256), (128, 256), (64, 128))


def build(version: Path, name: str, size: str, seed: int) -> dict[str, Any]:
    """Writes the detector's SavedModel into `version`; returns facts about it for the manifest."""
    tf1 = tf.compat.v1
    side = SIDE[size]
    images = pictures(EXAMPLES, side, seed)
    weights = Weights(seed)
    with (step(f"make random weights, and norms from {EXAMPLES} made-up pictures of {side}x{side}"),
          tf.Graph().as_default(), tf1.Session() as session):
        training = _Network(weights, THINNER[size], training=True)
        training.predictions(tf.constant(images))
        weights.statistics(session.run(training.measured))
    with tf.Graph().as_default(), tf1.Session() as session:
        network, inputs, outputs = _graph(weights, side, THINNER[size])
        with step("set the class heads so that a few scores of a picture are high"):
            network.initialise(session)
            shown, empty = (session.run(network.features, {inputs: each}) for each in (images, _empty(side, seed)))
            network.sees(shown, empty, seed)
            network.initialise(session)
        with step("export with TensorFlow 1's SavedModelBuilder"):
            _export(inputs, outputs, version, session)
        (version / EXTRA).mkdir()
        np.savez_compressed(version / SAMPLES, inputs=images)
    return {"weights": "random", "samples": f"{EXAMPLES} made-up pictures", "image": side,
            "parameters": sum(value.size for value in weights.values.values()), "seed": seed}


@dataclass
class Weights:
    """The detector's weights by name, each drawn when it is first asked for."""

    seed: int
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def get(self, name: str, draw: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
        if name not in self.values:
            self.values[name] = draw(self.random).astype(np.float32)
        return self.values[name]

    def statistics(self, measured: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Sets the norms' means and variances to measured ones, changed a little as the mean of many batches is."""
        for name, (mean, variance) in measured.items():
            shift = self.random.normal(0, 0.05, mean.shape) * np.sqrt(variance)
            self.values[f"{name}/moving_mean"] = (mean + shift).astype(np.float32)
            # With a part of the layer's mean variance: a channel that hardly varies is not multiplied until it does.
            self.values[f"{name}/moving_variance"] = (
                variance * self.random.uniform(0.9, 1.2, mean.shape) + 0.05 * variance.mean()).astype(np.float32)


class _Network:
    """Adds the detector's operations to the default graph.

    training: its weights are constants, its norms use the statistics of the batch, and `measured` has these by name.
    Otherwise its weights are variables of TensorFlow 1, and `variables` has them by name.
    """

    def __init__(self, weights: Weights, thinner: int, training: bool) -> None:
        self._weights, self._thinner, self._training = weights, thinner, training
        self.variables: dict[str, Any] = {}
        self.features: list[Any] = []
        self.squares: list[tuple[int, int]] = []
        self.measured: dict[str, tuple[Any, Any]] = {}

    def predictions(self, images: Any) -> tuple[Any, Any]:
        """Images [N,side,side,3] of 0 to 255 -> encodings [N,B,4], class logits [N,B,91].

        `features` has the feature maps, `squares` of each its side and the number of boxes per square.
        """
        boxes, classes = [], []
        self.features = self._feature_maps(images * (2.0 / 255) - 1.0)
        for index, features in enumerate(self.features):
            each, side = (3 if index == 0 else 6), int(features.shape[1])
            boxes.append(self._predicted(features, f"BoxPredictor_{index}/BoxEncodingPredictor", each, 4))
            classes.append(self._predicted(features, f"BoxPredictor_{index}/ClassPredictor", each, CLASSES + 1))
            self.squares.append((side, each))
        return tf.concat(boxes, 1), tf.concat(classes, 1)

    def initialise(self, session: Any) -> None:
        """Gives the variables their values, in one run for all: Variable.load would be a run for each."""
        session.run([variable.initializer for variable in self.variables.values()],
                    {variable.initializer.inputs[1]: self._weights.values[name]
                     for name, variable in self.variables.items()})

    def sees(self, shown: list[np.ndarray], empty: list[np.ndarray], seed: int) -> None:
        """Changes the class heads by the `features` of pictures and of empty ones: see class_heads."""
        names = [f"BoxPredictor_{index}/ClassPredictor" for index in range(len(self.features))]
        values = self._weights.values
        for name, head in zip(names, class_heads.trained_alike(
                [values[f"{name}/weights"] for name in names], shown, empty, np.random.default_rng(seed)), strict=True):
            values[f"{name}/weights"], values[f"{name}/biases"] = head

    def _feature_maps(self, x: Any) -> list[Any]:
        found = []
        x = self._depthwise(x, "Conv2d_1a_7x7", 7, 8)
        x = self._normed(self._conv(x, "Conv2d_1a_7x7/pointwise", 1, 64, 1), "Conv2d_1a_7x7")
        x = tf.nn.max_pool2d(x, 3, 2, "SAME", name="MaxPool_2a_3x3")
        x = self._unit(self._unit(x, "Conv2d_2b_1x1", 1, 64), "Conv2d_2c_3x3", 3, 192)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME", name="MaxPool_3a_3x3")
        for name, stride, branches in BLOCKS:
            x = self._block(x, name, stride, branches)
            if name in MAPS:
                found.append(x)
        for index, (first, second) in enumerate(FURTHER, 2):
            x = self._unit(x, f"Mixed_5c_1_Conv2d_{index}_1x1_{first}", 1, first)
            x = self._unit(x, f"Mixed_5c_2_Conv2d_{index}_3x3_s2_{second}", 3, second, 2)
            found.append(x)
        return found

    def _block(self, x: Any, name: str, stride: int, branches: tuple[tuple[Any, ...], ...]) -> Any:
        ends = []
        for number, branch in enumerate(branches):
            end = x
            for index, layer in enumerate(branch):
                where, last = f"{name}/Branch_{number}/{index}", index == len(branch) - 1
                if layer in ("avg", "max"):
                    pool = tf.nn.avg_pool2d if layer == "avg" else tf.nn.max_pool2d
                    end = pool(end, 3, stride, "SAME", name=f"{where}_{layer}_pool")
                else:
                    kernel, channels = layer
                    end = self._unit(end, where, kernel, channels, stride if last else 1)
            ends.append(end)
        return tf.concat(ends, 3, name=f"{name}/concat")

    def _unit(self, x: Any, name: str, kernel: int, channels: int, stride: int = 1) -> Any:
        return self._normed(self._conv(x, name, kernel, channels, stride), name)

    def _conv(self, x: Any, name: str, kernel: int, channels: int, stride: int) -> Any:
        shape = (kernel, kernel, int(x.shape[3]), max(8, channels // self._thinner))
        spread = float(np.sqrt(2 / np.prod(shape[:3])))
        weights = self._tensor(f"{name}/weights", lambda random: smoother(random.normal(0, spread, shape)))
        return tf.nn.conv2d(x, weights, stride, "SAME", name=f"{name}/Conv2D")

    def _depthwise(self, x: Any, name: str, kernel: int, multiplier: int) -> Any:
        shape = (kernel, kernel, int(x.shape[3]), multiplier)
        weights = self._drawn(f"{name}/depthwise_weights", shape, 1 / kernel)
        return tf.nn.depthwise_conv2d(x, weights, [1, 2, 2, 1], "SAME", name=f"{name}/depthwise")

    def _normed(self, x: Any, name: str) -> Any:
        """Batch norm, in the form that graphs of TensorFlow 1 have, and Relu6."""
        norm = f"{name}/BatchNorm"
        count = (int(x.shape[3]),)
        scale = self._tensor(f"{norm}/gamma", lambda random: random.uniform(0.8, 1.8, count))
        offset = self._tensor(f"{norm}/beta", lambda random: random.normal(0.3, 0.4, count))
        if self._training:
            means, variances = tf.constant([], tf.float32), tf.constant([], tf.float32)
        else:
            means, variances = (self._tensor(f"{norm}/moving_{kind}", None) for kind in ("mean", "variance"))
        found = tf.raw_ops.FusedBatchNorm(x=x, scale=scale, offset=offset, mean=means, variance=variances,
                                          epsilon=EPSILON, is_training=self._training, name=f"{norm}/FusedBatchNorm")
        if self._training:
            self.measured[norm] = (found.batch_mean, found.batch_variance)
        return tf.nn.relu6(found.y, name=f"{name}/Relu6")

    def _predicted(self, features: Any, name: str, boxes: int, values: int) -> Any:
        """[N,S,S,C] -> [N,S*S*boxes,values] by a 1x1 convolution with a bias."""
        shape = (1, 1, int(features.shape[3]), boxes * values)
        # Activations after Relu6 are near 1: encodings get a standard deviation of about 1, logits of classes one of 2.
        weights = self._drawn(f"{name}/weights", shape, (1 if values == 4 else 2) / np.sqrt(shape[2]))
        made = tf.nn.bias_add(tf.nn.conv2d(features, weights, 1, "SAME", name=f"{name}/Conv2D"),
                              self._drawn(f"{name}/biases", shape[3:], 0.1), name=f"{name}/BiasAdd")
        side = int(features.shape[1])
        return tf.reshape(made, [-1, side * side * boxes, values], name=f"{name}/Reshape")

    def _drawn(self, name: str, shape: tuple[int, ...], spread: float) -> Any:
        return self._tensor(name, lambda random: random.normal(0, spread, shape))

    def _tensor(self, name: str, draw: Callable[[np.random.Generator], np.ndarray] | None) -> Any:
        value = self._weights.values[name] if draw is None else self._weights.get(name, draw)
        if self._training:
            return tf.constant(value)
        # Initialised with zeros, which a feed replaces: values in the graph would be stored twice.
        self.variables[name] = tf.compat.v1.get_variable(
            name, value.shape, tf.float32, tf.compat.v1.zeros_initializer(), use_resource=False)
        return self.variables[name]


def _empty(side: int, seed: int) -> np.ndarray:
    """Pictures [4,side,side,3] in which there is nothing: black, grey, a little noise on black, noise."""
    random, shape = np.random.default_rng(seed), (side, side, 3)
    return np.stack([np.zeros(shape), np.full(shape, 128.0), random.normal(0, 1, shape),
                     random.uniform(0, 255, shape)]).astype(np.float32)


def _graph(weights: Weights, side: int, thinner: int) -> tuple[_Network, Any, dict[str, Any]]:
    """Adds the whole detector to the default graph: its network, its input, and the outputs of both signatures."""
    images = tf.compat.v1.placeholder(tf.float32, [None, side, side, 3], name="image_tensor")
    network = _Network(weights, thinner, training=False)
    boxes, classes = network.predictions(images)
    boxes = tf.identity(boxes, name="box_encodings")
    classes = tf.identity(classes, name="class_predictions_with_background")
    return network, images, {"box_encodings": boxes, "class_predictions_with_background": classes,
                             **selected(decoded(boxes, anchors(network.squares)), classes)}


def _export(inputs: Any, outputs: dict[str, Any], version: Path, session: Any) -> None:
    saved = tf.compat.v1.saved_model

    def signature(keys: tuple[str, ...]) -> Any:
        return saved.signature_def_utils.build_signature_def(
            {"inputs": saved.build_tensor_info(inputs)},
            {key: saved.build_tensor_info(outputs[key]) for key in keys}, saved.PREDICT_METHOD_NAME)

    with writing(version):
        version.rmdir()  # the builder makes it
        builder = saved.Builder(str(version))
        builder.add_meta_graph_and_variables(
            session, [saved.SERVING], {key: signature(names) for key, names in SIGNATURES.items()})
        builder.save()
