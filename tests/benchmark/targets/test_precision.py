"""Which budget a comparison uses: that of the manifest of a version in reduced precision."""
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tiny_saved_model import write_tiny_saved_model

import benchmark
from benchmark.reports import compare as compare_report
from benchmark.targets.precision import budget_between
from benchmark.targets.target import Target, find_target
from serving.client.answers import compare
from user_error import FailedError

pytestmark = pytest.mark.slow

INT8 = {"precision": "int8", "budget": {"disagreement": 0.01, "signatures": {"serving_default": {"y": 0.25}}}}
BFLOAT16 = {"precision": "bfloat16", "budget": {"signatures": {"serving_default": {"y": 0.5}}}}


def version(folder: Path, variant: str, manifest: Any = None, scale: float = 1.0) -> Target:
    path = folder / "models/mine" / variant / "1"
    write_tiny_saved_model(path, scale=scale)
    if manifest is not None:
        (path / "assets.extra").mkdir(exist_ok=True)
        (path / "assets.extra/manifest.json").write_text(
            manifest if isinstance(manifest, str) else json.dumps(manifest))
    return find_target(variant, folder / "models", "mine")


def test_full_precision_has_no_budget(tmp_path: Path) -> None:
    plain, other = version(tmp_path, "a"), version(tmp_path, "b", {"precision": "float32"})
    broken = version(tmp_path, "c", "no json")
    assert budget_between(plain, other) is None
    assert budget_between(plain, broken) is None
    assert budget_between(plain, Target("http://x", "mine", "address", rest="http://x")) is None


def test_the_budget_of_the_reduced_variant_holds_on_either_side(tmp_path: Path) -> None:
    plain, reduced = version(tmp_path, "a"), version(tmp_path, "b", INT8)
    for pair in ((plain, reduced), (reduced, plain), (reduced, reduced)):
        found = budget_between(*pair)
        assert found is not None
        assert str(found.row("y")) == "int8 by its manifest, |a-b| <= 0.25"
        assert found.disagreement == 0.01
        assert found.row("another output").absolute == 0.0  # an output without a bound must be exactly equal


def test_two_reduced_variants_may_each_be_that_far_from_the_original(tmp_path: Path) -> None:
    found = budget_between(version(tmp_path, "a", INT8), version(tmp_path, "b", BFLOAT16))
    assert found is not None
    assert str(found.row("y")) == "int8 by its manifest and bfloat16 by its manifest, |a-b| <= 0.75"
    one, near, far = (({"y": np.float32([1, value])}) for value in (1, 1.7, 1.8))
    assert compare(one, near, found).equal
    assert not compare(one, far, found).equal


def test_another_signature_has_its_own_bounds(tmp_path: Path) -> None:
    found = budget_between(version(tmp_path, "a"), version(tmp_path, "b", INT8), "other")
    assert found is not None
    assert found.row("y").absolute == 0.0


def test_compare_names_the_row_and_refuses_answers_outside_of_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # y grows from column to column, so the top class is 2 for positive inputs and 0 for negative ones.
    signs = np.float32([1, 1, -1, 1])
    (tmp_path / "models/mine/original/1/assets.extra").mkdir(parents=True)
    np.savez(tmp_path / "models/mine/original/1/assets.extra/samples.npz", x=signs[:, None] * np.ones((4, 4), "f"),
             labels=np.int64([2, 2, 0, 1]))
    version(tmp_path, "original")
    version(tmp_path, "near", BFLOAT16, scale=1.001)
    version(tmp_path, "far", BFLOAT16, scale=3.0)
    monkeypatch.chdir(tmp_path)
    found = benchmark.compare("session:original", "session:near", model="mine", repeat=8, processes=1)
    assert "bfloat16 by its manifest, |a-b| <= 0.5" in str(found)
    assert found.result["accuracy"] == {"in-process batch 100": {
        name: {"output": "y", "right": 3, "examples": 4} for name in ("session:original", "session:near")}}
    assert ("in-process batch 100, right: the share of the 4 labelled examples that were sent whose top class of 'y' "
            "is the label") in str(found)
    assert "right on 4 labelled examples: session:original 75.00%, session:near 75.00%" in compare_report.html(
        found.result)
    shown = Console(width=80, file=StringIO())
    shown.print(*compare_report.tables(found.result))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "right" in text
    assert text.count("75.0%") == 2
    assert "…" not in text
    with pytest.raises(FailedError, match=r"session:far gives other answers than session:original.*'y' "):
        benchmark.compare("session:original", "session:far", model="mine", repeat=8, processes=1)
