"""The decision records: all of them are in the index, and the code that follows a record names it."""
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
RECORDS = sorted(ROOT / name for name in TRACKED if re.fullmatch(r"docs/decisions/\d{4}-.*\.md", name))
INDEX = (ROOT / "docs/decisions/README.md").read_text().splitlines()
NAMED = {(name, int(number)) for name in TRACKED if name.endswith((".py", ".sh")) and (ROOT / name).is_file()
         for number in re.findall(r"# decision (\d+)", (ROOT / name).read_text())}


def index_line(record: Path) -> str:
    """The line that the index must have for a record: its number, a link and its title."""
    number, title = record.read_text().partition("\n")[0].removeprefix("# ").split(": ", 1)
    return f"- [{number}]({record.name}): {title}"


def test_the_index_has_a_line_for_every_record() -> None:
    assert [line for line in INDEX if line.startswith("- ")] == [index_line(record) for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name[:4])
def test_code_names_the_record_that_it_follows(record: Path) -> None:
    number = int(record.name[:4])
    assert any(known == number for _, known in NAMED), \
        f"no code follows {record.name}: write '# decision {number}' beside the line that does"


@pytest.mark.parametrize(("name", "number"), sorted(NAMED), ids=lambda value: str(value))
def test_a_named_record_exists(name: str, number: int) -> None:
    assert any(record.name.startswith(f"{number:04d}-") for record in RECORDS), f"{name} names decision {number}"
