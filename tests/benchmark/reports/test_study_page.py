"""The pages in docs/studies/: blocks are filled in, and all else stays as it was."""
import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmark.reports import op_counts, stored, study, study_page, way
from user_error import UserError

DATA = Path(__file__).with_name("data")
STUDIES = ("study", "study_ssd", "study_g2p", "study_keras")
KEYS = ["machine", "article", "parts", "variants", "profile", "limits", "goals", "missing"]


def _result(name: str = "study") -> Any:
    return stored.load(DATA / f"{name}.json")


def _page(*keys: str) -> str:
    blocks = "".join(f"Words before {key}.\n\n<!-- study: {key} -->\nold\n<!-- end of study: {key} -->\n"
                     for key in keys)
    return f"# A study\n\n{blocks}\nThe end, <!-- a comment of another kind -->.\n"


@pytest.mark.parametrize("name", STUDIES)
def test_blocks_are_replaced_and_all_else_stays(name: str) -> None:
    result = _result(name)
    made = study_page.blocks(result)
    assert list(made) == KEYS
    page = study_page.fill(_page(*KEYS), result)
    assert "old" not in page.split()
    rest = page
    for key, block in made.items():
        assert block
        whole = f"<!-- study: {key} -->\n\n{block}\n\n<!-- end of study: {key} -->"
        assert rest.count(whole) == 1
        rest = rest.replace(whole, f"<!-- study: {key} -->\nold\n<!-- end of study: {key} -->")
    assert rest == _page(*KEYS)
    assert study_page.fill(page, result) == page


def test_a_page_without_blocks_stays_as_it_is() -> None:
    assert study_page.fill("# A page\n\nWords.\n", _result()) == "# A page\n\nWords.\n"


@pytest.mark.parametrize(("page", "words"), [
    ("<!-- study: speed -->\n<!-- end of study: speed -->", "docs/studies/mnist.md: <!-- study: speed --> is none of "
     "machine, article, parts, variants, profile, limits, goals, missing"),
    ("<!-- study: goals -->\n", "<!-- study: goals --> has no end: write <!-- end of study: goals --> after it"),
    ("<!-- study: goals -->\n<!-- study: parts -->\n<!-- end of study: parts -->", "<!-- study: goals --> has no end"),
    ("<!-- study: goals -->\n<!-- end of study: parts -->", "<!-- end of study: parts --> ends no block"),
    ("<!-- end of study: parts -->",
     "<!-- end of study: parts --> ends no block: write <!-- study: parts --> before it")])
def test_a_comment_that_is_not_understood_is_refused(page: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        study_page.fill(page, _result())


@pytest.mark.parametrize("name", STUDIES)
def test_prose_is_short_and_tables_are_whole(name: str) -> None:
    for block in study_page.blocks(_result(name)).values():
        for line in block.splitlines():
            assert line.startswith("|") or len(line) <= 120
        for table in re.findall(r"(?:^\|.*\n?)+", block, re.MULTILINE):
            columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(columns) == 1, table


def test_figures_stand_beside_their_class_of_cpu_and_date() -> None:
    made = study_page.blocks(_result())
    for key in ("article", "parts", "limits", "goals"):
        assert "Class of CPU: avx512_vnni with bf16; 2026-11-29." in made[key]
    assert "| class of CPU | avx512_vnni with bf16 |" in made["machine"]
    assert "| command | `python -m benchmark study mnist` |" in made["machine"]
    assert "| int8 | gRPC | 100 | 6.01 | 2.80× [2.75, 2.84] | faster | 97.2% |" in made["parts"]
    assert "| Const | 396 → 165 |" in study_page.blocks(_result("study_ssd"))["variants"]
    assert "Not traced in this study." in made["profile"]
    assert "| 1.05 in float32 with a verdict | 1.04 [1.02, 1.05] faster | NOT met |" in made["goals"]


def test_where_the_time_goes_is_shown_by_operation_with_the_sum() -> None:
    result = _result("study_g2p")
    result["profiles"] = [{"title": "One word", "batch": 1, "targets": [
        {"target": "original", "operations": [{"op": "MatMul", "us": 2500.0, "count": 40.0},
                                              {"op": "Split", "us": 100.0, "count": 20.0}]},
        {"target": "in_tables", "operations": [{"op": "MatMul", "us": 300.0, "count": 7.0}]}]}]
    made = study_page.blocks(result)["profile"]
    assert made.startswith("One word:\n\n| operation | original: ms | runs | in_tables: ms | runs |")
    assert "| MatMul | 2.500 | 40 | 0.300 | 7 |\n| Split | 0.100 | 20 |  |  |" in made
    assert "| all operations | 2.600 | 60 | 0.300 | 7 |" in made
    assert "Class of CPU: avx512_vnni with bf16; 2026-11-29." in made
    assert "medians of 20 traced requests" in made
    assert "Where the time goes: One word" in study.html(result)


def test_characters_of_markdown_are_escaped_in_tables() -> None:
    result = _result()
    result["does_not_run"] = [{"what": "a_b *c* _d_", "why": "<class 'X'> | see `x_*|y`\n[link](to)"}]
    assert study_page.blocks(result)["missing"].splitlines()[-1] == (
        r"| a_b \*c\* \_d\_ | &lt;class 'X'> \| see `x_*\|y` [link]\(to) |")


def test_what_is_empty_is_said() -> None:
    empty: Any = {**_result("study_keras"), "variants": [], "parts": [], "does_not_run": []}
    made = study_page.blocks(empty)
    assert made["limits"] == "Not measured in this study."
    assert made["missing"] == "All that was tried runs."
    assert made["goals"] == "This study has no goals."
    assert made["variants"] == "None was counted."
    assert made["article"] == "Class of CPU: avx512_vnni with bf16; 2026-11-29."
    assert list(study_page.pictures(empty)) == ["keras.svg"]


def test_the_files_of_a_study_are_its_page_and_pictures(tmp_path: Path) -> None:
    result, folder = _result(), tmp_path / "studies"
    folder.mkdir()
    (folder / "mnist.md").write_text(_page(*KEYS))
    made = study_page.files(folder, result)
    assert made == {folder / "mnist.md": study_page.fill(_page(*KEYS), result), folder / "mnist.svg": way.svg(result),
                    folder / "mnist-ops.svg": op_counts.svg(result["title"], result["variants"])}
    assert study_page.files(folder, json.loads(json.dumps(result))) == made
    study_page.write(folder, result)
    assert {path: path.read_text() for path in folder.iterdir()} == made
    assert study_page.files(folder, result) == made
    (folder / "mnist.md").write_text("<!-- study: goals -->")
    with pytest.raises(UserError, match="has no end"):
        study_page.write(folder, result)
    assert (folder / "mnist.md").read_text() == "<!-- study: goals -->"


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_that_is_not_there_begins_with_every_block(name: str, tmp_path: Path) -> None:
    result = _result(name)
    study_page.write(tmp_path / "studies", result)
    page = (tmp_path / f"studies/{result['study']}.md").read_text()
    assert page.startswith(f"# {result['title']}\n\n![")
    assert all(len(line) <= 120 for line in page.splitlines() if not line.startswith("|"))
    assert f"]({result['study']}.svg)" in page
    assert all(block in page for block in study_page.blocks(result).values())
    assert study_page.fill(page, result) == page
