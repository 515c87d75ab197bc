"""Letters to phonemes in four forms: a recipe for models that predict one symbol after the other.

    article       grapheme, phoneme int32 [-1,20] -> preds int32 [-1,20]: called 20 times   (g2p_article)
    loop          grapheme int32 [-1,20] -> phoneme int32 [-1,20], END behind the last: the loop in the graph, no more
    serving       the same, with tables and loops that end early                            (g2p_serving)
    serving_xla   the same, small batches compiled by XLA

The steps and what each gained: docs/recipes/autoregressive.md. The weights are those of g2p-en 2.1.0 (Apache License
2.0), read from the package's file (g2p_weights).
"""
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from commandline import step
from export import warmup
from export.runtime import tf, writing
from export.zoo import g2p_article, g2p_serving, g2p_weights
from export.zoo.g2p_weights import UNITS
from export.zoo.g2p_words import END, START, STEPS, WORDS, graphemes
from version_directory import EXTRA, SAMPLES

MANY = 32  # rows of the last warm-up request


def build(version: Path, name: str, form: str, seed: int, weights: Path) -> dict[str, Any]:
    """Writes one form's SavedModel into `version`; returns facts about it for the manifest."""
    with step(f"read {weights}"):
        values = g2p_weights.read(weights)
    samples: dict[str, Any] = {"grapheme": graphemes(WORDS)}
    with step(f"export the form '{form}'"):
        if form == "article":
            g2p_article.export(version, values)
            samples["phoneme"] = tf.function(g2p_serving.Answers(values))(tf.constant(samples["grapheme"])).numpy()
        else:
            xla = form == "serving_xla"
            _export(version, _Loop(values) if form == "loop" else g2p_serving.Answers(values, xla))
            # A server runs these before it is ready, so that no client waits for XLA.
            sizes = g2p_serving.COMPILED if xla else ()
            warmup.write(version, [("serving_default", {"grapheme": samples["grapheme"][:rows]})
                                   for rows in (*sizes, MANY)])
        (version / EXTRA).mkdir(exist_ok=True)
        np.savez_compressed(version / SAMPLES, **samples)
    return {"weights": "g2p-en 2.1.0", "form": form, "samples": f"{len(WORDS)} words",
            "parameters": sum(value.size for value in values.values())}


@dataclass
class _Loop:
    """The article's model with its loop in the graph: encodes once, decodes 20 symbols, and nothing else is changed."""

    weights: Mapping[str, np.ndarray]

    def __call__(self, grapheme: Any) -> Any:
        length = tf.reduce_sum(tf.sign(grapheme), 1)
        state = tf.zeros([tf.shape(grapheme)[0], UNITS])

        def encode(number: Any, state: Any) -> tuple[Any, Any]:
            after = self._cell("enc", grapheme[:, number], state)
            return number + 1, tf.where((number < length)[:, None], after, state)

        _, state = tf.while_loop(lambda number, _: number < STEPS, encode, [0, state])

        def decode(number: Any, symbol: Any, state: Any, answer: Any) -> tuple[Any, ...]:
            state = self._cell("dec", symbol, state)
            logits = tf.matmul(state, self.weights["fc_w"], transpose_b=True) + self.weights["fc_b"]
            symbol = tf.argmax(logits, 1, output_type=tf.int32)
            return number + 1, symbol, state, answer.write(number, symbol)

        array = tf.TensorArray(tf.int32, STEPS, element_shape=[None])
        symbol = tf.fill(tf.shape(length), START)
        _, _, _, array = tf.while_loop(lambda number, *_: number < STEPS, decode, [0, symbol, state, array])
        answer = tf.transpose(array.stack())
        ended = tf.cumsum(tf.cast(tf.equal(answer, END), tf.int32), 1) > 0
        return tf.where(ended, END, answer)

    def _cell(self, part: str, ids: Any, state: Any) -> Any:
        own = {name: self.weights[f"{part}_{name}"] for name in ("emb", "w_ih", "w_hh", "b_ih", "b_hh")}
        of_input = tf.matmul(tf.gather(own["emb"], ids), own["w_ih"], transpose_b=True) + own["b_ih"]
        of_state = tf.matmul(state, own["w_hh"], transpose_b=True) + own["b_hh"]
        gates = tf.sigmoid(of_input[:, :2 * UNITS] + of_state[:, :2 * UNITS])
        new = tf.tanh(of_input[:, 2 * UNITS:] + gates[:, :UNITS] * of_state[:, 2 * UNITS:])
        return (1 - gates[:, UNITS:]) * new + gates[:, UNITS:] * state


def _export(version: Path, answers: Any) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda grapheme: {"phoneme": answers(grapheme)}, input_signature=[
        tf.TensorSpec([None, STEPS], tf.int32, name="grapheme")])
    with writing(version):
        tf.saved_model.save(module, str(version), signatures=module.serve)
