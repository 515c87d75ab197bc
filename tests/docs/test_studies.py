"""The pages of the studies show what docs/proof/study_NAME.json holds: tables, and pictures byte for byte."""
from pathlib import Path
from typing import cast

from benchmark.reports import stored, study_page
from benchmark.reports.study_result import StudyResult

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/studies"
PROOFS = sorted((ROOT / "docs/proof").glob("study_*.json"))
AGAIN = "benchmark.reports.study_page.write fills it in again"


def _shown(result: StudyResult) -> list[str]:
    """The keys of the blocks that a page must have: those that the result has something for."""
    has = {"article": result["article"]["table"]["rows"], "variants": result["variants"], "limits": result["limits"],
           "goals": result["goals"], "missing": result["does_not_run"]}
    return ["machine", "parts", *(key for key, values in has.items() if values)]


def test_each_study_has_a_page_with_its_figures() -> None:
    for path in PROOFS:
        result = cast(StudyResult, stored.load(path))
        assert path.name == f"study_{result['study']}.json"
        page = FOLDER / f"{result['study']}.md"
        assert page.is_file(), f"{path.name} has no page docs/studies/{page.name}"
        text = page.read_text()
        assert study_page.fill(text, result) == text, f"{page.name} is not filled from {path.name}: {AGAIN}"
        for key in _shown(result):
            assert study_page.blocks(result)[key] in text, f"{page.name} has no block <!-- study: {key} -->"
        assert f"]({result['study']}.svg)" in text, f"{page.name} does not show its picture"


def test_each_picture_is_drawn_from_its_proof() -> None:
    drawn: dict[str, str] = {}
    for path in PROOFS:
        drawn |= study_page.pictures(cast(StudyResult, stored.load(path)))
    for name, picture in drawn.items():
        assert (FOLDER / name).read_text() == picture, f"{name} is not what its proof gives: {AGAIN}"
    assert {path.name for path in FOLDER.glob("*.svg")} == drawn.keys()
