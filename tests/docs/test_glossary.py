"""The glossary has one line for each of the project's terms."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "docs/glossary.md").read_text().splitlines()
WORDS = ("model", "variant", "version", "signature", "label", "connection", "replica", "round", "block", "noise floor",
         "verdict", "servable", "aspired version", "SavedModel", "open loop", "closed loop", "intended start",
         "warm-up", "baseline", "candidate", "target", "transform", "base path", "contraction", "embedded server",
         "the original", "recorded case")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_has_one_line(word: str) -> None:
    [line] = [line for line in LINES if re.match(rf"\| \*\*{re.escape(word)}\*\* \| ", line)]
    assert re.fullmatch(r"\| \*\*[^|]+\*\* \| [^|]{20,}\. \|", line), line


def test_the_readme_links_the_glossary() -> None:
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text()
