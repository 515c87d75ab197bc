"""Runs TensorFlow Serving's own end-to-end tests; UPSTREAM is the path of a checkout of github.com/tensorflow/serving.

    UPSTREAM=path make proof ONLY=upstream

Some tests need more: tf_keras and tensorflow_text (on PYTHONPATH, if not installed), the TFLite engine, and a model
that partial checkouts lack.
"""
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from proof import ROOT, Proof

UPSTREAM = os.environ.get("UPSTREAM", "")
TESTS = 30  # without the one of tf.test.TestCase, which is always skipped
MODELS = "tensorflow_serving/servables/tensorflow/testdata"


def expected_failures(checkout: Path) -> dict[str, str]:
    """The tests that cannot pass on this machine, whatever the server does: name -> reason."""
    found: dict[str, str] = {}
    if not (ROOT / "serving" / "engines" / "litert.py").exists():
        found |= dict.fromkeys(("testPredictOnTfLite", "testPredictWithSignatureDefOnTfLite"),
                               "the embedded server has no TFLite engine yet")
    if find_spec("tf_keras") is None:
        found |= dict.fromkeys(
            ("test_sequential_keras_saved_model_save", "test_distrat_sequential_keras_saved_model_save"),
            "the test needs Keras 2, which names the input x (Keras 3: inputs); tf_keras is not installed")
    if find_spec("tensorflow_text") is None:
        found["test_tf_text"] = "its model needs the operations of tensorflow_text, which is not installed"
    elif not (checkout / MODELS / "tf_text_regression" / "01" / "saved_model.pb").is_file():
        found["test_tf_text"] = "the checkout lacks its model, tf_text_regression/01/saved_model.pb"
    return found


@pytest.mark.proof
@pytest.mark.skipif(not UPSTREAM, reason="UPSTREAM=path of a checkout of github.com/tensorflow/serving is not given")
def test_upstream(tmp_path: Path) -> None:
    checkout = Path(UPSTREAM).resolve()
    test = checkout / "tensorflow_serving" / "model_servers" / "tensorflow_model_server_test.py"
    assert test.is_file(), f"UPSTREAM={UPSTREAM} is not a checkout of github.com/tensorflow/serving: {test} is missing"

    def run() -> dict[str, Any]:
        results = tmp_path / "results.json"
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
        if find_spec("tf_keras") is not None:
            environment["TF_USE_LEGACY_KERAS"] = "1"
        child = subprocess.run([sys.executable, "tests/support/upstream_tests.py", str(checkout),
                                str(tmp_path / "work"), str(results)], cwd=ROOT, env=environment,
                               capture_output=True, text=True, check=False)
        assert results.exists(), child.stderr[-3000:]
        outcomes = json.loads(results.read_text())
        reasons = expected_failures(checkout)
        return {"tests": len(outcomes), "passed": sum(what == "passed" for what in outcomes.values()),
                "outcomes": {name: what if what == "passed" or name not in reasons else f"{what}; {reasons[name]}"
                             for name, what in sorted(outcomes.items())}}

    row = Proof("upstream", 0, ["serving", "tests/support/upstream_tests.py"]).row("tensorflow_model_server_test", run)
    assert row["tests"] >= TESTS
    failed = {name: what for name, what in row["outcomes"].items() if what != "passed"}
    assert failed.keys() <= expected_failures(checkout).keys(), failed
