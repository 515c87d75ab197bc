"""The verdicts of a comparison as one picture, for use outside the report: SVG or PNG, drawn from the same shapes."""
from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap

from benchmark.reports.environment import described_class
from benchmark.reports.figures import interval, measure, share, short
from benchmark.reports.head import Head
from benchmark.verdicts.comparison import decisive
from benchmark.verdicts.records import ComparisonRecord
from benchmark.verdicts.scenario import protocol_name
from user_error import UserError
from whole_file import write_bytes

WIDTH, EDGE, ROW = 720, 24, 128
INK, SOFT, PAPER, LINE = "#1d2129", "#5b6472", "#fbfaf8", "#b9b5ac"
COLOURS = {"faster": ("#1a7f4b", "#e7f5ec"), "equal": ("#1a7f4b", "#e7f5ec"), "slower": ("#c0392b", "#fbeae7"),
           "cannot tell": ("#9a6b00", "#fdf4dd")}
SCALE = 2  # pixels of the PNG for each unit, so that it is sharp on dense screens
# Pillow's built-in font, which is there on every machine, has little more than ASCII.
TO_ASCII = str.maketrans({"×": "x", "→": ">", "–": "-"})


class Drawn(Head):
    """What a card shows of a compare.CompareResult, whose page shows the card."""

    baseline: str
    comparisons: list[ComparisonRecord]


@dataclass(frozen=True)
class Label:
    """One line of text whose middle is at height y."""

    x: float
    y: float
    size: int
    text: str
    colour: str = INK


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    radius: float = 0


Shape = Label | Box


def write(path: str | Path, result: Drawn) -> None:
    """Writes the card in the format that the path's extension names. Raises UserError unless it is .svg or .png."""
    kind = kind_of(path)
    write_bytes(path, svg(result).encode() if kind == ".svg" else png(result))


def kind_of(path: str | Path) -> str:
    """The path's extension, `.svg` or `.png`. Raises UserError for any other."""
    kind = Path(path).suffix.lower()
    if kind not in (".svg", ".png"):
        raise UserError(f"{path}: a card is an .svg or a .png file")
    return kind


def svg(result: Drawn) -> str:
    """The card as SVG with its colours inside, since a page that embeds it has no style sheet for it."""
    height = _height(result)
    drawn = []
    for shape in _shapes(result):
        if isinstance(shape, Box):
            drawn.append(f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" '
                         f'height="{shape.height:.1f}" rx="{shape.radius:g}" fill="{shape.colour}"/>')
        else:
            drawn.append(f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size}" fill="{shape.colour}" '
                         f'dominant-baseline="central">{escape(shape.text)}</text>')
    title = escape("; ".join(_verdict(c) for c in _means(result)))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="system-ui,-apple-system,Segoe UI,Roboto,DejaVu Sans,sans-serif" role="img"><title>{title}'
            f'</title>{"".join(drawn)}</svg>\n')


def png(result: Drawn) -> bytes:
    """The card as PNG, twice as large in pixels as the SVG is in units."""
    from PIL import Image, ImageDraw, ImageFont
    image = Image.new("RGB", (WIDTH * SCALE, _height(result) * SCALE), PAPER)
    draw = ImageDraw.Draw(image)
    for shape in _shapes(result):
        if isinstance(shape, Box):
            x, y, right, bottom = (value * SCALE for value in (
                shape.x, shape.y, shape.x + shape.width, shape.y + shape.height))
            draw.rounded_rectangle((x, y, right, bottom), shape.radius * SCALE, shape.colour)
        else:
            text = "".join(c if c.isascii() or c == "±" else "?" for c in shape.text.translate(TO_ASCII))
            font = ImageFont.load_default(shape.size * SCALE)
            draw.text((shape.x * SCALE, shape.y * SCALE), text, shape.colour, font, anchor="lm")
    into = io.BytesIO()
    image.save(into, "PNG", optimize=True)
    return into.getvalue()


def _means(result: Drawn) -> list[ComparisonRecord]:
    return decisive(result["comparisons"])


def _height(result: Drawn) -> int:
    return 86 + ROW * len(_means(result)) + 34


