"""A classifier of short texts, trained on made-up sentences and exported with Keras' ExportArchive.

    text string [-1] -> TextVectorization to 40 words -> Embedding 64 -> LSTM 64 in both directions
    -> Dense 64 relu, Dropout 0.2 -> probabilities float32 [-1,4]

Its graph has what string models have: RegexReplace, StringSplit, a lookup table; and the LSTM's loops.
"""
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from commandline import step
from export.runtime import tf
from export.zoo import keras_export
from export.zoo.sentences import MATTERS, sentences
from version_directory import REQUEST, SAMPLES

WORDS = 40  # of a text; further ones are left out
WIDTH = {"full": 64, "small": 32}
TRAINED_ON, HELD_OUT = {"full": 4000, "small": 2000}, 500
EPOCHS = 6


def build(version: Path, name: str, size: str, seed: int, keeps: bool = False) -> dict[str, Any]:
    """Writes the trained SavedModel into `version`; returns facts about it for the manifest."""
    count = TRAINED_ON[size]
    texts, labels = sentences(count + HELD_OUT, seed)
    known, held_out = (texts[:count], labels[:count]), (texts[count:], labels[count:])
    keras.utils.set_random_seed(seed)
    model = classifier(WIDTH[size], known[0])
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    with step(f"train on {count} made-up sentences, {EPOCHS} epochs"):
        model.fit(tf.constant(known[0]), known[1], batch_size=64, epochs=EPOCHS, verbose=0)
    with step(f"test on {HELD_OUT} others"):
        _, accuracy = model.evaluate(tf.constant(held_out[0]), held_out[1], batch_size=HELD_OUT, verbose=0)
    with step("export with keras.export.ExportArchive"):
        keras_export.export(model, version, keeps, lambda text: {"probabilities": model(text, training=False)},
                            [tf.TensorSpec((None,), tf.string, name="text")])
        np.savez_compressed(version / SAMPLES, text=held_out[0], labels=held_out[1])
        (version / REQUEST).write_text(json.dumps({"instances": [str(held_out[0][0])]}) + "\n")
    return {"data": f"a grammar about {', '.join(MATTERS)}", "of": "sentences", "trained_on": count,
            "held_out": HELD_OUT, "accuracy": round(float(accuracy), 6), "parameters": model.count_params(),
            "seed": seed}


def classifier(width: int, texts: np.ndarray) -> keras.Model:
    """The untrained classifier, which knows the words of `texts`: string [-1] in, probabilities of four matters out."""
    layers = keras.layers
    words = layers.TextVectorization(max_tokens=400, output_sequence_length=WORDS, name="words")
    words.adapt(texts)
    text = keras.Input((), dtype="string", name="text")
    x = layers.Embedding(words.vocabulary_size(), width, name="embedding")(words(text))
    x = layers.Bidirectional(layers.LSTM(width), name="lstm")(x)
    x = layers.Dropout(0.2)(layers.Dense(width, activation="relu")(x))
    return keras.Model(text, layers.Dense(len(MATTERS), activation="softmax", name="probabilities")(x))
