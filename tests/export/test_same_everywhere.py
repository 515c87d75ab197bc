"""All commands accept the same sources and print the same node counts, types, sizes and reasons."""
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from upstream_forms import counter

from export import describe, freeze, manifest, optimization, scan, verification
from user_error import FailedError

tf1 = tf.compat.v1


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments], standalone_mode=False, catch_exceptions=False)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    model = tf.keras.Sequential([tf.keras.Input((4,), name="x"), tf.keras.layers.Dense(3), tf.keras.layers.ReLU()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras' own, of numpy 2
        model.save(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.ckpt-7"
    with tf1.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, 4], "in")
        random = np.random.default_rng(0)
        tf.matmul(x, tf1.get_variable("w", initializer=random.normal(size=(4, 2)).astype(np.float32)), name="out")
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(path))
    return path


ENDS = ("--inputs", "x=in:0", "--outputs", "y=out:0")


def test_every_command_accepts_keras_files(tmp_path: Path, keras_file: Path) -> None:
    assert "x float32 [-1, 4]" in run(describe.command, keras_file).stdout
    assert "nothing touches" in run(scan.command, keras_file).stdout
    run(freeze.command, keras_file, "--out", tmp_path / "frozen.pb")
    assert (tmp_path / "frozen.pb").is_file()
    run(optimization.command, keras_file, "--to", tmp_path / "to")
    assert run(verification.command, keras_file, tmp_path / "to").exception is None


def test_every_command_accepts_checkpoints(tmp_path: Path, checkpoint: Path) -> None:
    assert "x float32 [-1, 4]" in run(describe.command, checkpoint, *ENDS).stdout
    assert "nothing touches" in run(scan.command, f"{checkpoint}.meta", *ENDS).stdout
    run(freeze.command, checkpoint, "--from-checkpoint", *ENDS, "--out", tmp_path / "frozen.pb")
    # A frozen graph is a model, too, if its inputs and outputs are given.
    assert run(verification.command, checkpoint, tmp_path / "frozen.pb", *ENDS).exception is None


def test_one_model_has_one_node_count_and_one_size(tmp_path: Path, keras_file: Path) -> None:
    shown = run(optimization.command, keras_file, "--to", tmp_path / "to").stdout
    described = json.loads(run(describe.command, tmp_path / "to", "--json", "-").stdout)
    kept = manifest.read(tmp_path / "to" / "1")
    assert kept is not None
    assert kept["nodes"]["after"] == described["nodes"] == sum(described["ops"].values())
    assert f"-> {described['nodes']} nodes" in shown
    assert f"-> {described['bytes'] / 1e6:.2f} MB" in shown


def test_a_refusal_has_its_reasons_at_the_top(tmp_path: Path) -> None:
    models = counter(tmp_path / "one"), counter(tmp_path / "two", 2.0)
    with pytest.raises(FailedError):
        run(verification.command, *models, "--json", tmp_path / "report.json")
    reasons = json.loads((tmp_path / "report.json").read_text())["reasons"]
    assert any("changes the variable 'requests'" in reason for reason in reasons)
    assert any(reason.startswith("signature 'serving_default': output 'y'") for reason in reasons)


def test_real_examples_are_counted_once(tmp_path: Path, keras_file: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((8, 4), np.float32), labels=np.arange(8) % 3)
    run(optimization.command, keras_file, "--to", tmp_path / "to", "--samples", tmp_path / "x.npz")
    shown = run(verification.command, keras_file, tmp_path / "to", "--samples", tmp_path / "x.npz").stdout
    assert "8 real and" in shown
    assert "accuracy of 8 examples" in shown
