"""The opening chart of a study: what it shows of any way, and that all of it is within the picture."""
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmark.reports import picture, stored, way

DATA = Path(__file__).with_name("data")
SVG = "{http://www.w3.org/2000/svg}"
STUDIES = ("study", "study_ssd", "study_g2p", "study_keras")


def _result(name: str = "study", **of_the_way: Any) -> Any:
    result: Any = stored.load(DATA / f"{name}.json")
    result["way"].update(of_the_way)
    return result


def _step(label: str, ratio: float, ci95: list[float | None], verdict: str, note: str = "1 ms") -> way.Step:
    return {"label": label, "ratio": ratio, "ci95": ci95, "verdict": verdict, "note": note}


ORIGINAL = _step("original", 1.0, [1.0, 1.0], "")


def _drawn(result: Any) -> ElementTree.Element:
    return ElementTree.fromstring(way.svg(result))


def _texts(drawn: ElementTree.Element) -> list[str]:
    return ["".join(each.itertext()) for each in drawn.iter(f"{SVG}text")]


def _bars(drawn: ElementTree.Element) -> list[tuple[str, float, float]]:
    """Class, left end and width of each bar."""
    return [(each.attrib["class"], float(each.attrib["x"]), float(each.attrib["width"]))
            for each in drawn.iter(f"{SVG}rect") if each.attrib["class"] in way.NUMBERS]


@pytest.mark.parametrize("name", STUDIES)
def test_each_step_has_its_label_figure_and_ratio(name: str) -> None:
    result = _result(name)
    drawn = _drawn(result)
    texts = " ".join(_texts(drawn))
    for step in result["way"]["steps"]:
        assert f"{step['label']} {step['note']}" in texts
        assert way.ratio_text(step["ratio"]) in texts
    for published in result["way"]["published"]:
        assert f"{published['label']}, published {way.ratio_text(published['ratio'])}" in texts
    for shown in (result["title"], result["way"]["title"], result["cpu_class"], "2026-11-29", result["command"]):
        assert shown in texts
    assert len(_bars(drawn)) == len(result["way"]["steps"])
    assert drawn.attrib["role"] == "img"
    assert all(step["label"] in (drawn.findtext(f"{SVG}desc") or "") for step in result["way"]["steps"])


@pytest.mark.parametrize("name", STUDIES)
def test_all_shapes_and_texts_are_within_the_picture(name: str) -> None:
    long = "a label so long that it says everything about engine, precision, protocol, threads and instruction sets"
    result = _result(name)
    result["way"]["steps"] += [_step(long, 0.5, [0.1, 90.0], "slower", "2 s"), _step("x" * 200, 1.0, [None, None], "")]
    result["way"]["steps"] += [_step(f"step {i}", 1.1, [1.0, 1.2], "faster") for i in range(12)]
    drawn = _drawn(result)
    height = float(drawn.attrib["viewBox"].split()[3])
    for each in drawn.iter(f"{SVG}rect"):
        assert float(each.attrib.get("x", 0)) >= 0
        assert float(each.attrib.get("x", 0)) + float(each.attrib["width"]) <= picture.WIDTH
        assert float(each.attrib.get("y", 0)) + float(each.attrib["height"]) <= height
    for each in drawn.iter(f"{SVG}path"):
        ends = map(float, re.findall(r"[MH]([\d.]+)", each.attrib["d"]))
        assert all(picture.EDGE <= x <= picture.WIDTH - picture.EDGE for x in ends)
    for each in drawn.iter(f"{SVG}text"):
        size = float(each.attrib["font-size"])
        assert size >= 12
        assert size < float(each.attrib["y"]) < height
        if not each.attrib.get("text-anchor"):
            wide = picture.width_of("".join(each.itertext()), size)
            assert float(each.attrib["x"]) + wide <= picture.WIDTH - picture.EDGE / 2, "".join(each.itertext())


def test_bars_are_linear_from_zero_and_logarithmic_from_one_past_ten() -> None:
    def widths(*ratios: float) -> list[float]:
        steps = [ORIGINAL, *(_step(f"{ratio}", ratio, [None, None], "faster") for ratio in ratios)]
        return [width for _, _, width in _bars(_drawn(_result(steps=steps, published=[])))]
    one, two, eight = widths(2.0, 8.0)
    assert two == pytest.approx(2 * one, rel=0.01)
    assert eight == pytest.approx(8 * one, rel=0.01)
    _, ten, hundred = widths(10.0, 100.0)
    assert hundred == pytest.approx(2 * ten, rel=0.01)
    assert "logarithmic scale" in way.svg(_result("study_g2p"))
    assert "logarithmic scale" not in way.svg(_result("study"))
    assert "logarithmic" in way.svg(_result(published=[{"label": "an article", "ratio": 22.0}]))


