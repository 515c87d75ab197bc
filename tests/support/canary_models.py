"""Versions that answer alike, of which one is slower, one is so now and then, and one fails now and then.

Requests say which are which: the first number of a row is beyond LIMIT where a version of the second kind takes longer,
the second number where one of the third kind fails.
"""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serving.promotion.golden import Golden

WIDTH, STEPS, LIMIT = 256, 200, 50.0
LONGER, FAILING = 0.02, 0.01
# Steps in each turn of the loop that some requests take.
_AT_ONCE = 5


class _Busy(tf.Module):
    def __init__(self, steps: int, now_and_then: int, fails: bool) -> None:
        super().__init__()
        self.weights = tf.constant(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32) / 16)
        self.steps, self.now_and_then, self.fails = steps, now_and_then, fails

    def _busy(self, x: Any, steps: int) -> Any:
        for _ in range(steps):
            x = tf.tanh(x @ self.weights)
        return x

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTH], tf.float32, name="x")])
    def serve(self, x: Any) -> dict[str, Any]:
        # A loop, and no branch: the steps of one that is not taken cost time, too.
        more = tf.where(x[0, 0] > LIMIT, self.now_and_then, 0)
        result = tf.while_loop(lambda turn, _: turn < more, lambda turn, y: (turn + 1, self._busy(y, _AT_ONCE)),
                               (tf.constant(0), self._busy(x, self.steps)))[1]
        checks = [tf.debugging.assert_less(x[0, 1], LIMIT)] if self.fails else []
        with tf.control_dependencies(checks):
            # No number of tanh is over 2, and no optimizer knows that.
            return {"y": x[:, 2:6] + tf.cast(result[:, :4] > 2, tf.float32)}


def save(version: Path, more: float = 0.0, now_and_then: float = 0.0, fails: bool = False) -> Path:
    """more: of the steps, always; now_and_then: for requests that say so."""
    module = _Busy(round(STEPS * (1 + more)), round(STEPS * now_and_then / _AT_ONCE), fails)
    tf.saved_model.save(module, str(version), signatures=module.serve)
    return version


def requests(count: int, seed: int, longer: float = LONGER, batches: Sequence[int] = (1, 2, 3, 7)) -> list[Golden]:
    """Requests of these batch sizes, of which a share takes longer, and FAILING fail, where a version does so."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        x = random.normal(size=(batches[number % len(batches)], WIDTH)).astype(np.float32)
        x[0, :2] = np.where(random.random(2) < (longer, FAILING), 2 * LIMIT, 0)
        found.append(Golden({"x": x}, ""))
    return found
