"""Inputs that a model can use: made from its metadata where that is enough, else from its graph."""
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward_models
import numpy as np
import pytest
import saved_models
import tensorflow as tf
from saved_models import WORDS
from tiny_saved_model import write_tiny_saved_model

from benchmark.targets import first_answers as first_answers_module
from benchmark.targets.export_command import ExportError
from benchmark.targets.first_answers import FirstAnswers, first_answers
from benchmark.targets.inputs import DISTINCT, Inputs
from benchmark.targets.starting import Instance, start
from benchmark.targets.target import Target
from export.__main__ import COMMANDS
from serving.client.payloads import Arrays
from serving.client.protocol import AnswerError
from user_error import FailedError, UserError


def rows_of_a_small_table(path: Path) -> None:
    """Ids below 3; metadata says int64, and made-up ones are below 10."""
    awkward_models.serving(path, lambda ids: {"row": tf.gather(tf.constant([1.5, 2.5, 4.0]), ids)},
                           tf.TensorSpec([None], tf.int64, name="ids"))


def numbers_of_a_table(path: Path) -> None:
    """The same answer to every number that is not in the table."""
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.range(500, 520, dtype=tf.int64), tf.range(20, dtype=tf.int64)), -1)
    module = tf.Module()
    module.table = table
    awkward_models.serving(path, lambda numbers: {"place": table.lookup(numbers)},
                           tf.TensorSpec([None], tf.int64, name="numbers"), module=module)


def always_the_same(path: Path) -> None:
    awkward_models.serving(path, lambda x: {"y": x * 0 + 3}, tf.TensorSpec([None, 4], tf.float32, name="x"))


def reads_files(path: Path) -> None:
    awkward_models.serving(path, lambda names: {"text": tf.map_fn(tf.io.read_file, names)},
                           tf.TensorSpec([None], tf.string, name="names"))


def refuses_everything(path: Path) -> None:
    def serve(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_greater(x, 1e6, "far too small")]):
            return {"y": x * 2}
    awkward_models.serving(path, serve, tf.TensorSpec([None, 4], tf.float32, name="x"))


