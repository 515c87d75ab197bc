"""Made-up strings are words of the table that looks them up, also if the table is read from a file in assets."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from awkward_models import serving
from saved_models import random, save_v1, signature

from export import saved_model
from export.samples import Maker

v1 = tf.compat.v1
WORDS = [f"wort{index}" for index in range(40)]
INDEX = tf.lookup.TextFileIndex
Run = Callable[..., object]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """A file that exists only while the model is built, as on the machine that trained it."""
    path = tmp_path / "training" / "vocabulary.txt"
    path.parent.mkdir()
    path.write_text("\n".join(WORDS) + "\n")
    return path


def table_of(initializer: Any, default: Any = -1) -> Any:
    return tf.lookup.StaticHashTable(initializer, default)


def looked_up(path: Path, table: Any, change: Callable[[Any], Any] = lambda words: words) -> None:
    holder = tf.Module()
    holder.table, holder.rows = table, tf.Variable(random(len(WORDS) + 9, 3))
    serving(path, lambda text: {"y": tf.gather(holder.rows, tf.maximum(table.lookup(change(text)), 0))},
            tf.TensorSpec([None], tf.string, "text"), module=holder)


def whole_lines(path: Path, file: Path) -> None:
    looked_up(path, table_of(tf.lookup.TextFileInitializer(str(file), tf.string, INDEX.WHOLE_LINE, tf.int64,
                                                           INDEX.LINE_NUMBER)))


def a_column(path: Path, file: Path) -> None:
    file.write_text("".join(f"{index * 2}|{word}|x\n" for index, word in enumerate(WORDS)))
    looked_up(path, table_of(tf.lookup.TextFileInitializer(str(file), tf.string, 1, tf.int64, INDEX.LINE_NUMBER,
                                                           delimiter="|")))


def with_unknown_words(path: Path, file: Path) -> None:
    looked_up(path, tf.lookup.StaticVocabularyTable(tf.lookup.TextFileInitializer(
        str(file), tf.string, INDEX.WHOLE_LINE, tf.int64, INDEX.LINE_NUMBER), num_oov_buckets=3))


def in_sentences(path: Path, file: Path) -> None:
    looked_up(path, table_of(tf.lookup.TextFileInitializer(
        str(file), tf.string, INDEX.WHOLE_LINE, tf.int64, INDEX.LINE_NUMBER)),
        lambda text: tf.strings.split(tf.strings.lower(text)).to_tensor(""))


def in_examples(path: Path, file: Path) -> None:
    looked_up(path, table_of(tf.lookup.TextFileInitializer(
        str(file), tf.string, INDEX.WHOLE_LINE, tf.int64, INDEX.LINE_NUMBER)),
        lambda text: tf.io.parse_example(text, {"word": tf.io.FixedLenFeature([], tf.string)})["word"])


def constants(path: Path, file: Path) -> None:
    looked_up(path, table_of(tf.lookup.KeyValueTensorInitializer(WORDS, tf.range(len(WORDS), dtype=tf.int64))))


def lookup_layer(path: Path, file: Path) -> None:
    looked_up(path, keras.layers.StringLookup(vocabulary=str(file)).lookup_table)


def text_layer(path: Path, file: Path) -> None:
    layer = keras.layers.TextVectorization(vocabulary=str(file), output_sequence_length=5)
    holder = tf.Module()
    holder.layer = layer
    serving(path, lambda text: {"y": tf.cast(layer(text), tf.float32)}, tf.TensorSpec([None], tf.string, "text"),
            module=holder)


def tensorflow_1(path: Path, file: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        text = v1.placeholder(tf.string, [None], "text")
        table = tf.lookup.StaticVocabularyTable(tf.lookup.TextFileInitializer(
            str(file), tf.string, INDEX.WHOLE_LINE, tf.int64, INDEX.LINE_NUMBER), 1)
        y = tf.gather(v1.get_variable("w", initializer=random(len(WORDS) + 1, 3)), table.lookup(text))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        save_v1(path, session, {"serving_default": signature({"text": text}, {"y": y})},
                main_op=v1.tables_initializer(), assets=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS))


@pytest.mark.parametrize("build", [whole_lines, a_column, with_unknown_words, in_sentences, in_examples, constants,
                                   lookup_layer, text_layer, tensorflow_1])
def test_the_words_are_found(build: Callable[[Path, Path], None], vocabulary: Path, tmp_path: Path, run: Run) -> None:
    build(tmp_path / "from" / "1", vocabulary)
    vocabulary.unlink()
    text = Maker(saved_model.read(tmp_path / "from")).make("serving_default", 20, 0)["text"]
    known = [sum(word.encode() in one for word in WORDS) for one in text.ravel().tolist()]
    assert sum(map(bool, known)) > 10, text
    run("optimize", tmp_path / "from", "--to", tmp_path / "to", "--batch", "1,3")


def test_numbers_that_are_keys_of_a_table_in_a_file(vocabulary: Path, tmp_path: Path, run: Run) -> None:
    """Ids to words: the keys are the line numbers."""
    table = table_of(tf.lookup.TextFileInitializer(str(vocabulary), tf.int64, INDEX.LINE_NUMBER, tf.string,
                                                   INDEX.WHOLE_LINE), "?")
    holder = tf.Module()
    holder.table = table
    serving(tmp_path / "from" / "1", lambda ids: {"word": table.lookup(ids)}, tf.TensorSpec([None], tf.int64, "ids"),
            module=holder)
    vocabulary.unlink()
    ids = Maker(saved_model.read(tmp_path / "from")).make("serving_default", 200, 0)["ids"]
    assert set(np.unique(ids)) == set(range(len(WORDS)))
    run("optimize", tmp_path / "from", "--to", tmp_path / "to", "--batch", "1,3")
