"""Charts as inline SVG, 420 units wide so that their text is readable on a phone.

Colours are CSS variables of the page (--s0 ... for series, --ink, --faint), so that one drawing serves both the light
and the dark page.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 10, 40
SERIES = 6  # decision 106
DASHES = 4


@dataclass(frozen=True)
class Line:  # decision 62
    """Points (x, y) in the unit of their chart. `series` is the variant's place in the report and decides the colour;
    lines of one variant differ in `dash` (0 is solid)."""

    name: str
    points: Sequence[tuple[float, float]]
    series: int
    dash: int = 0


@dataclass(frozen=True)
class Bar:
    """A value with its interval, if it has one; `group` is printed once above the bars that share it. `series` is the
    variant's place in the report and decides the colour; palette "k" is for bars that do not stand for a variant."""

    group: str
    name: str
    value: float
    interval: tuple[float, float] | None
    series: int
    palette: str = "c"

    @property
    def end(self) -> float:
        return self.interval[1] if self.interval else self.value


@dataclass(frozen=True)
class Span:
    """A ratio with its interval, if it has one, for the forest plot; `tone` is the verdict's first word, which is the
    CSS class: faster, slower or cannot."""

    label: str
    value: float
    interval: tuple[float, float] | None
    floor: float
    tone: str

    @property
    def ends(self) -> tuple[float, float]:
        return self.interval or (self.value, self.value)


@dataclass(frozen=True)
class Dot:
    """A ratio with its interval in a course of runs; `tone` as of a Span."""

    label: str
    value: float
    interval: tuple[float, float]
    tone: str


@dataclass(frozen=True)
class Limit:
    """A horizontal line to compare values with, such as the latency of an SLO."""

    name: str
    value: float


def lines(series: Sequence[Line], x_title: str, y_title: str, x_ticks: Sequence[tuple[float, str]] = (),
          step: bool = False, dots: bool = False, limit: Limit | None = None,
          marks: Sequence[tuple[float, float, str]] = ()) -> str:
    """Lines over common axes; the y axis begins at 0. `step` draws steps instead of slopes, for distribution functions;
    `marks` are points (x, y, word) to draw a ring around."""
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points] + ([limit.value] if limit else [])
    ticks = x_ticks or [(tick, number(tick)) for tick in nice_ticks(min(xs), max(xs))]
    x = _scale(min(xs + [t for t, _ in ticks]), max(xs + [t for t, _ in ticks]), LEFT, WIDTH - RIGHT)
    y_ticks = nice_ticks(0, max(ys))
    y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    body = _axes(x, y, ticks, [(tick, number(tick)) for tick in y_ticks], x_title, y_title)
    if limit:
        body.append(f'<path class="limit" d="M{LEFT} {y(limit.value):.1f}H{WIDTH - RIGHT}"/><text class="tick" '
                    f'x="{WIDTH - RIGHT}" y="{y(limit.value) - 4:.1f}" text-anchor="end">{escape(limit.name)}</text>')
    for line in series:
        colour, path = f"c{line.series % SERIES}", _path([(x(a), y(b)) for a, b in line.points], step)
        body.append(f'<path class="line {colour} d{line.dash % DASHES}" d="{path}"/>')
        if dots:
            body += [f'<circle class="dot {colour}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3">'
                     f"<title>{escape(line.name)}: {number(a)}, {number(b)}</title></circle>" for a, b in line.points]
    body += [f'<circle class="mark" cx="{x(a):.1f}" cy="{y(b):.1f}" r="7"/><text class="tick" x="{x(a) + 10:.1f}" '
             f'y="{y(b) + 14:.1f}">{escape(word)}</text>' for a, b, word in marks]
    return _svg(HEIGHT, body, f"{y_title} over {x_title}: {', '.join(line.name for line in series)}")


