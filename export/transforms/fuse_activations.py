from collections.abc import Iterable

from export.graph import Node, make_node
from export.ops import attribute
from export.pattern import Any, Match, Op
from export.tensors import FLOAT
from export.transform import Arguments, Draft, Rewrite, sole_reader, transform


@transform("fuse_activations")
class FuseActivations(Rewrite):  # decision 218
    """Relu(BiasAdd(Conv2D(x, W), b)) -> _FusedConv2D(x, W, b), also MatMul, Relu6, Elu, LeakyRelu

    A product becomes _FusedMatMul. TensorFlow's optimizer, Grappler, does the same when it loads a model; this is for a
    runtime where it is off.

    Safe when: the convolution or product is float32, NHWC and on a CPU, without dilations and groups (the sizes of both
      are known), the product transposes nothing but its second factor; only BiasAdd reads it, only the activation reads
      that, and neither is requested.
    Source: not in the Graph Transform Tool.
    """

    pattern = Op("Elu|LeakyRelu|Relu|Relu6",
                 Op("BiasAdd", Op("Conv2D|MatMul", Any("x"), Any("W"), bind="linear"), Any("b"), bind="bias"),
                 bind="activation")

    def check(self, m: Match, draft: Draft) -> None:
        linear, bias = m["linear"], m["bias"]
        sole_reader(draft, bias, m["activation"].name)
        sole_reader(draft, linear, bias.name)
        m.require(linear.get("T") == FLOAT, "its type is not float32")
        m.require("GPU" not in linear.device.upper(), "the fused kernel is one for CPUs")
        m.require(attribute(bias, "data_format") == "NHWC", "its channels are not the last axis")
        if linear.op == "MatMul":
            m.require(not attribute(linear, "transpose_a"), "the fused kernel does not transpose the first factor")
            return
        m.require(attribute(linear, "data_format") == "NHWC", "its channels are not the last axis")
        m.require(set(attribute(linear, "dilations")) == {1}, "the fused kernel is not known to have dilations")
        shapes = draft.graph.shapes
        images, weights = shapes.get(m.refs["x"]), shapes.get(m.refs["W"])
        m.require(bool(images and weights and images[-1] is not None and weights[2] == images[-1]),
                  "the convolution may be grouped, which not every fused kernel knows")

    def rewrite(self, m: Match, draft: Draft, args: Arguments) -> Iterable[Node]:
        linear, activation = m["linear"], m["activation"]
        controls = dict.fromkeys((*linear.controls, *m["bias"].controls, *activation.controls))
        attrs: dict[str, object] = {"fused_ops": ["BiasAdd", activation.op], "num_args": 1, "T": linear.get("T")}
        if activation.op == "LeakyRelu":
            attrs["leakyrelu_alpha"] = attribute(activation, "alpha")
        if linear.op == "MatMul":
            attrs["transpose_b"] = attribute(linear, "transpose_b")
        else:
            attrs |= {name: attribute(linear, name) for name in ("strides", "padding", "explicit_paddings")}
            attrs["TArgs"] = [linear.get("T")]
        return [make_node(activation.name, f"_Fused{linear.op}", (m.refs["x"], m.refs["W"], m.refs["b"], *controls),
                          linear.device, **attrs)]
