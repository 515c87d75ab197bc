"""The graph of g2p for serving: what is known beforehand in tables, one product a step, and loops that end early.

Written step by step in docs/recipes/autoregressive.md, for other models that predict one symbol after the other.
"""
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from export.runtime import tf
from export.zoo.g2p_weights import UNITS
from export.zoo.g2p_words import END, GRAPHEMES, START, STEPS

POSITIONS = np.arange(STEPS, dtype=np.int32)
NONE = len(GRAPHEMES)  # the row of a letter that is not there
# XLA compiles a graph once for each batch size, which takes a second. It does so for these alone: 3 rows are run as 4,
# and a larger batch by the graph without XLA, which was as fast from 8 rows on.
COMPILED = (1, 2, 4)


class Tables:
    """What can be computed before any request, as float32 arrays.

    pairs [900,256]: the encoder's state after the first two letters. encode [30,768], decode [74,768]: the part of the
    three gates that a symbol gives, with all biases but one. encode_state, decode_state [256,768]: that of the state;
    _bias [256]: what is added to its third. logits [256,74] and its bias.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        encode, self.encode_state, self.encode_bias = _gates(weights, "enc")
        self.encode = np.concatenate([encode, encode[:1]])  # the result for NONE is not taken
        self.decode, self.decode_state, self.decode_bias = _gates(weights, "dec")
        self.logits, self.logits_bias = np.ascontiguousarray(weights["fc_w"].T), weights["fc_b"]
        first = np.zeros((NONE + 1, UNITS), np.float32)
        first[:NONE] = self._encoded(np.arange(NONE), first[:NONE])
        pairs = np.repeat(first[:, None], NONE + 1, 1)
        for letter in range(NONE):
            pairs[:, letter] = self._encoded(np.full(NONE + 1, letter), first)
        self.pairs = pairs.reshape(-1, UNITS)

    def _encoded(self, letters: np.ndarray, state: np.ndarray) -> np.ndarray:
        of_input, of_state = self.encode[letters], state @ self.encode_state
        reset, update = np.split(1 / (1 + np.exp(-of_input[:, :2 * UNITS] - of_state[:, :2 * UNITS])), 2, 1)
        new = np.tanh(of_input[:, 2 * UNITS:] + reset * (of_state[:, 2 * UNITS:] + self.encode_bias))
        return new + update * (state - new)


def _gates(weights: Mapping[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    emb, of_input, of_state, bias, state_bias = (
        weights[f"{part}_{name}"] for name in ("emb", "w_ih", "w_hh", "b_ih", "b_hh"))
    table = emb @ of_input.T + bias
    table[:, :2 * UNITS] += state_bias[:2 * UNITS]
    # The new gate's bias of the state is multiplied by the reset gate, so it stays with the state.
    return table, np.ascontiguousarray(of_state.T), state_bias[2 * UNITS:]


class Answers:
    """Called with grapheme int32 [N,20], it adds the model to the graph and returns phoneme int32 [N,20].

    xla: small batches are run by code that XLA compiled for their size.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], xla: bool = False) -> None:
        self._tables = Tables(weights)
        self._xla = xla

    def __call__(self, grapheme: Any) -> Any:
        # Code of XLA takes the nearest row for a number that a table does not have; this look-up refuses the request.
        grapheme = tf.gather(np.arange(len(GRAPHEMES), dtype=np.int32), grapheme, name="known_letters")
        if not self._xla:
            return self.answers(grapheme)
        # Not inlined: each node of a branch that is not taken costs time.
        any_size = tf.function(self.answers, input_signature=[tf.TensorSpec([None, STEPS], tf.int32)],
                               experimental_attributes={"_noinline": True})
        rows = tf.shape(grapheme)[0]
        branches = [partial(self._compiled, grapheme, size, rows) for size in COMPILED]
        return tf.switch_case(tf.reduce_sum(tf.cast(rows > np.array([0, *COMPILED]), tf.int32)),
                              [lambda: any_size(grapheme), *branches, lambda: any_size(grapheme)])

    def _compiled(self, grapheme: Any, size: int, rows: Any) -> Any:
        compiled = tf.function(self.answers, jit_compile=True, input_signature=[tf.TensorSpec([size, STEPS], tf.int32)])
        if size - 1 in (0, *COMPILED):  # no other batch is run by this code
            return compiled(tf.reshape(grapheme, [size, STEPS]))
        filled = tf.concat([grapheme, np.zeros((size, STEPS), np.int32)], 0)[:size]
        return compiled(tf.reshape(filled, [size, STEPS]))[:rows]

    def answers(self, grapheme: Any) -> Any:
        """The model for known letters, without refusals."""
        tables = self._tables
        length = tf.reduce_sum(tf.sign(grapheme), 1)
        letters = tf.transpose(tf.where(length[:, None] > POSITIONS, grapheme, NONE))
        state = tf.gather(tables.pairs, letters[0] * (NONE + 1) + letters[1])

        def encoded(number: Any, state: Any) -> tuple[Any, Any]:
            after = _step(tf.gather(tables.encode, letters[number]), tf.matmul(state, tables.encode_state),
                          tables.encode_bias, state)
            return number + 1, tf.where((number < length)[:, None], after, state)

        def decoded(number: Any, symbol: Any, state: Any, ended: Any, answer: Any) -> tuple[Any, ...]:
            state = _step(tf.gather(tables.decode, symbol), tf.matmul(state, tables.decode_state),
                          tables.decode_bias, state)
            likeliest = tf.argmax(tf.matmul(state, tables.logits) + tables.logits_bias, 1, output_type=tf.int32)
            ended = ended | tf.equal(likeliest, END)
            symbol = tf.where(ended, END, likeliest)
            answer = tf.where(tf.equal(POSITIONS, number)[:, None], symbol, answer)
            return number + 1, symbol, state, ended, answer

        # maximum_iterations lets a server see that the loops end.
        longest = tf.reduce_max(tf.concat([length, [0]], 0))  # of an empty batch 0
        _, state = tf.while_loop(lambda number, _: number < longest, encoded, [2, state], maximum_iterations=STEPS)
        nothing = tf.zeros_like(grapheme)
        *_, answer = tf.while_loop(
            lambda number, symbol, state, ended, answer: ~tf.reduce_all(ended), decoded,
            [0, nothing[:, 0] + START, state, nothing[:, 0] > 0, tf.transpose(nothing) + END],
            maximum_iterations=STEPS)
        return tf.transpose(answer)


def _step(of_symbol: Any, of_state: Any, bias: Any, state: Any) -> Any:
    """A GRU's next state [N,256] from the parts of its three gates that symbol and state give, [N,768] both."""
    gates = tf.sigmoid(of_symbol[:, :2 * UNITS] + of_state[:, :2 * UNITS])
    # As an operation of its own: added to the whole product it would be fused into that, which was slower for one row.
    new = tf.tanh(of_symbol[:, 2 * UNITS:] + gates[:, :UNITS] * (of_state[:, 2 * UNITS:] + bias))
    return new + gates[:, UNITS:] * (state - new)
