"""The verdict card: SVG and PNG of one comparison."""
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from PIL import Image

from benchmark.__main__ import COMMANDS
from benchmark.reports import card, stored
from user_error import UserError

DATA = Path(__file__).parent / "data"


def _result(**of_means: Any) -> Any:
    result: Any = stored.load(DATA / "compare.json")
    for each in result["comparisons"]:
        each.update(of_means)
    return result


def _words(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("of_means", "words"), [
    ({"verdict": "faster", "ratio": 1.25, "ci95": [1.2, 1.3], "candidate": "fast"}, "fast is 1.25× faster"),
    ({"verdict": "slower", "ratio": 0.5, "ci95": [0.4, 0.6], "candidate": "x" * 99}, "xx... is 2.00× slower"),
    ({"verdict": "faster", "ratio": 12.25, "ci95": [12.0, 12.5], "candidate": "session:optimized@openvino"},
     "...@openvino is 12.25× faster"),
    ({"verdict": "faster", "ratio": 1.25, "ci95": [1.2, 1.3], "candidate": "session:int8@litert"},
     "average latency of session:int8@litert"),
    ({"verdict": "cannot tell", "ratio": 1.0, "ci95": [0.9, 1.1]}, "cannot tell"),
    ({"verdict": "cannot tell", "valid": False, "reasons": ["2 of 3 requests failed"], "ci95": [None, None]},
     "INVALID: 2 of 3 requests failed")])
def test_a_card_shows_the_verdict_of_each_comparison_of_means(of_means: dict[str, Any], words: str) -> None:
    result = _result(**of_means)
    shown = _words(card.svg(result))
    means = [each for each in result["comparisons"] if each["metric"] == "mean"]
    assert sum(words in line for line in shown) == len(means)
    image = Image.open(io.BytesIO(card.png(result)))
    size = ElementTree.fromstring(card.svg(result)).attrib
    assert image.size == (2 * int(size["width"]), 2 * int(size["height"]))
    drawn = image.convert("RGB").getcolors(1 << 20) or []
    assert sum(count for count, _ in drawn) == image.width * image.height
    colour = card.COLOURS[of_means["verdict"]][0]
    assert tuple(bytes.fromhex(colour[1:])) in {found for _, found in drawn}


def test_report_writes_cards_of_one_comparison(tmp_path: Path) -> None:
    svg, png = tmp_path / "cards/a.svg", tmp_path / "cards/a.PNG"
    done = CliRunner().invoke(COMMANDS, ["report", str(DATA / "compare.json"), "--card", str(svg), "--card", str(png)])
    assert done.exit_code == 0, done.output
    assert svg.read_text().startswith("<svg")
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("arguments", "words"), [
    (["compare.json", "--card", "a.jpg"], "a.jpg: a card is an .svg or a .png file"),
    (["run.json", "--card", "a.svg"], "--card is of one comparison"),
    (["compare.json", str(DATA / "compare.json"), "--card", "a.svg"], "--card is of one comparison")])
def test_a_card_that_cannot_be_made_is_refused(arguments: list[str], words: str, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(COMMANDS, ["report", str(DATA / arguments[0]), *arguments[1:]])
    assert isinstance(done.exception, UserError)
    assert words in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_names_are_escaped() -> None:
    assert json.dumps(_words(card.svg(_result(candidate="<a>&b")))).count("<a>&b") >= 1
