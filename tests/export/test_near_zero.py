"""Rounding errors are accepted and wrong answers refused, for generated networks whose answers are near zero."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from near_zero_models import KINDS, build
from proof import Proof

from export import equivalence, pipeline, saved_model
from export.asking import Plan
from export.equivalence import Report
from export.freeze import freeze
from export.prepared import content
from export.rounding import measuring


def optimized(path: Path, to: Path) -> Path:
    model = saved_model.read(path)
    frozen = freeze(model)
    graph, _ = pipeline.run(frozen.graph, "default")
    to.mkdir()
    saved_model.write(to, content(model, frozen, graph, saved_model.GRAPH_LIMIT))
    return to


def compared(before: Path, after: Path) -> Report:
    return equivalence.check(before, after, ("serve",), Plan((1, 3, 40)))


def both_right(kind: str, seed: int, folder: Path) -> tuple[float, float]:
    """The folded network is equal; the same network with an error of 1e-3 of its scale is not.

    Returns max|a-b| by folding, and by the error.
    """
    before = build(kind, folder / "before", seed)
    report = compared(before, optimized(before, folder / "after"))
    assert report.equal, (kind, seed, report.why_not())
    wrong = compared(before, build(kind, folder / "wrong", seed, error=1e-3))
    assert not wrong.equal, (kind, seed, wrong.to_json())
    by_folding, by_error = (max(output.max_abs for one in each.signatures.values()
                                for output in one.comparison.outputs.values()) for each in (report, wrong))
    return float(by_folding), float(by_error)


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_accepted_and_an_error_found(tmp_path: Path, kind: str) -> None:
    both_right(kind, 1, tmp_path)


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 22))
def test_proof_near_zero(tmp_path: Path, seed: int) -> None:
    """200 networks: for each seed one of each kind."""
    def measure() -> dict[str, Any]:
        rounding, planted = {}, {}
        for kind in KINDS:
            (tmp_path / kind).mkdir()
            rounding[kind], planted[kind] = both_right(kind, seed, tmp_path / kind)
        return {"networks": len(KINDS), "equal": len(rounding), "errors of 1e-3 found": len(planted),
                "largest difference by rounding": rounding, "largest difference by the error": planted}
    row = Proof("near_zero", 0, [
        "export/equivalence.py", "export/judging.py", "export/rounding.py", "export/folding",
        "serving/client/answers.py", "tests/support/near_zero_models.py"]).row(f"seed {seed}", measure)
    assert row["equal"] == row["errors of 1e-3 found"] == row["networks"]


def test_the_scale_of_a_sum_that_cancels_is_that_of_its_summands(tmp_path: Path) -> None:
    before = build("difference_of_large_numbers", tmp_path / "before", 1)
    inputs = {"x": np.random.default_rng(0).random((50, 12), np.float32)}
    with measuring(saved_model.read(before), "serving_default") as scales:
        measured = scales(inputs)["y"]
    # Numbers of about 1e4 are subtracted from each other; the first column of what remains is about 0.01.
    assert measured.shape == (50, 4)
    assert 1e3 < np.median(measured[:, 0]) < 1e5
