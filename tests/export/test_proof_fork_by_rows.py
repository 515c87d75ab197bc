"""What the first request decides, and what fork_by_rows makes of it: make proof ONLY=fork_by_rows."""
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded, tf, transformed
from proof import Proof

v1 = tf.compat.v1
LAYERS, TURNS = 6, 60
ROWS = (1, 4, 6, 7, 10, 32, 80, 81, 100)


def _layers(width: int, variables: bool) -> Any:
    """x [N, width] -> y, six layers of relu(x @ W + b)."""
    def make() -> None:
        one = v1.placeholder(tf.float32, (None, width), "x")
        for number in range(LAYERS):
            weights = seeded((width, width), number) / np.float32(width) ** 0.5
            factor = (v1.get_variable(f"W{number}", initializer=weights, use_resource=True) if variables
                      else tf.constant(weights))
            one = tf.nn.relu(tf.nn.bias_add(tf.matmul(one, factor), tf.constant(seeded((width,), number))))
        tf.identity(one, "y")
        v1.global_variables_initializer()
    return build(make)


def _session(graph_def: Any, first: int, width: int) -> Callable[[Any], Any]:
    """A session with one thread, whose first request had so many rows."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    session = v1.Session(graph=graph, config=v1.ConfigProto(intra_op_parallelism_threads=1,
                                                           inter_op_parallelism_threads=-1))
    if any(node.op == "VarHandleOp" for node in graph_def.node):
        session.run("init")
    call: Callable[[Any], Any] = session.make_callable("y:0", feed_list=["x:0"])
    call(seeded((first, width)))
    return call


def _measured(width: int) -> dict[str, Any]:
    """Medians in milliseconds by the number of rows, in turns in this process."""
    constants = _layers(width, False)
    forked, report = transformed(constants, ["x"], ["y"], "fork_by_rows")
    assert report.steps[0].applied == LAYERS
    calls = {"variables": _session(_layers(width, True), 1, width),
             "constants, first request of 1 row": _session(constants, 1, width),
             "constants, first request of 32 rows": _session(constants, 32, width),
             "forked, first request of 1 row": _session(forked, 1, width)}
    found = {}
    for rows in ROWS:
        x, taken = seeded((rows, width)), {name: list[float]() for name in calls}
        for _ in range(TURNS):
            for name, call in calls.items():
                call(x)
                began = perf_counter()
                call(x)
                taken[name].append(perf_counter() - began)
        found[str(rows)] = {name: round(1000 * float(np.median(each)), 4) for name, each in taken.items()}
    return {"layers": LAYERS, "width": width, "threads": 1, "ms": found}


@pytest.mark.proof
@pytest.mark.parametrize("width", [256, 512, 1024])
def test_fork_by_rows_is_as_fast_as_the_right_first_request(width: int) -> None:
    row = Proof("fork_by_rows", seed=0, about=("export/transforms/fork_by_rows.py",)).row(
        f"{LAYERS} layers of {width}", lambda: _measured(width))
    for each in row["ms"].values():
        best = min(ms for name, ms in each.items() if name.startswith("constants"))
        # The choices take some microseconds for each layer.
        assert each["forked, first request of 1 row"] < 1.15 * best + 0.005 * LAYERS
