"""Graphs of LSTMs whose steps are a loop, as Keras exports them, and of loops that are nearly that."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from graph_session import build, seeded, tf, transformed

v1 = tf.compat.v1
INPUTS, UNITS = 3, 4
ORDERS = ("ifco", "icfo", "foci")


def lstm(**options: Any) -> Any:
    """x [rows, steps, 3] -> "y" (the hidden states of all steps, or the last), "hidden" and "cell" (the last ones)."""
    def make() -> None:
        shape = options.get("rows"), options.get("steps", 5), INPUTS
        x = v1.placeholder(options.get("dtype", tf.float32), shape, "x")
        layer(x, "", **options)
    return _plain(make, ("y", "hidden", "cell"))


def two_lstms(steps: int | None = 5) -> Any:
    """x -> an LSTM, its hidden states, and a second LSTM that reads them from the end -> "second/y"."""
    def make() -> None:
        x = v1.placeholder(tf.float32, (None, steps, INPUTS), "x")
        layer(tf.reverse(layer(x, "first/", every=True), [1]), "second/", inputs=UNITS, seed=7)
    return _plain(make, ("second/y",))


def _plain(make: Callable[[], None], outputs: Sequence[str]) -> Any:
    """The graph without the nodes that pass on each result of a loop, as the default pipeline leaves it."""
    graph_def, _ = transformed(build(make), ["x"], outputs, "strip_unused_nodes remove_nodes(op=Identity)")
    return graph_def


def layer(x: Any, prefix: str, *, every: bool = False, order: str = "ifco", joined: bool = False, bias: str = "BiasAdd",
          swapped: bool = False, inputs: int = INPUTS, seed: int = 0, dtype: Any = tf.float32, rows: int | None = None,
          steps: int | None = 5, units: int = UNITS, change: Mapping[str, Callable[..., Any]] | None = None) -> Any:
    """The loop. `change` replaces parts: "gate", "candidate" (activations), "turns", "first" (states), "columns" (of
    the first cell state), "next" (what is kept of the new states), "place" (of the step that is read), "weights",
    "products", "sum", "at" (the place in the list), "places" (of the list), "kept" (what is in it), "also" (one more
    variable)."""
    parts = dict(change or {})
    values = [seeded(shape, seed + number) / 2
              for number, shape in enumerate(((inputs, 4 * units), (units, 4 * units), (4 * units,)))]
    kernel, recurrent, addend = (tf.constant(one, dtype) for one in values)
    kernel = parts.get("weights", lambda one: one)(kernel)
    both = tf.constant(np.concatenate(values[:2]), dtype)
    count = x.shape[1] if x.shape[1] is not None else tf.shape(x)[1]
    across = tf.transpose(x, (1, 0, 2))
    zeros = parts.get("first", lambda rows: tf.zeros((rows, units), dtype))(tf.shape(x)[0])
    read = tf.TensorArray(dtype, count).unstack(across)
    keeps = tf.TensorArray(dtype, parts.get("places", lambda one: one)(count if every else 1),
                           element_shape=(rows, units))
    gate, candidate = parts.get("gate", tf.sigmoid), parts.get("candidate", tf.tanh)

    also = parts.get("also")
    more = (tf.ones(3),) if also else ()

    def turn(time: Any, hidden: Any, cell: Any, kept: Any, *others: Any) -> Any:
        step = read.read(parts.get("place", lambda one: one)(time))
        if "products" in parts:
            total = parts["products"](step, hidden, kernel, recurrent, both)
        else:
            total = (tf.matmul(tf.concat((step, hidden), 1), both) if joined
                     else tf.matmul(step, kernel) + tf.matmul(hidden, recurrent))
        total = {"BiasAdd": lambda: tf.nn.bias_add(total, addend), "AddV2": lambda: addend + total,
                 "": lambda: total}[bias]()
        total = parts.get("sum", lambda one, _: one)(total, step)
        gates = dict(zip(order, tf.split(total, 4, 1), strict=True))
        old, new = gate(gates["f"]) * cell, gate(gates["i"]) * candidate(gates["c"])
        after = new + old if swapped else old + new
        result = candidate(after) * gate(gates["o"]) if swapped else gate(gates["o"]) * candidate(after)
        result, after = parts.get("next", lambda result, after, *_: (result, after))(result, after, hidden, time)
        at = parts.get("at", lambda one: one)(time if every else 0)
        return time + 1, result, after, kept.write(at, parts.get("kept", lambda one: one)(result)), *map(also, others)

    turns = parts.get("turns", lambda time, count: time < count)
    first_cell = zeros[:, :parts["columns"]] if "columns" in parts else zeros
    variables = 0, zeros, first_cell, keeps, *more
    wide = tf.TensorShape((rows, None))
    invariants = {"shape_invariants": (tf.TensorShape(()), zeros.shape, wide, tf.TensorShape(None))} if (
        "columns" in parts) else {}
    _, hidden, cell, kept, *_ = v1.while_loop(lambda time, *_: turns(time, count), turn, variables, **invariants)
    tf.identity(hidden, f"{prefix}hidden")
    tf.identity(cell, f"{prefix}cell")
    stacked = kept.stack()
    return tf.identity(tf.transpose(stacked, (1, 0, 2)) if every else stacked[-1], f"{prefix}y")
