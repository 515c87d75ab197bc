"""Numbers as text, in the same form on the terminal and on a page."""
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.verdicts.records import SloRecord
from benchmark.verdicts.statistics import samples_needed


def short(milliseconds: float) -> str:
    """Milliseconds with as many digits as are significant: 0.412, 5.32, 76.5, 189.8."""
    return f"{milliseconds:.{3 if milliseconds < 1 else 2 if milliseconds < 10 else 1}f}"


def interval(ci95: Sequence[float | None], digits: int = 3, between: str = "-") -> str:
    """The two bounds of an interval; "no interval" if a bound is unknown."""
    low, high = ci95
    return "no interval" if low is None or high is None else f"{low:.{digits}f}{between}{high:.{digits}f}"


def measure(comparison: Mapping[str, Any]) -> str:
    """What a comparison compares: "typical latency"."""
    name = comparison["metric"]
    return str(name) if name == "throughput" else f"{'average' if name == 'mean' else name} latency"


def marked(milliseconds: float, percentile: float, requests: int) -> str:
    """A percentile, with ~ before it if there are too few requests for it to be reliable."""
    return f"{'' if requests >= samples_needed(percentile) else '~'}{short(milliseconds)}"


def share(value: float | None) -> str:
    return "no" if value is None else f"{value:.1%}"


def slo_text(slo: SloRecord) -> str:
    return f"p{slo['percentile']:g} within {slo['latency_ms']:g} ms"


def megabytes(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:,.1f} MB"


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def plain(value: Any) -> str:
    """A value of the conditions as text; lists and dicts become comma-separated."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