def bars(values: Sequence[Bar], unit: str) -> str:
    """Horizontal bars from zero with their intervals."""
    longest = max(len(bar.name) for bar in values)
    left = min(150, 14 + 7 * longest)
    x = _scale(0, max(bar.end for bar in values) * 1.04, left, WIDTH - 62)
    body, at, group = [], 4.0, None
    for bar in values:
        if bar.group != group:
            at += 20 if group is None else 28
            body.append(f'<text class="group" x="0" y="{at - 6}">{escape(bar.group)}</text>')
            group = bar.group
        body.append(f'<text class="label" x="{left - 6}" y="{at + 14}" text-anchor="end">{escape(bar.name)}</text>')
        width = max(x(bar.value) - left, 1)
        bounds = f" [{number(bar.interval[0])}, {number(bar.interval[1])}]" if bar.interval else ""
        body.append(f'<rect class="bar {bar.palette}{bar.series % SERIES}" x="{left}" y="{at}" width="{width:.1f}" '
                    f'height="20" rx="3"><title>{escape(bar.name)}: {number(bar.value)} {unit}{bounds}</title></rect>')
        if bar.interval:
            low, high = map(x, bar.interval)
            body.append(f'<path class="whisker" d="M{low:.1f} {at + 10}H{high:.1f}M{low:.1f} {at + 6}v8M{high:.1f} '
                        f'{at + 6}v8"/>')
        body.append(f'<text class="value" x="{max(x(bar.end), x(bar.value)) + 6:.1f}" y="{at + 14}">'
                    f"{number(bar.value)} {unit}</text>")
        at += 24
    return _svg(at + 6, body, f"{', '.join(dict.fromkeys(bar.group for bar in values))}, in {unit}")


def forest(spans: Sequence[Span]) -> str:
    """Ratios with their intervals on one logarithmic axis; the band around 1 in each row is its noise floor."""
    left = min(170, 14 + 7 * max(len(span.label) for span in spans))
    low = min(min(span.ends[0], 1 / (1 + span.floor)) for span in spans)
    high = max(max(span.ends[1], 1 + span.floor) for span in spans)
    margin = (math.log(high) - math.log(low)) * 0.06
    scale = _scale(math.log(low) - margin, math.log(high) + margin, left, WIDTH - RIGHT)
    def x(ratio: float) -> float:
        return scale(math.log(ratio))
    height = 34 + 30 * len(spans)
    body = []
    for tick in nice_ticks(low, high, 4):
        if low <= tick <= high:
            body.append(f'<path class="grid" d="M{x(tick):.1f} 4V{height - 30}"/><text class="tick" x="{x(tick):.1f}" '
                        f'y="{height - 16}" text-anchor="middle">{number(tick)}×</text>')
    body.append(f'<path class="one" d="M{x(1):.1f} 2V{height - 28}"/>')
    for row, span in enumerate(spans):
        y = 18 + 30 * row
        body.append(f'<rect class="floor" x="{x(1 / (1 + span.floor)):.1f}" y="{y - 13}" '
                    f'width="{x(1 + span.floor) - x(1 / (1 + span.floor)):.1f}" height="26"/>')
        body.append(f'<text class="label" x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(span.label)}</text>')
        interval = "no interval"
        if span.interval:
            interval = f"[{span.interval[0]:.3f}, {span.interval[1]:.3f}]"
            body.append(f'<path class="span {span.tone}" d="M{x(span.interval[0]):.1f} {y}'
                        f'H{x(span.interval[1]):.1f}"/>')
        body.append(f'<circle class="span {span.tone}" cx="{x(span.value):.1f}" cy="{y}" r="5"><title>{span.value:.3f} '
                    f"{interval}</title></circle>")
    body.append(f'<text class="tick" x="{left}" y="{height - 2}">◂ candidate slower</text>'
                f'<text class="tick" x="{WIDTH - RIGHT}" y="{height - 2}" text-anchor="end">candidate faster ▸</text>')
    return _svg(height + 4, body, "Ratio baseline over candidate with 95 % intervals")


def course(dots: Sequence[Dot], changes: Sequence[int], ends: tuple[str, str]) -> str:
    """Ratios in the order of their runs on a logarithmic axis; a dashed line before each index of `changes`.

    ends: what stands below the first and the last run.
    """
    low, high = (bound(dot.interval[which] for dot in dots) for which, bound in ((0, min), (1, max)))
    low, high = min(low, 1.0), max(high, 1.0)
    margin = math.log(high / low) * 0.06
    scale = _scale(math.log(low) - margin, math.log(high) + margin, HEIGHT - BOTTOM, TOP)
    x = _scale(-0.5, len(dots) - 0.5, LEFT, WIDTH - RIGHT)

    def y(ratio: float) -> float:
        return scale(math.log(ratio))
    body = [f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/><text class="tick" x="{LEFT - 6}" '
            f'y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}×</text>'
            for tick in nice_ticks(low, high) if low <= tick <= high]
    body.append(f'<path class="one" d="M{LEFT} {y(1):.1f}H{WIDTH - RIGHT}"/>')
    body += [f'<path class="limit" d="M{x(index - 0.5):.1f} {TOP}V{HEIGHT - BOTTOM}"/>' for index in changes]
    for index, dot in enumerate(dots):
        title = f"<title>{escape(dot.label)}: {dot.value:.3f} [{dot.interval[0]:.3f}, {dot.interval[1]:.3f}]</title>"
        body.append(f'<path class="whisker" d="M{x(index):.1f} {y(dot.interval[0]):.1f}V{y(dot.interval[1]):.1f}"/>'
                    f'<circle class="span {dot.tone}" cx="{x(index):.1f}" cy="{y(dot.value):.1f}" r="4">{title}'
                    "</circle>")
    for at, anchor, word in ((LEFT, "start", ends[0]), (WIDTH - RIGHT, "end", ends[1])):
        body.append(f'<text class="tick" x="{at}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">{escape(word)}'
                    "</text>")
    return _svg(HEIGHT - BOTTOM + 22, body, f"{len(dots)} ratios over time, baseline over candidate")