@pytest.fixture
def exported_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `python -m export` in this process, which has imported TensorFlow; other tests run it as the command."""
    def export(command: str, *arguments: str) -> None:
        try:
            COMMANDS.main([command, *arguments], standalone_mode=False)
        except UserError as error:
            raise ExportError(str(error)) from None
    monkeypatch.setattr("benchmark.targets.inputs.export", export)


@contextmanager
def started(folder: Path, build: Callable[[Path], None], backend: str = "session") -> Iterator[Instance]:
    build(folder / "m/original/1")
    instance = start(Target("original", "m", backend, folder / "m/original"))
    try:
        instance.ready()
        yield instance
    finally:
        instance.stop()


def asked(instance: Instance, inputs: Inputs, batch: int = 3, vary: bool = True, known: bool = True) -> FirstAnswers:
    version = instance.target.version_directory if known else None
    found = first_answers(inputs, instance, lambda: instance.connect("grpc"), batch, version, vary)
    found.connection.close()
    return found


def _different(found: FirstAnswers, key: str) -> int:
    return len(np.unique(np.concatenate([each[key] for each in found.expected]), axis=0))


@pytest.mark.parametrize(("build", "output", "least"), [
    # Words in a constant table. Ten seconds each; a command with one of these is in test_real_servers.py.
    pytest.param(saved_models.text_vectorization, "output_0", 4, marks=pytest.mark.proof),
    pytest.param(saved_models.tf_example, "scores", 4, marks=pytest.mark.proof),
    pytest.param(awkward_models.any_rank, "y", 4, marks=pytest.mark.proof),
    pytest.param(rows_of_a_small_table, "row", 3, marks=pytest.mark.proof),
    pytest.param(numbers_of_a_table, "place", 4, marks=pytest.mark.proof)],
    ids=lambda value: getattr(value, "__name__", ""))
def test_inputs_that_metadata_cannot_show_are_made_from_the_graph(
        build: Callable[[Path], None], output: str, least: int, tmp_path: Path) -> None:
    inputs = Inputs(seed=3)
    with started(tmp_path, build) as instance:
        found = asked(instance, inputs)
        assert found.inputs == "inputs made by python -m export samples, seed 3"
        assert len(found.batches) == 4
        assert all(len(array) == 3 for batch in found.batches for array in batch.values())
        assert _different(found, output) >= least


@pytest.mark.usefixtures("exported_here")
def test_words_come_from_a_file_among_the_assets_once_for_a_command(tmp_path: Path) -> None:
    inputs = Inputs()
    with started(tmp_path, saved_models.table) as instance:
        found, again = asked(instance, inputs), asked(instance, inputs)
    words = [word for batch in found.batches for word in batch["words"].tolist()]
    assert set(words) & {word.encode() for word in WORDS}
    assert words == [word for batch in again.batches for word in batch["words"].tolist()]


@pytest.mark.usefixtures("exported_here")
def test_a_server_is_asked_over_the_wire_with_them(tmp_path: Path) -> None:
    with started(tmp_path, rows_of_a_small_table, "embedded") as instance:
        assert _different(asked(instance, Inputs()), "row") == 3
        with pytest.raises(AnswerError, match="is not in"):
            asked(instance, Inputs(), known=False)  # as at an address, where no files are known


def test_what_metadata_shows_is_enough_for_most_models(tmp_path: Path) -> None:
    with started(tmp_path, write_tiny_saved_model) as instance:
        assert asked(instance, Inputs()).inputs == "random inputs from the model's metadata, seed 0"


@pytest.mark.usefixtures("exported_here")
def test_a_model_whose_answers_never_change(tmp_path: Path) -> None:
    with started(tmp_path, always_the_same) as instance:
        inputs = Inputs()
        with pytest.raises(FailedError, match=r"original: the reference is constant .*--samples FILE\.npz"):
            asked(instance, inputs)
        assert asked(instance, inputs, vary=False).constant


@pytest.mark.usefixtures("exported_here")
@pytest.mark.parametrize(("build", "words"), [
    (reads_files, r"original takes strings as 'names', and its metadata does not say which, and python -m export "
                  r"samples makes no others: .*ReadFile"),
    (refuses_everything, r"original refuses the inputs made from its metadata \(.*far too small.*\), and python -m "
                         r"export samples makes no others: .*far too small.*--samples")],
    ids=["reads_files", "refuses_everything"])
def test_the_reason_is_shown_where_none_can_be_made(build: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    with started(tmp_path, build) as instance, pytest.raises(FailedError, match=words):
        asked(instance, Inputs())


def test_samples_of_the_user_are_final(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, ids=np.full(12, 7))
    with started(tmp_path, rows_of_a_small_table) as instance, pytest.raises(AnswerError, match="not in"):
        asked(instance, Inputs(samples=path))


class Deadly(Inputs):
    """Inputs of which the process dies, until others are made from the graph."""

    instance: Instance

    def batches(self, *arguments: Any, **named: Any) -> tuple[list[Arrays], str]:
        batches, words = super().batches(*arguments, **named)
        if "random" in words:
            assert self.instance.child is not None
            os.kill(self.instance.child.process.pid, signal.SIGKILL)
        return batches, words


def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    with started(tmp_path, write_tiny_saved_model, "embedded") as instance:
        inputs = Deadly()
        object.__setattr__(inputs, "instance", instance)
        found = asked(instance, inputs)
        assert found.inputs.startswith("inputs made by python -m export samples")
        assert instance.child is not None
        assert instance.child.alive


@pytest.mark.slow
def test_a_slow_model_is_asked_for_fewer_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 5.0))  # each answer takes five seconds
    with started(tmp_path, awkward_models.any_rank) as instance:
        quick = asked(instance, Inputs())
        monkeypatch.setattr(first_answers_module, "perf_counter", lambda: next(clock))
        slow = asked(instance, Inputs())
    assert len(quick.batches) == len(quick.expected) == DISTINCT
    assert len(slow.batches) == len(slow.expected) == 2
    assert slow.inputs == f"{quick.inputs}: the first 2"
