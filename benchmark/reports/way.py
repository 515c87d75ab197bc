"""The opening chart of a study: the way from the original to the fastest step, as one SVG file."""
import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypedDict

from benchmark.reports import charts, picture
from benchmark.reports.picture import EDGE, ROOM, WIDTH, Word, words

LOGARITHMIC = 10.0  # past this ratio, the axis is logarithmic
AT_ITS_BEST = "the original at its best settings"  # for the name of a baseline that is no step
LEAST = 1e-3  # where a logarithmic axis begins at the latest
NOT_FASTER = {"slower": "slower", "cannot tell": "cannot", "INVALID": "cannot"}  # verdict -> style of the bar
BAR, ROW = 14.0, 48.0
# The style of a bar -> that of its figure.
NUMBERS = {"start": "ink", "faster": "ink", "fastest": "fastest", "slower": "slower", "cannot": "soft"}


class Step(TypedDict):
    """One step of the way: `ratio` is the original's time over the step's; `note` is its absolute figure in words.

    `verdict` is "" for the original, which the ratios are of; else faster, slower, cannot tell or INVALID.
    """

    label: str
    ratio: float
    ci95: list[float | None]
    verdict: str
    note: str


class Published(TypedDict):
    """What an article reached: its original's time over its best one's."""

    label: str
    ratio: float


class Way(TypedDict):
    """The steps from the original to the fastest; `title` says what is timed: "batch 100, gRPC"."""

    title: str
    steps: list[Step]
    published: list[Published]


class Drawn(TypedDict):
    """What the chart shows of a study.StudyResult."""

    title: str
    quick: bool
    command: str
    measured: str
    cpu_class: str
    way: Way


def svg(result: Drawn) -> str:
    """The chart as a file: a bar for each step, its interval, and what the article reached."""
    way = result["way"]
    axis = _Axis(way)
    y, body = _heading(result)
    for step in way["steps"]:
        style = _style(step, way)
        y = _row(body, y, axis, step["ratio"], words(step["label"]), _note(step), NUMBERS[style])
        body += _bar(axis, y, step, style)
        for each in way["published"]:
            path = f"M{axis.x(each['ratio']):.1f} {y - 2:.1f}v{BAR + 4}"
            body.append(f'<path class="halo" d="{path}"/><path class="mark" d="{path}"/>')
        y += ROW - 8
    for each in way["published"]:
        y = _row(body, y, axis, each["ratio"], words(f"{each['label']}, published", "published"), [], "published")
        body.append(_diamond(axis.x(each["ratio"]), y + BAR / 2))
        y += ROW - 8
    y = _ticks(body, y - 8, axis)
    for line in picture.lines(words(_legend(way, axis), "soft"), 12, ROOM):
        body.append(picture.line(EDGE, y, line, 12))
        y += 16
    body.append(f'<g class="mono">{picture.line(EDGE, y + 6, words(result["command"], "soft"), 12)}</g>')
    return picture.file(y + 24, f"{result['title']}: {way['title']}", described(way), body)


def described(way: Way) -> str:
    """What the chart shows, in words."""
    steps = []
    for step in way["steps"]:
        bounds = charts.drawable(*step["ci95"])
        known = [ratio_text(step["ratio"]), f"95 % interval {bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else "",
                 step["verdict"], step["note"]]
        steps.append(f"{step['label']}: {', '.join(filter(None, known))}")
    steps += [f"{each['label']}, published: {ratio_text(each['ratio'])}" for each in way["published"]]
    return f"How many times as fast as {_of(way)} each step is. {'; '.join(steps)}."


def baseline(way: Way) -> str:
    """The label of the step that the ratios are of, which has no verdict; "" if it is not among the steps."""
    return next((step["label"] for step in way["steps"] if not step["verdict"]), "")


def fastest(way: Way) -> Step | None:
    """The step with the highest ratio of those that are proven faster."""
    return max((step for step in way["steps"] if step["verdict"] == "faster"), key=lambda step: step["ratio"],
               default=None)


def ratio_text(ratio: float) -> str:
    """A ratio with three significant digits, from 0.01 on two decimals: 0.81×, 2.80×, 22.0×, 152×."""
    return f"{ratio:.{2 if ratio < 9.995 else 1 if ratio < 99.95 else 0}f}×"


class _Axis:
    """Where a ratio is on the chart: linear from 0, or logarithmic, where bars begin at 1."""

    def __init__(self, way: Way) -> None:
        ratios = [1.0, *(each["ratio"] for each in chain[Step | Published](way["steps"], way["published"]))]
        bounds = [bound for step in way["steps"] for bound in charts.drawable(*step["ci95"]) or ()]
        # One wide interval must not push all bars together: it is cut off instead.
        high = max(max(ratios), min(max(bounds, default=0), 1.25 * max(ratios)), 1.0)
        low = max(min(min(ratios), max(min(bounds, default=1), 0.75 * min(ratios)), 1.0), LEAST)
        self.logarithmic = max(ratios) > LOGARITHMIC
        self.low: float = low / high ** 0.03 if self.logarithmic else 0.0
        self.high: float = high * high ** 0.02 if self.logarithmic else high * 1.03

    def x(self, ratio: float) -> float:
        at: Callable[[float], float] = math.log if self.logarithmic else float
        inside = min(max(ratio, self.low), self.high)
        return EDGE + ROOM * (at(inside) - at(self.low)) / (at(self.high) - at(self.low))

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return [tick for tick in charts.nice_ticks(0, self.high, 5) if tick <= self.high]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 3) if self.high / self.low < 3000 else (1,)
        each = [10.0 ** power * factor for power in powers for factor in factors]
        return [tick for tick in each if self.low <= tick <= self.high]