def test_colours_say_the_verdict_and_words_say_it_too() -> None:
    steps = [ORIGINAL, _step("a", 1.5, [1.4, 1.6], "faster"), _step("b", 0.8, [0.7, 0.9], "slower"),
             _step("c", 1.0, [0.9, 1.1], "cannot tell"), _step("d", 2.5, [2.4, 2.6], "faster")]
    drawn = _drawn(_result(steps=steps))
    assert [style for style, _, _ in _bars(drawn)] == ["start", "faster", "slower", "cannot", "fastest"]
    assert {"b 1 ms, slower", "c 1 ms, cannot tell"} <= set(_texts(drawn))
    below = {style: left + width for style, left, width in _bars(_drawn(_result(
        "study_g2p", steps=[*steps[:3], _step("e", 40.0, [39.0, 41.0], "faster")])))}
    assert below["slower"] < below["faster"]  # left of 1 on the logarithmic axis
    assert "No step is proven faster" in _texts(_drawn(_result(steps=[ORIGINAL, steps[3]])))


def test_what_the_ratios_are_of_is_named_even_if_it_is_not_shown() -> None:
    shown = " ".join(_texts(_drawn(_result("study_g2p"))))
    assert "Times as fast as “client loop of 20 calls”, 95 % intervals" in shown
    steps = [_step("original", 0.9, [0.88, 0.92], "slower"), _step("int8", 2.0, [1.9, 2.1], "faster")]
    drawn = _drawn(_result(steps=steps))
    texts = " ".join(_texts(drawn))
    assert "Times as fast as the original at its best settings, 95 %" in texts
    assert "the original at its best settings → int8" in texts
    assert [style for style, _, _ in _bars(drawn)] == ["slower", "fastest"]


def test_an_invalid_step_says_so() -> None:
    drawn = _drawn(_result(steps=[ORIGINAL, _step("a", 2.0, [1.9, 2.1], "INVALID")]))
    assert "a 1 ms, INVALID" in _texts(drawn)
    assert [style for style, _, _ in _bars(drawn)] == ["start", "cannot"]


def test_a_missing_interval_has_no_whisker() -> None:
    def whiskers(ci95: list[float | None]) -> int:
        return way.svg(_result(steps=[ORIGINAL, _step("a", 2.0, ci95, "faster")])).count('class="whisker"')
    assert whiskers([1.9, 2.1]) == 1
    assert whiskers([None, None]) == whiskers([None, 2.1]) == whiskers([2.0, 2.0]) == 0
    assert "95 % intervals" not in way.svg(_result(steps=[ORIGINAL]))


def test_one_wide_interval_does_not_push_the_bars_together() -> None:
    def longest(ci95: list[float | None]) -> float:
        return max(width for _, _, width in _bars(_drawn(_result(steps=[ORIGINAL, _step("a", 2.0, ci95, "faster")]))))
    assert longest([0.1, 900.0]) > 0.7 * longest([1.9, 2.1])


def test_the_articles_figure_is_marked_on_every_bar() -> None:
    result = _result()
    count = len(result["way"]["steps"])
    svg = way.svg(result)
    assert svg.count('class="mark"') == count
    marks = set(re.findall(r'class="mark" d="M([\d.]+) ', svg))
    diamond = re.search(r'<path class="published" d="M([\d.]+) ', svg)
    assert diamond
    assert marks == {diamond[1]}


def test_markup_and_control_characters_in_names_are_harmless() -> None:
    drawn = _drawn(_result(steps=[ORIGINAL, _step('<b> "a" & \x00\x1b[0m', 2.0, [1.9, 2.1], "faster")]))
    assert any('<b> "a" & [0m' in text for text in _texts(drawn))


def test_the_file_needs_nothing_beside_it() -> None:
    svg = way.svg(_result())
    assert "prefers-color-scheme:dark" in svg
    assert svg.count("http") == 1  # the namespace
    assert not re.search(r"<script|<image|@import|@font-face|var\(", svg)
    assert svg == way.svg(_result())


@pytest.mark.parametrize(("ratio", "text"), [(0.814, "0.81×"), (2.8, "2.80×"), (9.996, "10.0×"), (22.04, "22.0×"),
                                             (99.96, "100×"), (151.7, "152×")])
def test_ratios_have_three_digits(ratio: float, text: str) -> None:
    assert way.ratio_text(ratio) == text
