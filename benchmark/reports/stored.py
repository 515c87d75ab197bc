"""The result of a comparison as one JSON document: made from blocks, stored after every round, read by `report`."""
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.verdicts.comparison import METRICS, RULES, Block, Rules, compare, latencies
from benchmark.verdicts.statistics import METRICS as PERCENTILES
from benchmark.verdicts.statistics import metric_value
from user_error import UserError

FORMAT = 1
NEEDED = {"compare": {"comparisons", "summaries", "blocks", "inputs", "measured_by"}, "run": {"runs", "scenario"},
          "sweep": {"curves", "over"}, "search": {"searches", "scenario"}, "split": {"splits", "target"},
          "profile": {"profiles", "batch", "instructions"}, "overhead": {"findings", "parts"}}


def document(kind: str, targets: Sequence[str], blocks: Sequence[Block], about: Mapping[str, Any],
             rules: Rules = RULES, seed: int = 0) -> dict[str, Any]:
    """Everything that was found and everything it was found from. The first target is the baseline."""
    groups = list(dict.fromkeys((block.protocol, block.batch) for block in blocks))
    comparisons, summaries = [], []
    for protocol, batch in groups:
        group = [block for block in blocks if (block.protocol, block.batch) == (protocol, batch)]
        summaries += [summary([block for block in group if block.target == target]) for target in targets]
        comparisons += [compare(group, targets[0], candidate, metric, rules, seed).to_json()
                        for candidate in targets[1:] for metric in METRICS]
    return {"kind": kind, "format": FORMAT, "baseline": targets[0], "comparisons": comparisons, "summaries": summaries,
            **about, "blocks": [block.to_json() for block in blocks]}


def summary(blocks: Sequence[Block]) -> dict[str, Any]:
    """The figures of one target under one protocol and batch size; times in ms, the total in s."""
    values, wall = latencies(blocks), sum(block.wall_s for block in blocks)
    first = blocks[0]
    return {"target": first.target, "protocol": first.protocol, "batch": first.batch, "requests": len(values),
            "total_s": wall, "examples_per_s": first.batch * len(values) / wall if wall else None,
            **{f"{metric}_ms": metric_value(metric, values) * 1e3 for metric in PERCENTILES if len(values)},
            "min_ms": float(values.min()) * 1e3, "max_ms": float(values.max()) * 1e3}


class Journal:
    """Rounds on disk as they end: one line each, so a crash or Ctrl-C loses at most the round under way."""

    def __init__(self, path: Path | None, head: Mapping[str, Any]) -> None:
        self._path = path
        self._written = 0
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            self._line(dict(head))

    def save(self, blocks: Sequence[Block], about: Mapping[str, Any]) -> None:
        """Writes those of `blocks` that are not written yet, and what is known about them now."""
        if self._file is not None and len(blocks) > self._written:
            self._line({"blocks": [block.to_json() for block in blocks[self._written:]], "about": dict(about)})
            self._written = len(blocks)

    def close(self, complete: bool) -> str | None:
        """Removes the journal of a complete run, or an empty one; else says where it is."""
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


def load(path: str | Path) -> dict[str, Any]:
    """A result file, or the journal of a run that was interrupted. UserError when it is neither."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        lines = text.splitlines() if str(path).endswith(".rounds") else [text]
        head, *rest = map(json.loads, lines)
        if rest:
            return _from_journal(head, rest)
        if head["format"] == FORMAT and NEEDED[head["kind"]] | {"environment", "model"} <= head.keys():
            return dict(head)
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} is not a result of 'python -m benchmark' (format {FORMAT}): write one with --json")


def _from_journal(head: dict[str, Any], lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    blocks = [Block.from_json(block) for line in lines for block in line["blocks"]]
    about = head["about"] | lines[-1]["about"] | {"interrupted": True}
    return document(head["kind"], head["targets"], blocks, about, Rules(**head["rules"]), head["seed"])
