"""freeze, transform and reconvert by hand, and `optimize`, on the reference model."""
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from commandline import status_of
from export.job import code
from user_error import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_by_hand_equals_optimize(mnist: Path, run: Callable[..., object], tmp_path: Path,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    frozen, transformed = tmp_path / "frozen.pb", tmp_path / "transformed.pb"
    run("freeze", mnist, "--out", frozen)
    flags = capsys.readouterr().out.split()[3:]
    assert flags[::2] == ["--inputs", "--outputs"]
    inputs, outputs = (flag.strip("'") for flag in flags[1::2])
    run("transform", "--in_graph", frozen, "--out_graph", transformed, "--inputs", inputs, "--outputs", outputs,
        "--transforms", "default fork_by_rows")
    run("reconvert", transformed, "--like", mnist, "--to", tmp_path / "by-hand")
    run("optimize", mnist, "--to", tmp_path / "optimized")
    by_hand, optimized = (tmp_path / name / "1" / "saved_model.pb" for name in ("by-hand", "optimized"))
    assert by_hand.read_bytes() == optimized.read_bytes()


@pytest.fixture(scope="module")
def optimized(mnist: Path, run: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("mnist") / "optimized"
    run("optimize", mnist, "--to", base, "--json", base.parent / "report.json")
    return base


def test_report_and_manifest_have_the_figures(optimized: Path) -> None:
    report = json.loads((optimized.parent / "report.json").read_text())
    manifest = json.loads((optimized / "1" / "assets.extra" / "manifest.json").read_text())
    assert report == {"path": str(optimized / "1"), **manifest}
    equality = manifest["equality"]["serving_default"]
    assert equality["equal"]
    assert equality["batches"] == [1, 3, 100]
    assert (equality["real_examples"], equality["random_examples"]) == (100, 104)  # 100 real ones, asked in 3 batches
    assert equality["accuracy"]["before"] == equality["accuracy"]["after"] > 0.9
    assert manifest["steps"][0]["transform"] == "inline_partitionedcall"
    assert manifest["pipeline"] == "default"
    assert manifest["recipe"]["source"].startswith("sha256:")


def test_warm_up_records_are_the_real_samples(mnist: Path, run: Callable[..., object], tmp_path: Path) -> None:
    run("optimize", mnist, "--to", tmp_path / "o", "--batch", "1,2", "--warmup")
    records = tf.data.TFRecordDataset(str(tmp_path / "o" / "1" / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    assert [log.predict_log.request.model_spec.signature_name for log in logs] == ["serving_default"] * 2
    sent = tf.make_ndarray(logs[1].predict_log.request.inputs["input_image"])
    np.testing.assert_array_equal(sent, np.load(mnist / "1" / "assets.extra" / "samples.npz")["input_image"][:2])


def test_reuse_keeps_a_version_that_is_up_to_date(mnist: Path, optimized: Path, run: Callable[..., object]) -> None:
    run("optimize", mnist, "--to", optimized, "--reuse")
    assert [child.name for child in optimized.iterdir()] == ["1"]


def test_every_module_that_makes_versions_counts_for_reuse() -> None:
    counted = {str(path.relative_to(ROOT)) for path in code()}
    for name in ("export/freeze.py", "export/folding/plan.py", "export/transforms/fold_constants.py",
                 "serving/client/answers.py"):
        assert name in counted
    assert "export/zoo/mnist.py" not in counted


def test_json_on_standard_output_is_nothing_but_json(mnist: Path, optimized: Path, run: Callable[..., object],
                                                     capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (("verify", mnist, optimized), ("describe", mnist), ("scan", optimized),
                      ("optimize", mnist, "--to", optimized, "--reuse"),
                      ("optimize", mnist, "--to", tmp_path / "o", "--batch", "1,2")):
        capsys.readouterr()
        run(*arguments, "--json", "-")
        assert isinstance(json.loads(capsys.readouterr().out), dict), arguments


def test_another_configuration_is_another_version(mnist: Path, optimized: Path, run: Callable[..., object],
                                                  tmp_path: Path) -> None:
    run("optimize", mnist, "--to", tmp_path / "o", "--transforms", "article", "--batch", "1,2", "--reuse")
    run("optimize", mnist, "--to", tmp_path / "o", "--batch", "1,2", "--reuse")
    assert sorted(child.name for child in (tmp_path / "o").iterdir()) == ["1", "2"]


def test_describe_counts_nodes_that_serve(
        mnist: Path, optimized: Path, run: Callable[..., object], tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    run("describe", mnist, optimized, "--json", tmp_path / "both.json", "--html", tmp_path / "ops.html",
        "--tensorboard", tmp_path / "events", "--nodes")
    both = json.loads((tmp_path / "both.json").read_text())
    before, after = both["before"], both["after"]
    assert before["signatures"] == after["signatures"]
    assert before["ops"]["Conv2D"] == after["ops"]["Conv2D"] == 3
    assert (before["variables"], after["variables"]) == (24, 0)
    assert after["nodes"] < before["nodes"]
    assert after["bytes"] < before["bytes"]
    assert "Rsqrt" in before["ops"]
    assert "Rsqrt" not in after["ops"]
    shown = capsys.readouterr().out
    assert "input_image float32 [-1, 28, 28] -> softmax float32 [-1, 10]" in shown
    page = (tmp_path / "ops.html").read_text()
    assert (ROOT / "benchmark/reports/page.css").read_text() in page
    assert "width=device-width" in page
    assert page.count("<table") == page.count('<div class="scroll"><table') == 2
    assert not re.findall(r"(?:src|href)=", page)
    assert len(list((tmp_path / "events").rglob("events.out.tfevents.*"))) == 2


def test_not_equal_is_refused(mnist: Path, run: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing published") as caught:
        run("optimize", mnist, "--to", tmp_path / "o", "--transforms", "round_weights(num_steps=4)")
    assert status_of(caught.value) == 1
    assert str(caught.value).count("output 'softmax' is out of its row") == 1
    assert list(tmp_path.iterdir()) == []


def test_verify_reports_the_difference_of_each_output(mnist: Path, run: Callable[..., object], tmp_path: Path) -> None:
    frozen, rounded = tmp_path / "frozen.pb", tmp_path / "rounded.pb"
    run("freeze", mnist, "--out", frozen)
    run("transform", "--in_graph", frozen, "--out_graph", rounded, "--inputs", "serving_default_input_image",
        "--outputs", "StatefulPartitionedCall,NoOp", "--transforms", "round_weights(num_steps=16)")
    run("reconvert", rounded, "--like", mnist, "--to", tmp_path / "rounded")
    assert run("verify", mnist, tmp_path / "rounded", "--atol", "1") == 0
    with pytest.raises(UserError, match=r"output 'softmax' is out of its row .* where .* was expected") as caught:
        run("verify", mnist, tmp_path / "rounded", "--json", tmp_path / "report.json")
    assert status_of(caught.value) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    output = report["signatures"]["serving_default"]["outputs"]["softmax"]
    assert not report["equal"]
    assert output["max_abs"] > 1e-5
    assert len(output["worst"]) == 2
