"""Every error text of the server is recorded, or listed in texts.toml with the place it comes from or a reason."""
import os
import re
import tomllib
from pathlib import Path

import pytest
from error_texts import is_in, recorded, templates

HERE = Path(__file__).parent
LISTED = tomllib.loads((HERE / "texts.toml").read_text(encoding="utf-8"))["text"]
UPSTREAM = os.environ.get("UPSTREAM", "")


def test_every_text_is_recorded_or_listed() -> None:
    answers, found = recorded(), templates(HERE.parents[1] / "serving")
    assert len(found) > 100
    unknown = {text: file for text, file in found.items() if not any(is_in(text, answer) for answer in answers)}
    listed = [entry["text"] for entry in LISTED]
    assert len(listed) == len(set(listed))
    assert unknown.keys() - set(listed) == set(), "add these to texts.toml, with where they come from or why"
    assert set(listed) - unknown.keys() == set(), "these are recorded, or no longer in the code"


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["text"][:40])
def test_a_listed_text_says_where_it_comes_from(entry: dict[str, str]) -> None:
    [(where, reason)] = [(key, value) for key, value in entry.items() if key != "text"]
    assert where in ("upstream", "elsewhere", "ours")
    assert len(reason) > 10
    if where == "upstream" and UPSTREAM:
        source = (Path(UPSTREAM) / "tensorflow_serving" / reason).read_text(encoding="utf-8")
        text = re.sub(r'"\s*,?\s*"', "", source).replace('\\"', '"')
        parts = [part.strip(" ,:.{}\"'") for part in entry["text"].split("{}")]
        assert [part for part in parts if len(part) >= 6 and part not in text] == []
