"""Loops that are known to end soon make a graph bounded; all others do not."""
from collections.abc import Callable
from typing import Any

import pytest
from graph_session import tf

from serving.pace import Steps


def bounded(made: Callable[[Any], Any]) -> bool:
    """Whether a graph that calls the function `made` of a vector is bounded."""
    function = tf.function(made, input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        y = function(x)
        return Steps(graph.as_graph_def().library.function).bounded([y.op], [x.name])


def loop(x: Any, test: Callable[..., Any], turn: Callable[..., Any] = lambda i, x: (i + 1, x * 0.5), first: int = 0,
         **options: Any) -> Any:
    return tf.while_loop(test, turn, [first, x], **options)[1]


def until_small(_: Any, x: Any) -> Any:
    return tf.reduce_max(x) > 0.1


@pytest.mark.parametrize("made", [
    lambda x: loop(x, until_small, maximum_iterations=20),
    lambda x: loop(x, lambda i, _: i < 20),
    lambda x: loop(x, lambda i, x: (tf.reduce_max(x) > 0) & (i < 20) & (tf.reduce_min(x) < 9)),
    lambda x: loop(x, lambda i, _: i < 600, lambda i, x: (7 + i, x), first=-3),
    lambda x: loop(x, lambda i, _: i < tf.constant(20)),
    lambda x: tf.while_loop(lambda i, _: i < 10**7, lambda i, x: (i + 10**6, x), [tf.constant(0, tf.int64), x])[1],
    lambda x: tf.switch_case(tf.size(x), [lambda: x, lambda: loop(x, until_small, maximum_iterations=5)]),
    lambda x: tf.cond(tf.size(x) > 1, lambda: loop(x, until_small, maximum_iterations=5), lambda: x),
], ids=["maximum", "counter", "among others", "steps", "captured", "wide", "case", "if"])
def test_a_loop_that_is_known_to_end_soon_is_bounded(made: Callable[[Any], Any]) -> None:
    assert bounded(made)


@pytest.mark.parametrize("made", [
    lambda x: loop(x, until_small),
    lambda x: loop(x, until_small, maximum_iterations=101),
    lambda x: loop(x, until_small, maximum_iterations=tf.size(x)),
    lambda x: loop(x, lambda i, _: i < tf.size(x)),
    lambda x: loop(x, lambda i, x: (i < 20) | (tf.reduce_max(x) > 0)),
    lambda x: loop(x, lambda i, _: ~(i < 20), first=30),
    lambda x: loop(x, lambda i, _: i < 20, lambda i, x: (i - 1, x)),
    lambda x: loop(x, lambda i, _: i < 20, lambda i, x: (i + 0, x)),
    lambda x: loop(x, lambda i, _: i < 20, lambda i, x: (i * 1, x)),
    lambda x: loop(x, lambda i, _: i < 20, lambda i, x: (i + tf.cast(x[0], tf.int32), x)),
    lambda x: loop(x, lambda i, _: i < 20, lambda i, x: (tf.constant(1), x)),
    lambda x: tf.while_loop(lambda i, n, _: i < n, lambda i, n, x: (i + 1, n + 1, x), [0, 5, x])[2],
    lambda x: tf.while_loop(lambda i, *_: i < 5, lambda i, j, x: (j, i + 1, x), [0, 0, x])[2],
    lambda x: tf.while_loop(lambda i, *_: i < 5, lambda i, x: (i + 1, x), [tf.size(x), x])[1],
    lambda x: loop(x, lambda i, _: i < 5, lambda i, x: (i + 1, tf.tile(x, [tf.cast(x[0], tf.int32)])),
                   shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])]),
    lambda x: loop(x, lambda i, _: i < 5, lambda i, x: (i + 1, loop(x, until_small))),
    lambda x: loop(x, lambda i, _: i < 5, lambda i, x: (i + 1, loop(x, lambda j, _: j < 5))),
], ids=["no limit", "too many", "limit from the request", "counter up to the request's size", "or", "not", "down",
        "standing", "times", "step from the request", "reset", "moving limit", "swapped", "start from the request",
        "unbounded turn", "unbounded inner loop", "loop of loops"])
def test_any_other_loop_is_not(made: Callable[[Any], Any]) -> None:
    assert not bounded(made)
