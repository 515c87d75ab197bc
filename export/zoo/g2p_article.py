"""g2p in the form in which the article of 2019 (thekev.in) exported and called it: TensorFlow 1, one call a phoneme.

    grapheme int32 [-1,20] (a word and its end, PAD behind), phoneme int32 [-1,20] (what was predicted so far)
    -> preds int32 [-1,20]: column j follows from the first j columns of `phoneme`

A client calls it 20 times with the whole word, and takes column j from call j. So each call runs the whole encoder and
all 20 steps of the decoder. It is exported as the article does: from the checkpoint of a Saver, restored into a graph
with the loops and the variables of TensorFlow 1.
"""
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from export.runtime import tf, writing
from export.zoo.g2p_weights import UNITS
from export.zoo.g2p_words import START, STEPS

tf1 = tf.compat.v1


def export(version: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Writes the SavedModel."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder, "model"))
        with tf.Graph().as_default(), tf1.Session() as session:
            variables = _variables(weights)
            session.run([variable.initializer for variable in variables.values()],
                        {variable.initializer.inputs[1]: weights[name] for name, variable in variables.items()})
            tf1.train.Saver().save(session, checkpoint, write_meta_graph=False)
        with tf.Graph().as_default(), tf1.Session() as session, _loops_of_tensorflow_1():
            variables = _variables(weights)
            inputs = {name: tf1.placeholder(tf.int32, [None, STEPS], name) for name in ("grapheme", "phoneme")}
            preds = predictions(variables, inputs["grapheme"], inputs["phoneme"])
            tf1.train.Saver().restore(session, checkpoint)
            with writing(version):
                version.rmdir()  # the builder makes it
                tf1.saved_model.simple_save(session, str(version), inputs, {"preds": preds})


def predictions(weights: Mapping[str, Any], grapheme: Any, phoneme: Any) -> Any:
    """Adds the model to the default graph; returns its predictions int32 [N,20]."""
    # The weights were trained on words without padding: behind a word's end, dynamic_rnn leaves the state as it is.
    _, last = tf1.nn.dynamic_rnn(_Gru(weights, "enc"), tf.nn.embedding_lookup(weights["enc_emb"], grapheme),
                                 tf.reduce_sum(tf.sign(grapheme), 1), dtype=tf.float32, scope="encoder")
    before = tf.concat([tf.fill([tf.shape(phoneme)[0], 1], START), phoneme[:, :-1]], 1)
    states, _ = tf1.nn.dynamic_rnn(_Gru(weights, "dec"), tf.nn.embedding_lookup(weights["dec_emb"], before),
                                   initial_state=last, scope="decoder")
    logits = tf.tensordot(states, weights["fc_w"], [[2], [1]]) + weights["fc_b"]
    return tf.argmax(logits, 2, output_type=tf.int32, name="preds")


class _Gru:
    """A GRU as TensorFlow 1's dynamic_rnn takes it, whose reset gate is applied behind the product."""

    state_size = output_size = UNITS

    def __init__(self, weights: Mapping[str, Any], part: str) -> None:
        self._weights = {name.removeprefix(f"{part}_"): tensor for name, tensor in weights.items()
                         if name.startswith(part)}

    def zero_state(self, batch: Any, dtype: Any) -> Any:
        return tf.zeros([batch, UNITS], dtype)

    def __call__(self, x: Any, state: Any, scope: Any = None) -> tuple[Any, Any]:
        own = self._weights
        of_input = tf.matmul(x, own["w_ih"], transpose_b=True) + own["b_ih"]
        of_state = tf.matmul(state, own["w_hh"], transpose_b=True) + own["b_hh"]
        gates = tf.sigmoid(of_input[:, :2 * UNITS] + of_state[:, :2 * UNITS])
        reset, update = tf.split(gates, 2, 1)
        new = tf.tanh(of_input[:, 2 * UNITS:] + reset * of_state[:, 2 * UNITS:])
        after = (1 - update) * new + update * state
        return after, after


def _variables(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Variables that are read by reference, as TensorFlow 1 had them. The graph does not hold their values."""
    return {name: tf1.get_variable(name, value.shape, tf.float32, tf.zeros_initializer(), use_resource=False)
            for name, value in weights.items()}


@contextmanager
def _loops_of_tensorflow_1() -> Iterator[None]:
    tf1.disable_control_flow_v2()
    try:
        yield
    finally:
        tf1.enable_control_flow_v2()
