"""All comparisons of a run in one sentence, for who reads no further."""
from collections.abc import Sequence
from math import log
from statistics import fmean

from benchmark.reports.undecided import next_step
from benchmark.verdicts.records import ComparisonRecord
from benchmark.verdicts.scenario import protocol_name


def in_short(comparisons: Sequence[ComparisonRecord]) -> str | None:
    """What was seen of every candidate, the fastest first; or, if nothing was, what stood in the way and what to do.

    comparisons: those that decide. None for fewer than two, as each has a sentence of its own.
    """
    if len(comparisons) < 2:
        return None
    if all(each["verdict"] == "cannot tell" for each in comparisons):
        why = next((words for each in comparisons if (words := next_step(each))), None)
        return f"In short, nothing was told apart. {why or 'The reasons stand below.'}"
    of = {name: [each for each in comparisons if each["candidate"] == name]
          for name in dict.fromkeys(each["candidate"] for each in comparisons)}
    fastest = sorted(of, key=lambda name: -fmean(log(each["ratio"]) for each in of[name]))
    batches = len({each["batch"] for each in comparisons}) > 1
    seen = "; ".join(_of_one(of[name], batches) for name in fastest)
    return f"In short, against {comparisons[0]['baseline']}: {seen}"


def _of_one(comparisons: Sequence[ComparisonRecord], batches: bool) -> str:
    where: dict[str, list[str]] = {}
    for each in comparisons:
        place = protocol_name(each["protocol"])
        where.setdefault(_seen(each), []).append(f"{place} batch {each['batch']}" if batches else place)
    return f"{comparisons[0]['candidate']} is " + ", ".join(
        f"{seen} over {' and '.join(places)}" for seen, places in where.items())


def _seen(each: ComparisonRecord) -> str:
    if not each["valid"] or each["verdict"] == "cannot tell":
        return "not told apart"
    if each["verdict"] == "equal":
        return f"equal within {each.get('equal_within') or 0:.1%}"
    ratio = each["ratio"]
    return f"{ratio:.2f} times as fast" if ratio > 1 else f"slower by {1 / ratio - 1:.1%}"