def _heading(result: Drawn) -> tuple[float, list[str]]:
    way, best = result["way"], fastest(result["way"])
    y, body = 34.0, []
    for line in picture.lines(words(result["title"]), 17, ROOM, 3, bold=True):
        body.append(picture.line(EDGE, y, line, 17, bold=True))
        y += 21
    machine = [result["cpu_class"], result["measured"][:10], *(["a quick run"] if result["quick"] else [])]
    for text in (way["title"], " · ".join(filter(None, machine))):
        for line in picture.lines(words(text, "soft"), 12.5, ROOM, 2):
            body.append(picture.line(EDGE, y, line, 12.5))
            y += 17
    if best is None:
        body.append(picture.line(EDGE, y + 14, words("No step is proven faster", "soft"), 15, bold=True))
        return y + 48, body
    big = ratio_text(best["ratio"])
    left = EDGE + picture.width_of(big, 42) * picture.BOLD + 8
    body.append(picture.line(EDGE, y + 41, words(big, "fastest"), 42, bold=True))
    steps = words(f"{baseline(way) or AT_ITS_BEST} → {best['label']}", "soft")
    beside = picture.lines(steps, 12, WIDTH - EDGE - left, 2)
    top = y + (24 if len(beside) < 2 else 16)
    body.append(picture.line(left, top, words("as fast"), 14, bold=True))
    body += [picture.line(left, top + 17 + 15 * index, line, 12) for index, line in enumerate(beside)]
    return y + 84, body


def _row(body: list[str], y: float, axis: _Axis, ratio: float, label: Sequence[Word], note: Sequence[Word],
         style: str) -> float:
    """Adds a row's label and note, its ratio at the right, and the track of its bar; returns the y of the track."""
    number = ratio_text(ratio)
    room = ROOM - picture.width_of(number, 16) * picture.BOLD - 10
    made = picture.lines(label, 13.5, room, 3)
    # The note is set after the label is cut, so that it is shown however long the label is.
    made[-1:] = picture.lines([*(made[-1] if made else []), *note], 13.5, room, 2)
    for index, line in enumerate(made):
        body.append(picture.line(EDGE, y + 17 * index, line, 13.5))
    y += 17 * (len(made) - 1)
    body.append(picture.line(WIDTH - EDGE, y, [Word(number, style)], 16, bold=True, anchor="end"))
    body.append(picture.box(EDGE, y + 8, ROOM, BAR, "track", 3))
    body += [picture.box(axis.x(tick) - 0.5, y + 8, 1, BAR, "notch") for tick in axis.ticks()
             if EDGE + 2 < axis.x(tick) < WIDTH - EDGE - 2]
    return y + 8


def _bar(axis: _Axis, y: float, step: Step, style: str) -> list[str]:
    base, end = axis.x(1.0 if axis.logarithmic else 0.0), axis.x(step["ratio"])
    left, width = min(base, end), abs(end - base)
    if width < 4:  # the first step on a logarithmic axis
        left, width = base - 2, 4
    made = [picture.box(left, y, width, BAR, style, 3)]
    if bounds := charts.drawable(*step["ci95"]):
        low, high = axis.x(bounds[0]), axis.x(bounds[1])
        middle = y + BAR / 2
        caps = "".join(f"M{x:.1f} {middle - 3.5:.1f}v7" for x, bound in zip((low, high), bounds, strict=True)
                       if axis.low < bound < axis.high)
        path = f"M{low:.1f} {middle:.1f}H{high:.1f}{caps}"
        made.append(f'<path class="halo" d="{path}"/><path class="whisker" d="{path}"/>')
    return made


def _diamond(x: float, y: float) -> str:
    return f'<path class="published" d="M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"/>'


def _ticks(body: list[str], y: float, axis: _Axis) -> float:
    """Adds the figures of the axis; returns the y of the first line below them."""
    for tick in axis.ticks():
        x, text = axis.x(tick), charts.number(tick) + ("×" if tick else "")
        anchor = "end" if x > WIDTH - EDGE - 8 else "middle" if x > EDGE + 4 else ""
        body.append(picture.line(x, y, [Word(text, "soft")], 12, anchor=anchor))
    return y + 26


def _note(step: Step) -> list[Word]:
    """The step's figure; a verdict that its colour alone would say is one word, so that it is not split."""
    said = [Word(step["verdict"], "soft")] if step["verdict"] in NOT_FASTER else []
    return [*words(step["note"] + ("," if said and step["note"] else ""), "soft"), *said]


def _style(step: Step, way: Way) -> str:
    if step is fastest(way):
        return "fastest"
    return {"faster": "faster", **NOT_FASTER}.get(step["verdict"], "start")


def _of(way: Way) -> str:
    return f"“{baseline(way)}”" if baseline(way) else AT_ITS_BEST


def _legend(way: Way, axis: _Axis) -> str:
    known = any(charts.drawable(*step["ci95"]) for step in way["steps"])
    return f"Times as fast as {_of(way)}{', 95 % intervals' if known else ''}" + (
        "; logarithmic scale" if axis.logarithmic else "")
