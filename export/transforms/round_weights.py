import numpy as np

from export.graph import Graph, make_const
from export.tensors import Array
from export.transform import Arg, Arguments, Record, TransformError, transform
from export.weights import approximable, value_range

# Smaller constants are often epsilons and scales, for which accuracy matters and size does not.
_MINIMUM_SIZE = 16


@transform(
    "round_weights",
    Arg("num_steps", "int", 256, help="how many different values a constant may hold"))
def round_weights(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Const(float) -> a Const with at most num_steps different values, which compresses well.

    The range of a constant is divided into num_steps equal steps; a weight becomes the middle of its step, so it
    changes by at most (max - min) / num_steps / 2.

    Safe when: the constant is float32 with at least 16 elements, all finite, and is not itself a requested input or
      output.
    Source: Graph Transform Tool, round_weights (which made one value too many, outside of the range, changed constants
      with only one value, and extended the range of negative ones to zero).
    """
    if args["num_steps"] < 1:
        raise TransformError(f"round_weights: num_steps={args['num_steps']}: expected 1 or more")
    changed = {}
    for item, values in approximable(graph, _MINIMUM_SIZE, record):
        low, high = value_range(values)
        if low == high:
            record.skip(item.name, "all its values are the same already")
            continue
        rounded = make_const(item.name, _rounded(values, low, high, args["num_steps"]), item.controls, item.device)
        changed[item.name] = item.with_attrs(value=rounded.attrs["value"])
        record.applied += 1
    return graph.with_nodes({**graph.nodes, **changed}.values())


def _rounded(values: Array, low: np.float32, high: np.float32, steps: int) -> Array:
    width = (high - low) / np.float32(steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.floor((values - low) / width)
    # Limited, since the largest value would begin one more step. If the width underflows there is only one step.
    at = np.clip(np.nan_to_num(at), 0, steps - 1)
    return np.clip(low + width * (at + np.float32(0.5)), low, high).astype(np.float32)
