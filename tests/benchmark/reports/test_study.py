"""The page of a study: what it shows of each part, and of several studies."""
import re
from base64 import b64decode
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from benchmark.reports import stored, study, study_page, study_tables, terminal, way

DATA = Path(__file__).with_name("data")
STUDIES = ("study", "study_ssd", "study_g2p", "study_keras")


def _result(name: str = "study") -> Any:
    return stored.load(DATA / f"{name}.json")


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_begins_with_the_picture_and_has_every_part(name: str) -> None:
    result = _result(name)
    page = study.html(result)
    shown = re.search(r'<img class="picture" alt="[^"]*" src="data:image/svg\+xml;base64,([^"]*)">', page)
    assert shown
    assert b64decode(shown[1]).decode() == way.svg(result)
    headings = [unescape(found) for found in re.findall(r'<h2 class="part">([^<]*)</h2>', page)]
    assert headings == ["Beside the article", *(part["title"] for part in result["parts"]),
                        "Operations and sizes, before and after",
                        *(["Against the machine"] if result["limits"] else []),
                        *(["Goals"] if result["goals"] else []),
                        *(["What does not run"] if result["does_not_run"] else [])]
    assert page.count("Operations of ") == len(result["variants"])
    assert page.count("Class of CPU: avx512_vnni with bf16; 2026-11-29.") > len(result["parts"])
    for goal in result["goals"]:
        assert f'<div class="big">{"met" if goal["met"] else "not met"}</div><div class="sure">{goal["seen"]}' in page
    assert "<script src" not in page
    assert not re.search(r'<(img|link|script)[^>]*(src|href)="http', page)


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_is_in_the_table_of_its_part(name: str) -> None:
    result = _result(name)
    for part in result["parts"]:
        rows = study_tables.part(result, part).rows
        assert [row[0] for row in rows] == [row["label"] for row in part["rows"]]


def test_the_articles_rows_stand_beside_the_same_rows_here() -> None:
    grid, = study_tables.article(_result())
    assert grid.head == ["", "2018: total s", "2018: ms/batch", "here: total s", "here: mean ms", "here: ratio, 95 %"]
    assert grid.rows == [["original", "189.8", "189.8", "16.80", "16.8", "1"],
                         ["optimized", "162.4", "162.4", "16.20", "16.2", "1.04× [1.02, 1.05]"],
                         ["int8", "", "", "6.01", "6.01", "2.80× [2.75, 2.84]"],
                         ["int8, LiteRT", "", "", "4.88", "4.88", "3.45× [3.39, 3.50]"]]
    assert study_tables.article(_result("study_ssd"))[0].rows[1] == [
        "optimized", "26.9", "1.66", "44.8", "22.3", "1.71× [1.69, 1.73]"]


def test_without_common_rows_there_are_two_tables() -> None:
    theirs, ours = study_tables.article(_result("study_g2p"))
    assert theirs.head == ["step", "times"]
    assert theirs.rows[0] == ["threads 1/1", "5.9x"]
    assert ours.head == ["here", "total s", "mean ms", "ratio, 95 %"]
    assert ours.rows[-1] == ["with XLA", "0.041", "0.207", "152× [147, 158]"]
    none: Any = {**_result(), "parts": []}
    assert study_tables.article(none)[0].rows[0] == ["original", "189.8", "189.8"]
    ours, = study_tables.article(_result("study_keras"))
    assert [row[0] for row in ours.rows] == ["Keras predict", "int8", "litert"]
    assert study_tables.article({**none, "article": _result("study_keras")["article"]}) == []


def test_counts_of_operations_stand_beside_the_articles() -> None:
    result = _result("study_ssd")
    result["article"]["table"] = {"head": ["", "original", "optimized", "gain"], "rows": [
        ["pictures a second", "15.67", "", "1.66"], ["FusedBatchNormV3", "77", "0"], ["Nodes", "2,000"], ["AddN", "4"]]}
    theirs, ours = study_tables.article(result)
    assert theirs.head == ["", "original", "optimized", "gain", "here: original", "here: optimized"]
    assert theirs.rows == [["pictures a second", "15.67", "", "1.66", "", ""],
                           ["FusedBatchNormV3", "77", "0", "", "77", "0"], ["Nodes", "2,000", "", "", "1,254", "612"],
                           ["AddN", "4", "", "", "", ""]]
    assert ours.head[1] == "examples/s"