def _shapes(result: Drawn) -> Iterator[Shape]:
    machine = result["environment"]
    yield Box(0, 0, WIDTH, _height(result), PAPER)
    names = list(dict.fromkeys(each["candidate"] for each in _means(result)))
    yield Label(EDGE, 34, 22, _cut(f"{_cut(result['model'], 20)}: {_cut(', '.join(names), 20)} against "
                                       f"{_cut(result['baseline'], 20)}", 58))
    yield Label(EDGE, 62, 13, _cut(f"{result['inputs']}", 100), SOFT)
    for index, comparison in enumerate(_means(result)):
        yield from _row(comparison, 86 + ROW * index)
    of = ", ".join(str(value) for value in (described_class(machine), machine["cpu"], f"{machine['cpu_quota']:g} CPUs",
                                            machine["time"][:10]) if value)
    yield Label(EDGE, _height(result) - 20, 12, _cut(of, 105), SOFT)


def _row(c: ComparisonRecord, top: float) -> Iterator[Shape]:
    colour, paper = COLOURS[c["verdict"]]
    yield Box(EDGE, top, WIDTH - 2 * EDGE, ROW - 14, paper, 8)
    yield Box(EDGE, top, 6, ROW - 14, colour)
    left = EDGE + 22
    yield Label(left, top + 18, 12, f"{protocol_name(c['protocol'])}, batch {c['batch']}, {measure(c)} of "
                                    f"{_cut(c['candidate'], 50)}", SOFT)
    yield Label(left, top + 46, 26, _verdict(c, 27), colour)
    for index, line in enumerate(wrap(_explanation(c), 62)[:2]):
        yield Label(left, top + 76 + 18 * index, 13, line)
    if None not in c["ci95"]:
        yield from _axis(c, 470, WIDTH - EDGE - 24, top + 38, colour)


def _axis(c: ComparisonRecord, left: float, right: float, y: float, colour: str) -> Iterator[Shape]:
    """The interval on a logarithmic axis of ratios with 1 in the middle; the noise floor is the grey band behind it."""
    bounds = [bound for bound in c["ci95"] if bound]
    reach = 1.15 * max(abs(math.log(value)) for value in (*bounds, c["ratio"], 1 + c["floor"]))

    def at(ratio: float) -> float:
        return (left + right) / 2 + (right - left) / 2 * math.log(ratio) / reach
    low, high = at(bounds[0]), at(bounds[-1])
    yield Box(at(1 / (1 + c["floor"])), y - 16, at(1 + c["floor"]) - at(1 / (1 + c["floor"])), 32, "#d9d6cf")
    yield Box(left, y - 0.5, right - left, 1, LINE)
    yield Box(at(1) - 0.5, y - 16, 1, 32, SOFT)
    yield Box(low, y - 2, high - low, 4, colour, 2)
    yield Box(at(c["ratio"]) - 6, y - 6, 12, 12, colour, 6)
    yield Label(left, y - 26, 11, "slower", SOFT)
    yield Label(right - 36, y - 26, 11, "faster", SOFT)


def _verdict(c: ComparisonRecord, most: int = 200) -> str:
    """The verdict in at most `most` characters; if it is longer, the name is cut, never the figure."""
    if c["verdict"] == "cannot tell":
        return "cannot tell"
    figure = " is equal" if c["verdict"] == "equal" else (
        f" is {c['ratio'] if c['verdict'] == 'faster' else 1 / c['ratio']:.2f}× {c['verdict']}")
    # Of a name with an engine, the engine is what tells candidates apart.
    variant, at, engine = c["candidate"].rpartition("@")
    room = most - len(figure) - len(at + engine)
    return (_cut(variant, max(room, 3)) + at + engine if at else _cut(c["candidate"], most - len(figure))) + figure


def _explanation(c: ComparisonRecord) -> str:
    if not c["valid"]:
        return f"INVALID: {'; '.join(c['reasons'])}"
    known = (f"{short(c['baseline_value'])} → {short(c['candidate_value'])} {c['unit']}; ratio {c['ratio']:.3f}, 95 % "
             f"sure between {interval(c['ci95'], between=' and ')}; noise floor ±{c['floor']:.1%}")
    if c["verdict"] == "cannot tell" and c["least_effect"] is not None:
        return f"{known}; {share(c['least_effect'])} would have been detected"
    return known


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most - 3]}..."
