"""An LSTM's loop, and the block that fork_lstm puts beside it: make proof ONLY=fork_lstm."""
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from graph_session import build, ops, seeded, tf, transformed
from lstm_graphs import layer
from proof import Proof

from export.transforms.fork_lstm import FEW, MOST, MOST_OF_FEW, ROWS

v1 = tf.compat.v1
STEPS, TURNS = 40, 100


def _loops(units: int, both_ways: bool) -> Any:
    """x [rows, 40, units] -> y [rows, units or twice as many]: one LSTM, or one for each direction, as Keras has it."""
    def make() -> None:
        x = v1.placeholder(tf.float32, (None, STEPS, units), "x")
        ends = [layer(one, f"{number}/", inputs=units, units=units, seed=9 * number)
                for number, one in enumerate((x, tf.reverse(x, [1]))[:1 + both_ways])]
        tf.identity(tf.concat(ends, 1), "y")
    plain, _ = transformed(build(make), ["x"], ["y"], "default")
    return plain


def _session(graph_def: Any) -> Callable[[Any], Any]:
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    call: Callable[[Any], Any] = v1.Session(graph=graph).make_callable("y:0", feed_list=["x:0"])
    return call


def _measured(units: int, both_ways: bool) -> dict[str, Any]:
    """Medians in milliseconds by the number of rows, in turns in this process; "block" is it beyond the limit, too."""
    loops = _loops(units, both_ways)
    forked, report = transformed(loops, ["x"], ["y"], "fork_lstm")
    assert report.steps[0].applied == ops(forked)["BlockLSTMV2"] == 1 + both_ways
    block, _ = transformed(loops, ["x"], ["y"], "fork_lstm(most=1000000000)")
    calls = {"loop": _session(loops), "forked": _session(forked), "block": _session(block)}
    found = {}
    weights = 2 * units * 4 * units
    limit = min(ROWS, (MOST_OF_FEW if weights <= FEW else MOST) // weights)
    for rows in sorted({1, max(limit // 2, 1), limit, limit + 1, 2 * limit, 100}):
        x, taken = seeded((rows, STEPS, units)), {name: list[float]() for name in calls}
        for turn in range(TURNS):
            order = [*calls][turn % len(calls):] + [*calls][:turn % len(calls)]
            for name in order:
                began = perf_counter()
                calls[name](x)
                taken[name].append(perf_counter() - began)
        found[str(rows)] = {name: round(1000 * float(np.median(each[TURNS // 5:])), 4)
                            for name, each in taken.items()}
    return {"steps": STEPS, "units": units, "threads": "TensorFlow's", "block up to rows": limit, "ms": found}


@pytest.mark.proof
@pytest.mark.parametrize(("units", "both_ways"), [
    (8, False), (32, False), (64, False), (64, True), (96, True), (128, False), (128, True), (192, False)])
def test_fork_lstm_is_faster_for_few_rows_and_as_fast_for_more(units: int, both_ways: bool) -> None:
    name = f"{units} units{', both ways' if both_ways else ''}"
    row = Proof("fork_lstm", seed=0, about=("export/transforms/fork_lstm.py", "export/lstm_loops.py")).row(
        name, lambda: _measured(units, both_ways))
    for each in row["ms"].values():
        assert each["forked"] < 1.2 * each["loop"]
    assert row["ms"]["1"]["forked"] < row["ms"]["1"]["loop"]
