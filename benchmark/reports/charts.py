"""Charts as inline SVG, drawn for 420 units of width so that their text is readable on a phone.

Colours are CSS variables of the page (--s0 ... for series, --ink, --faint), so light and dark need no second drawing.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 10, 40
SERIES = 6


@dataclass(frozen=True)
class Line:  # decision 62
    """A series of points (x, y), in the unit of its chart."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """A value with its interval; `group` is printed once above the bars that share it."""

    group: str
    name: str
    value: float
    low: float
    high: float
    series: int


@dataclass(frozen=True)
class Span:
    """A ratio with its interval for the forest plot; `tone` is faster, slower or cannot (tell)."""

    label: str
    value: float
    low: float
    high: float
    floor: float
    tone: str


def lines(series: Sequence[Line], x_title: str, y_title: str, x_ticks: Sequence[tuple[float, str]] = (),
          step: bool = False, dots: bool = False, from_zero: bool = True) -> str:
    """Lines over common axes; `step` draws a distribution function as the staircase it is."""
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    ticks = x_ticks or [(tick, number(tick)) for tick in nice_ticks(min(xs), max(xs))]
    x = _scale(min(xs + [t for t, _ in ticks]), max(xs + [t for t, _ in ticks]), LEFT, WIDTH - RIGHT)
    y_ticks = nice_ticks(0 if from_zero else min(ys), max(ys))
    y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    body = _axes(x, y, ticks, [(tick, number(tick)) for tick in y_ticks], x_title, y_title)
    for index, line in enumerate(series):
        body.append(f'<path class="line c{index % SERIES}" d="{_path([(x(a), y(b)) for a, b in line.points], step)}"/>')
        if dots:
            body += [f'<circle class="dot c{index % SERIES}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3">'
                     f"<title>{escape(line.name)}: {number(a)}, {number(b)}</title></circle>" for a, b in line.points]
    return _svg(HEIGHT, body, f"{y_title} over {x_title}: {', '.join(line.name for line in series)}")


def bars(values: Sequence[Bar], unit: str) -> str:
    """Horizontal bars from zero with their intervals."""
    longest = max(len(bar.name) for bar in values)
    left = min(150, 14 + 7 * longest)
    x = _scale(0, max(bar.high for bar in values) * 1.04, left, WIDTH - 62)
    body, at, group = [], 4.0, None
    for bar in values:
        if bar.group != group:
            at += 20 if group is None else 28
            body.append(f'<text class="group" x="0" y="{at - 6}">{escape(bar.group)}</text>')
            group = bar.group
        body.append(f'<text class="label" x="{left - 6}" y="{at + 14}" text-anchor="end">{escape(bar.name)}</text>')
        width = max(x(bar.value) - left, 1)
        body.append(f'<rect class="bar c{bar.series % SERIES}" x="{left}" y="{at}" width="{width:.1f}" '
                    f'height="20" rx="3"><title>{escape(bar.name)}: {number(bar.value)} {unit} '
                    f"[{number(bar.low)}, {number(bar.high)}]</title></rect>")
        if bar.low < bar.high:
            body.append(f'<path class="whisker" d="M{x(bar.low):.1f} {at + 10}H{x(bar.high):.1f}M{x(bar.low):.1f} '
                        f'{at + 6}v8M{x(bar.high):.1f} {at + 6}v8"/>')
        body.append(f'<text class="value" x="{max(x(bar.high), x(bar.value)) + 6:.1f}" y="{at + 14}">'
                    f"{number(bar.value)} {unit}</text>")
        at += 24
    return _svg(at + 6, body, f"{', '.join(dict.fromkeys(bar.group for bar in values))}, in {unit}")


def forest(spans: Sequence[Span]) -> str:
    """Ratios with their intervals on one logarithmic axis; the band around 1 is the noise floor of each."""
    left = min(170, 14 + 7 * max(len(span.label) for span in spans))
    low = min(min(span.low, 1 / (1 + span.floor)) for span in spans)
    high = max(max(span.high, 1 + span.floor) for span in spans)
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
        body.append(f'<path class="span {span.tone}" d="M{x(span.low):.1f} {y}H{x(span.high):.1f}"/>'
                    f'<circle class="span {span.tone}" cx="{x(span.value):.1f}" cy="{y}" r="5"><title>{span.value:.3f} '
                    f"[{span.low:.3f}, {span.high:.3f}]</title></circle>")
    body.append(f'<text class="tick" x="{left}" y="{height - 2}">◂ candidate slower</text>'
                f'<text class="tick" x="{WIDTH - RIGHT}" y="{height - 2}" text-anchor="end">candidate faster ▸</text>')
    return _svg(height + 4, body, "Ratio baseline over candidate with 95 % intervals")


def donut(parts: Sequence[tuple[str, float]], centre: str) -> str:
    """Shares of a whole, largest first, with a legend; those beyond the fifth are summed up."""
    ranked = sorted(parts, key=lambda part: -part[1])
    shown = [*ranked[:5], ("other", sum(value for _, value in ranked[5:]))] if len(ranked) > 6 else ranked
    total = sum(value for _, value in shown) or 1.0
    radius, angle, body = 62.0, -math.pi / 2, []
    for index, (name, value) in enumerate(shown):
        sweep = 2 * math.pi * value / total * 0.9999
        a, b = _on_ring(angle, radius), _on_ring(angle + sweep, radius)
        arc = f"M{a}A{radius} {radius} 0 {int(sweep > math.pi)} 1 {b}"
        title = f"<title>{escape(name)}: {number(value)}</title>"
        body.append(f'<path class="ring c{index % SERIES}" d="{arc}">{title}</path>')
        y = 34 + 23 * index
        body.append(f'<rect class="bar c{index % SERIES}" x="180" y="{y - 10}" width="12" height="12" rx="2"/>'
                    f'<text class="label" x="200" y="{y}">{escape(name)} {number(value)} ({value / total:.0%})</text>')
        angle += sweep
    body.append(f'<text class="group" x="80" y="95" text-anchor="middle">{escape(centre)}</text>')
    return _svg(180, body, f"{centre}: {', '.join(name for name, _ in shown)}")


def legend(names: Sequence[str]) -> str:
    return '<p class="legend">' + "".join(
        f'<span><i class="c{index % SERIES}"></i>{escape(name)}</span>' for index, name in enumerate(names)) + "</p>"


def number(value: float) -> str:
    """Three significant digits, no exponent for what people measure."""
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
             f'y="{floor + 15}" text-anchor="middle">{text}</text>' for tick, text in x_ticks]
    for where, title in ((f'x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}"', x_title),
                         (f'transform="translate(11 {(TOP + floor) / 2}) rotate(-90)"', y_title)):
        body.append(f'<text class="tick" {where} text-anchor="middle">{escape(title)}</text>')
    return body


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
