"""Results in files: writes the rounds of a comparison as they end, and reads stored results for `report`."""
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from benchmark.reports import kinds
from benchmark.reports.compare import compared
from benchmark.reports.head import FORMAT, Head
from benchmark.verdicts.block import Block
from benchmark.verdicts.comparison import Rules
from user_error import UserError
from whole_file import write_text


class Journal:
    """Writes each round to disk as it ends, one line each: a crash or Ctrl-C loses at most the round under way."""

    def __init__(self, path: Path | None, head: Mapping[str, Any]) -> None:
        self._path = path
        self._written = 0
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._line(dict(head))

    def save(self, blocks: Sequence[Block], about: Mapping[str, Any]) -> None:
        """Appends those of `blocks` that are not written yet; `about` describes them (later lines replace its keys)."""
        if self._file is not None and len(blocks) > self._written:
            self._line({"blocks": [block.to_json() for block in blocks[self._written:]], "about": dict(about)})
            self._written = len(blocks)

    def close(self, complete: bool) -> str | None:
        """Removes the journal of a complete run, or an empty journal; else returns a line that says where it is."""
        if self._file is None or self._path is None:
            return None
        self._file.close()
        if complete or not self._written:
            self._path.unlink()
            return None
        return f"{self._written} finished blocks are kept: python -m benchmark report {self._path}"

    def _line(self, value: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def keep(folder: Path, result: Head) -> Path:
    """Writes the result as a file of its own in a folder of results, which is made if need be; returns its path."""
    text = json.dumps(result)
    began = datetime.fromisoformat(result["environment"]["time"]).astimezone(UTC)
    # Two runs of one second differ in their samples.
    name = f"{began:%Y%m%dT%H%M%SZ}-{result['model']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / name, text)
    return folder / name


def refuse_folder(folder: Path) -> None:
    """Raises UserError, before anything is measured, unless `keep` can write into the folder."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"cannot keep results in {folder}: {there} is not a folder that you may write to")


def load(path: str | Path) -> Head:
    """Reads a result file, or the journal of an interrupted run. Raises UserError if it is neither."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        lines = text.splitlines() if str(path).endswith(".rounds") else [text]
        head, *rest = map(json.loads, lines)
        result = _from_journal(head, rest) if rest else _in_present_format(head)
        if result["format"] == FORMAT and not kinds.KINDS[result["kind"]].NEEDED - result.keys():
            return cast(Head, result)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path} is not a result of 'python -m benchmark' (format {FORMAT}): write one with --json")


def _from_journal(head: dict[str, Any], lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    blocks = [Block.from_json(_block(block)) for line in lines for block in line["blocks"]]
    about = head["about"] | lines[-1]["about"] | {"interrupted": True}
    return {"kind": head["kind"], "format": FORMAT, **about,
            **compared(head["targets"], blocks, Rules(**head["rules"]), head["seed"])}


def _in_present_format(result: dict[str, Any]) -> dict[str, Any]:
    """The result in the present format. All knowledge of older formats is in this function and in `_block`."""
    parts = result["parts"].values() if result["kind"] == "overhead" else [result]
    for part in parts:
        if "blocks" in part:
            part["blocks"] = [_block(block) for block in part["blocks"]]
    result.setdefault("inputs", "")
    return result


def _block(value: dict[str, Any]) -> Any:
    # Until 2026-11 a replica was called "half".
    return {"replica" if key == "half" else key: item for key, item in value.items()}
