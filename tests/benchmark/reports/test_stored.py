"""`report` reads and shows results that earlier versions stored.

The files in data/ were written by short real runs (null servers, a tiny model) before benchmark/ had subfolders: their
blocks have the key "half" instead of "replica". The flame graph was cut to a few boxes, the interrupted run to two
rounds. tune.json is of the commit that made tune a kind of result.
"""
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from benchmark import report
from benchmark.reports import kinds, stored, terminal
from benchmark.reports.compare import CompareResult
from benchmark.verdicts.block import Block

DATA = Path(__file__).with_name("data")
RESULTS = sorted(DATA.iterdir())


def _report(*arguments: object) -> str:
    done = CliRunner().invoke(report.command, [str(each) for each in arguments])
    assert done.exception is None, done.exception
    return done.stdout


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_stored_result_is_shown_in_every_form(path: Path, tmp_path: Path) -> None:
    result = stored.load(path)
    kind = kinds.of(result)
    assert all(table.row_count for table in kind.tables(result))
    page = kind.html(result)
    assert page.startswith("<!doctype html>")
    assert str(result["environment"]["cpu"]) in page
    found = re.search(r'<script type="application/json" id="result">(.*?)</script>', page)
    assert found
    assert json.loads(found[1])["kind"] == result["kind"]
    written = tmp_path / "r.md"
    shown = _report(path, "--markdown", written, "--html", tmp_path / "r.html")
    for table in kind.tables(result):
        assert terminal.markdown(table) in written.read_text()
    for line in kind.lines(result):
        assert terminal.plain(line) in shown
        assert terminal.plain(line) in written.read_text()
    assert (tmp_path / "r.html").read_text() == page


def test_every_kind_has_a_stored_result() -> None:
    assert {stored.load(path)["kind"] for path in RESULTS} == set(kinds.KINDS)


def test_the_figures_of_a_stored_comparison_follow_from_its_blocks() -> None:
    """The stored figures are those that the current code computes from the stored blocks."""
    text = (DATA / "compare.json").read_text()
    assert '"half"' in text
    assert '"replica"' not in text
    result = cast(CompareResult, stored.load(DATA / "compare.json"))
    blocks = [Block.from_json(block) for block in result["blocks"]]
    assert {block.replica for block in blocks} == {0, 1}
    names = list(dict.fromkeys(each["target"] for each in result["summaries"]))
    made = [each for each in kinds.compare.compared(names, blocks)["comparisons"] if each["metric"] != "typical"]
    for old, new in zip(result["comparisons"], made, strict=True):
        assert old["verdict"] == new["verdict"]
        assert new["ratio"] == pytest.approx(old["ratio"])
        assert new["aa_ratio"] == pytest.approx(old["aa_ratio"])


def test_the_rounds_of_an_interrupted_run_become_a_result() -> None:
    result = cast(CompareResult, stored.load(DATA / "interrupted.rounds"))
    assert result["interrupted"]
    assert {block["replica"] for block in result["blocks"]} == {0, 1}
    assert "interrupted: the rounds finished until then" in _report(DATA / "interrupted.rounds")


def test_several_stored_results_are_shown_side_by_side(tmp_path: Path) -> None:
    other = json.loads((DATA / "compare.json").read_text())
    other["environment"]["kernel"] = "another"
    (tmp_path / "later.json").write_text(json.dumps(other))
    shown = _report(DATA / "compare.json", tmp_path / "later.json", DATA / "run.json", "--html", tmp_path / "r.html",
                    "--json", tmp_path / "r.json")
    assert "later.json differs from compare.json in kernel: another" in shown
    page = (tmp_path / "r.html").read_text()
    assert page.index("Ratios, each measured") < page.index("later.json differs from compare.json in kernel")
    assert "single-stream" in page
    assert [each["kind"] for each in json.loads((tmp_path / "r.json").read_text())["runs"]] == [
        "compare", "compare", "run"]


@pytest.mark.parametrize("path", [path for path in RESULTS if path.suffix == ".json"], ids=lambda path: path.stem)
def test_a_result_without_a_key_it_needs_is_refused(path: Path, tmp_path: Path) -> None:
    whole: dict[str, Any] = json.loads(path.read_text())
    for key in kinds.KINDS[whole["kind"]].NEEDED - {"inputs"}:
        (tmp_path / "x.json").write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        done = CliRunner().invoke(report.command, [str(tmp_path / "x.json")])
        assert "is not a result of 'python -m benchmark'" in str(done.exception), key
