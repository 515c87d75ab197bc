"""Settings that were tried, the best of them, and its gain over the defaults."""
from collections.abc import Iterator
from html import escape as html_escape
from typing import TypedDict

from rich.markup import escape
from rich.table import Table

from benchmark.reports import charts, terminal
from benchmark.reports.figures import short, slo_text
from benchmark.reports.head import Head
from benchmark.reports.page import card, cards, figure, figures, result_page, table, tone
from benchmark.verdicts.records import GainRecord, ScenarioRecord
from benchmark.verdicts.scenario import protocol_name


class Score(TypedDict):
    """One measurement of one setting; the latency is at the scenario's percentile, a limit of 0 is no promise."""

    rate_per_s: float
    latency_ms: float
    limit_ms: float


class TuneResult(Head):
    """What `tune` finds. `measured`: "SETTINGS for N s" -> its score; `kept`: the settings that were written."""

    variant: str
    scenario: ScenarioRecord
    cpus: float
    settings: int
    best: str
    kept: str
    gain: GainRecord
    measured: dict[str, Score]
    files: list[str]


NEEDED = TuneResult.__required_keys__


def tables(result: TuneResult) -> list[Table]:
    """Each setting at its longest measurement, the best first."""
    made = terminal.ruled(_load(result), _columns(result), ("settings", "promise"))
    for row in _rows(result):
        made.add_row(*map(escape, row))
    return [made]


def lines(result: TuneResult) -> list[str]:
    return [escape(f"Best of {result['settings']} within {result['cpus']:g} CPUs: {result['best']}"),
            escape(gain_line(result["gain"])), escape(f"Written: {', '.join(result['files'])}")]


def gain_line(gain: GainRecord) -> str:
    """The gain in throughput in one line."""
    if "ratio" not in gain:
        return f"Gain: none, {gain['verdict']}"
    low, high = gain["ci95"]
    words = "" if gain["verdict"] == "faster" else ": not shown to be faster than the defaults, which are kept"
    return (f"Gain in throughput: {gain['ratio']:.2f}x [{low:.2f}, {high:.2f}], {gain['defaults_per_s']:.1f} -> "
            f"{gain['best_per_s']:.1f} requests/s, noise floor ±{gain['floor']:.1%}{words}")


def html(result: TuneResult) -> str:
    gain = result["gain"]
    verdict = gain["verdict"] if "ratio" in gain else "cannot tell"
    parts = [cards([card(f"best of {result['settings']} settings", result["best"], gain_line(gain), tone(verdict))])]
    if "ratio" in gain:
        low, high = gain["ci95"]
        span = charts.Span("throughput", gain["ratio"], charts.drawable(low, high), gain["floor"], tone(verdict))
        parts.append(figures([figure(f"{result['best']} against the defaults", charts.forest([span]))]))
    return result_page(f"Settings of {result['variant']}", [
        *parts, "<h2>Settings tried</h2>", f'<p class="soft">{html_escape(_load(result))}; each setting at its longest '
        "measurement.</p>", table(_columns(result), _rows(result), 1),
        f"<p>Written: {html_escape(', '.join(result['files']))}</p>"], result)


def _load(result: TuneResult) -> str:
    scenario = result["scenario"]
    return (f"{result['variant']}: {protocol_name(scenario['protocol'])}, batch {scenario['batch']}, "
            f"{scenario['arrivals'].get('clients')} clients"
            + (f", {slo_text(slo)}" if (slo := scenario["slo"]) else ""))


def _columns(result: TuneResult) -> tuple[str, ...]:
    return "settings", "seconds", "requests/s", f"p{result['scenario']['percentile']:g} ms", "promise"


def _rows(result: TuneResult) -> Iterator[tuple[str, ...]]:
    longest: dict[str, tuple[float, Score]] = {}
    for key, score in result["measured"].items():
        name, _, length = key.removesuffix(" s").rpartition(" for ")
        longest[name] = max(longest.get(name, (0.0, score)), (float(length), score), key=lambda found: found[0])

    def rank(name: str) -> tuple[float, bool, float]:
        seconds, score = longest[name]
        return seconds, not _missed(score), score["rate_per_s"]
    for name in sorted(longest, key=rank, reverse=True):
        seconds, score = longest[name]
        if not score["rate_per_s"]:
            yield name, f"{seconds:g}", "", "", "requests failed"
            continue
        kept = "missed" if _missed(score) else "kept" if score["limit_ms"] else ""
        yield name, f"{seconds:g}", f"{score['rate_per_s']:.1f}", short(score["latency_ms"]), kept


def _missed(score: Score) -> bool:
    return bool(score["limit_ms"]) and score["latency_ms"] > score["limit_ms"]