def donut(parts: Sequence[tuple[str, float]], centre: str) -> str:
    """Shares of a whole, largest first, with a legend; of more than six parts, all after the fifth are summed up."""
    ranked = sorted(parts, key=lambda part: -part[1])
    shown = [*ranked[:5], ("other", sum(value for _, value in ranked[5:]))] if len(ranked) > 6 else ranked
    total = sum(value for _, value in shown) or 1.0
    radius, angle, body = 62.0, -math.pi / 2, []
    for index, (name, value) in enumerate(shown):
        sweep = 2 * math.pi * value / total * 0.9999
        a, b = _on_ring(angle, radius), _on_ring(angle + sweep, radius)
        arc = f"M{a}A{radius} {radius} 0 {int(sweep > math.pi)} 1 {b}"
        title = f"<title>{escape(name)}: {number(value)}</title>"
        body.append(f'<path class="ring k{index % SERIES}" d="{arc}">{title}</path>')
        y = 34 + 23 * index
        body.append(f'<rect class="bar k{index % SERIES}" x="180" y="{y - 10}" width="12" height="12" rx="2"/>'
                    f'<text class="label" x="200" y="{y}">{escape(name)} {number(value)} ({value / total:.0%})</text>')
        angle += sweep
    body.append(f'<text class="group" x="80" y="95" text-anchor="middle">{escape(centre)}</text>')
    return _svg(180, body, f"{centre}: {', '.join(name for name, _ in shown)}")


def legend(series: Sequence[Line]) -> str:
    """The name of each line beside a sample of its colour and dash."""
    return '<p class="legend">' + "".join(
        f'<span><svg viewBox="0 0 26 8"><path class="line c{line.series % SERIES} d{line.dash % DASHES}" d="M0 4H26"/>'
        f"</svg>{escape(line.name)}</span>" for line in series) + "</p>"


def drawable(low: float | None, high: float | None) -> tuple[float, float] | None:
    """The interval if it can be drawn; None if a bound is unknown or infinite, or if both are equal."""
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high) and low < high
    return (low, high) if known and low is not None and high is not None else None


def number(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers that enclose low..high."""
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _axes(x: Callable[[float], float], y: Callable[[float], float], x_ticks: Sequence[tuple[float, str]],
          y_ticks: Sequence[tuple[float, str]], x_title: str, y_title: str) -> list[str]:
    floor = HEIGHT - BOTTOM
    body = [f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/><text class="tick" x="{LEFT - 6}" '
            f'y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>' for tick, text in y_ticks]
    body += [f'<path class="grid" d="M{x(tick):.1f} {TOP}V{floor}"/><text class="tick" x="{x(tick):.1f}" '
             f'y="{floor + 15}" text-anchor="{_anchor(x(tick), text)}">{text}</text>' for tick, text in x_ticks]
    for where, title in ((f'x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}"', x_title),
                         (f'transform="translate(11 {(TOP + floor) / 2}) rotate(-90)"', y_title)):
        body.append(f'<text class="tick" {where} text-anchor="middle">{escape(title)}</text>')
    return body


def _anchor(x: float, text: str) -> str:
    """The text anchor at x: a word at the right edge is right-aligned, since centred it would be cut off."""
    return "end" if x + 3.5 * len(text) > WIDTH else "middle"


def _on_ring(angle: float, radius: float) -> str:
    return f"{80 + radius * math.cos(angle):.1f} {90 + radius * math.sin(angle):.1f}"


def _path(points: Sequence[tuple[float, float]], step: bool) -> str:
    if not points:
        return ""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for a, b in points[1:]:
        parts.append(f"H{a:.1f}V{b:.1f}" if step else f"L{a:.1f} {b:.1f}")
    return "".join(parts)


def _svg(height: float, body: Sequence[str], title: str) -> str:
    return (f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
            f'{"".join(body)}</svg>')