def test_the_published_figure_is_told_beside_ours() -> None:
    assert study_tables.beside_the_article(_result("study_g2p")) == [
        "Published: thekevjames 2019, 6.19×; here (1 word, one CPU, gRPC from the third step on), 152× [147, 158]: "
        "with XLA."]
    slow = _result()
    for step in slow["way"]["steps"]:
        step["verdict"] = "cannot tell"
    assert study_tables.beside_the_article(slow)[0].endswith("no step is proven faster.")


def test_columns_without_values_are_left_out_and_another_class_of_cpu_is_named() -> None:
    result = _result("study_keras")
    grid = study_tables.part(result, result["parts"][0])
    assert "right" not in grid.head
    assert grid.head[-1] == "class of CPU"
    assert [row[-1] for row in grid.rows] == ["avx512_vnni with bf16", "amx", "avx512_vnni with bf16"]
    assert grid.rows[0][grid.head.index("p99 ms")] == "~522.6"
    assert "~: p99 needs" in study_tables.below(result, result["parts"][0])
    mnist = _result()
    grid = study_tables.part(mnist, mnist["parts"][1])
    assert "class of CPU" not in grid.head
    assert [row[grid.head.index("verdict")] for row in grid.rows] == ["", "cannot tell", "INVALID"]
    assert "~" not in study_tables.below(mnist, mnist["parts"][1])


def test_the_chart_of_a_part_is_in_its_unit() -> None:
    page = study.html(_result())
    assert "gRPC, batch 100: mean time" in page
    assert "16.8 ms</text>" in page
    assert "in-process, batch 1: throughput" in page
    assert "2,427 /s</text>" in page


def test_a_study_in_which_nothing_ran_is_shown_too() -> None:
    result = _result()
    result["way"]["steps"] = []
    for part in result["parts"]:
        part["rows"] = []
    result["variants"] = []
    page = study.html(result)
    assert page.count("Nothing was measured here.") == len(result["parts"])
    assert [table.row_count for table in study.tables(result)][1:3] == [0, 0]
    assert all("Nothing was measured here." in study_page.blocks(result)["parts"].split(part["title"])[1]
               for part in result["parts"])
    assert "No step is proven faster" in study_page.pictures(result)["mnist.svg"]


def test_names_are_escaped() -> None:
    result = _result()
    result["title"] = result["parts"][0]["title"] = result["goals"][0]["goal"] = "<b>"
    result["parts"][0]["rows"][0]["label"] = result["variants"][0]["name"] = result["does_not_run"][0]["why"] = "<b>"
    result["parts"][0]["notes"] = ["<b>"]
    result["article"].update(title="<b>", author="<b>", url="javascript:alert(1)")
    page = re.sub(r'<script type="application/json".*', "", study.html(result), flags=re.DOTALL)
    assert "<b>" not in page
    assert 'href="javascript' not in page


def test_several_studies_are_one_page_with_contents() -> None:
    results = [_result(name) for name in STUDIES]
    page = study.html_all(results)
    for result in results:
        assert f'<a href="#study-{result["study"]}">' in page
        assert page.count(f'<h2 id="study-{result["study"]}">') == 1
    assert page.count('<img class="picture"') == len(STUDIES)
    assert "152×, with XLA (1 word" in page
    assert "thekevjames 2019: 6.19×" in page
    ids = re.findall(r' id="([^"]*)"', page.split('<script type="application/json"')[0])
    assert len(ids) == len(set(ids))


def test_the_terminal_shows_the_way_the_parts_and_the_goals() -> None:
    result = _result()
    tables = study.tables(result)
    assert [table.row_count for table in tables] == [6, 8, 3, 2]
    assert terminal.plain(study.lines(result)[0]) == (
        "NOT met: 1.05 in float32 with a verdict: 1.04 [1.02, 1.05] faster")
    assert study.lines(result)[1].startswith("Met: at or past 2.92")
    assert study.lines(result)[2].startswith("Does not run: zenTF: no wheel")


def test_many_variants_are_rows() -> None:
    result = _result("study_ssd")
    result["variants"] = [{**each, "name": f"{model}, {each['name']}"} for model in
                          ("ResNet50", "MobileNetV2", "Encoder") for each in result["variants"]]
    grid = study_tables.variants(result)
    assert grid.head[:4] == ["", "size on disk", "nodes", "Const"]
    assert [row[0] for row in grid.rows] == [each["name"] for each in result["variants"]]
    assert grid.rows[0][:4] == ["ResNet50, original", "102 MB", "1,254", "396"]
    page = study.html(result)
    assert re.findall(r'<text class="group"[^>]*>(ResNet50|MobileNetV2|Encoder)<', page) == [
        "ResNet50", "MobileNetV2", "Encoder"]
