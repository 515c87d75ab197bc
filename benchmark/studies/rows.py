"""The figures of a part, as rows: what a comparison found of each target under each protocol and batch size. Pure."""
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.reports.compare import CompareResult, compared
from benchmark.reports.study_result import Limit, Row, StudyGoal
from benchmark.reports.way import Step as WayStep
from benchmark.studies.study import Goal, Way
from benchmark.verdicts.block import Block
from benchmark.verdicts.records import ComparisonRecord
from benchmark.verdicts.scenario import protocol_name


def rows(result: CompareResult, targets: Mapping[str, str], baselines: Sequence[str] = (), seed: int = 0
         ) -> list[Row]:
    """A row for each summary of the comparison, in its order.

    Args:
        targets: by label, the target as `compare` takes it.
        baselines: labels of the baseline under other settings; under each protocol and batch size, ratios are to the
            fastest of them and of the comparison's own baseline.
    """
    kind = str(result["environment"].get("cpu_class", ""))
    comparisons = _against_the_fastest(result, baselines, seed) if baselines else result["comparisons"]
    made: list[Row] = []
    for each in result["summaries"]:
        where = f"{protocol_name(each['protocol'])} batch {each['batch']}"
        found = _comparison(comparisons, each["target"], each["protocol"], each["batch"])
        right = result.get("accuracy", {}).get(where, {}).get(each["target"])
        made.append({
            "protocol": protocol_name(each["protocol"]), "batch": each["batch"], "target": targets[each["target"]],
            "label": each["target"], "requests": each["requests"], "total_s": round(each["total_s"], 4),
            "mean_ms": _short(each["mean_ms"]), "p50_ms": _short(each["p50_ms"]), "p99_ms": _short(each["p99_ms"]),
            "examples_per_s": _short(each["examples_per_s"] or 0.0),
            "ratio": round(found["ratio"], 4) if found else None,
            "ci95": [bound if bound is None else round(bound, 4) for bound in found["ci95"]] if found else None,
            "verdict": str(found["verdict"]) if found and found["valid"] else "INVALID" if found else "",
            "valid": not found or found["valid"],
            "right": right and round(right["right"] / right["examples"], 6),
            "answers": result.get("answers", {}).get(f"{where} {each['target']}", ""),
            "cpu_class": kind})
    return made


def way(found: Way, own: Sequence[Row]) -> list[WayStep]:
    """The steps of the opening chart, from the rows of its part; a label without a row is left out.

    What the others are compared with comes first, also where it is a setting of the original that is not asked for.
    """
    here = {row["label"]: row for row in own
            if (row["protocol"], row["batch"]) == (protocol_name(found.protocol), found.batch)}
    baseline = [label for label, row in here.items() if row["ratio"] is None]
    return [{"label": label, "ratio": row["ratio"] or 1.0, "ci95": row["ci95"] or [1.0, 1.0],
             "verdict": row["verdict"], "note": milliseconds(row["mean_ms"])}
            for label in dict.fromkeys([*baseline, *(found.labels or here)]) if (row := here.get(label))]


def goal(wanted: Goal, own: Sequence[Row]) -> StudyGoal:
    """Whether the fastest of the goal's labels reaches it with its whole interval."""
    candidates = [row for row in own if row["label"] in wanted.labels and row["ratio"] is not None
                  and (row["protocol"], row["batch"]) == (protocol_name(wanted.protocol), wanted.batch)]
    if not candidates:
        return {"goal": wanted.text, "seen": "not measured", "met": False}
    best = max(candidates, key=lambda row: row["ratio"] or 0.0)
    low, high = best["ci95"] or [None, None]
    bounds = "no interval" if low is None or high is None else f"{low:.2f}-{high:.2f}"
    return {"goal": wanted.text, "seen": f"{best['ratio']:.2f} [{bounds}] {best['verdict']} ({best['label']})",
            "met": best["valid"] and low is not None and low >= wanted.least}


def limit(model: str, row: Row, precision: str, gflop: float, ceiling: float) -> Limit:
    """The speed of a row as a share of `ceiling`, the GFLOP/s that this machine's kernels reach at best in the
    precision. `gflop`: of one example."""
    speed = gflop * row["batch"] / row["mean_ms"] * 1e3
    return {"model": model, "batch": row["batch"], "target": row["label"], "precision": precision,
            "gflop": round(gflop * row["batch"], 4), "gflop_per_s": round(speed, 1), "ceiling_gflop_per_s": ceiling,
            "share": round(speed / ceiling, 3)}


def milliseconds(value: float) -> str:
    """Milliseconds with three digits: 0.412 ms, 19.1 ms."""
    return f"{float(f'{value:.3g}'):g} ms"


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _against_the_fastest(result: CompareResult, baselines: Sequence[str], seed: int) -> list[ComparisonRecord]:
    """The comparisons anew, under each protocol and batch size with the fastest of the baselines."""
    found: list[ComparisonRecord] = []
    blocks = [Block.from_json(block) for block in result["blocks"]]
    labels = list(dict.fromkeys(each["target"] for each in result["summaries"]))
    for protocol, batch in dict.fromkeys((each["protocol"], each["batch"]) for each in result["summaries"]):
        means = {each["target"]: each["mean_ms"] for each in result["summaries"]
                 if (each["protocol"], each["batch"]) == (protocol, batch)}
        fastest = min((label for label in (result["baseline"], *baselines) if label in means), key=means.__getitem__)
        own = [block for block in blocks if (block.protocol, block.batch) == (protocol, batch)]
        found += compared([fastest, *(label for label in labels if label != fastest)], own, seed=seed)["comparisons"]
    return found


def _comparison(comparisons: Sequence[ComparisonRecord], target: str, protocol: str, batch: int
                ) -> ComparisonRecord | None:
    wanted: Any = ("mean", target, protocol, batch)
    return next((each for each in comparisons
                 if (each["metric"], each["candidate"], each["protocol"], each["batch"]) == wanted), None)
