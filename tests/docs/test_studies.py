"""The pages of the studies show what docs/proof/study_NAME.json holds: tables, and pictures byte for byte."""
from pathlib import Path
from typing import cast

from benchmark.reports import stored, study_page
from benchmark.reports.study_result import StudyResult

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/studies"
PROOFS = sorted((ROOT / "docs/proof").glob("study_*.json"))
AGAIN = "write the files of benchmark.reports.study_page.files again"


def test_each_study_has_a_page_with_its_figures() -> None:
    for path in PROOFS:
        result = cast(StudyResult, stored.load(path))
        assert path.name == f"study_{result['study']}.json"
        page = FOLDER / f"{result['study']}.md"
        assert page.is_file(), f"{path.name} has no page docs/studies/{page.name}"
        text = page.read_text()
        for key, block in study_page.blocks(result).items():
            assert block in text, f"the block {key} of {page.name} is not that of {path.name}: {AGAIN}"
        assert study_page.fill(text, result) == text, f"{page.name} is not filled from {path.name}: {AGAIN}"
        assert f"]({result['study']}.svg)" in text, f"{page.name} does not show its picture"


def test_each_picture_is_drawn_from_its_proof() -> None:
    drawn = {}
    for path in PROOFS:
        drawn |= study_page.pictures(cast(StudyResult, stored.load(path)))
    for name, picture in drawn.items():
        assert (FOLDER / name).read_text() == picture, f"{name} is not what its proof gives: {AGAIN}"
    assert {path.name for path in FOLDER.glob("*.svg")} == drawn.keys()
