"""The operations of a study's variants, before and after: rows for a table, and rings with sizes as one SVG file."""
import math
import re
from collections.abc import Sequence
from typing import TypedDict

from benchmark.reports import charts, picture
from benchmark.reports.picture import EDGE, ROOM, WIDTH, Word, words

RINGS, OWN_COLOUR = 4, 7  # at most; of more variants or operations, the rest is in the table
SIDE_BY_SIDE = 5  # more variants than this are the rows of their table, not its columns
RADIUS, THICK = 58.0, 26.0


class Variant(TypedDict):
    """A version's graph: `ops` counts its nodes by operation, functions included; `bytes` are those on disk."""

    name: str
    bytes: int
    nodes: int
    ops: dict[str, int]


def rows(variants: Sequence[Variant], most: int = 30) -> list[list[str]]:
    """Operation, "396 → 165" (first and second variant), then the count in each further variant; most of the original
    first. Operations past `most` are summed up. The last rows are all nodes and the size on disk."""
    names = _ranked(variants)
    shown, rest = names[:most], names[most:]
    made = [[name, *("–" if cell in ("0", "0 → 0") else cell for cell in _changed(
        [f"{each['ops'].get(name, 0):,}" for each in variants]))] for name in shown]
    if rest:
        sums = [f"{sum(each['ops'].get(name, 0) for name in rest):,}" for each in variants]
        made.append([f"{len(rest)} other operations", *_changed(sums)])
    return [*made, ["all nodes", *_changed([f"{each['nodes']:,}" for each in variants])],
            ["size on disk", *_changed([size(each["bytes"]) for each in variants])]]


def head(variants: Sequence[Variant]) -> list[str]:
    """The heads of the columns of `rows`."""
    return ["operation", *_changed([each["name"] for each in variants])]


def head_by_variant(variants: Sequence[Variant]) -> list[str]:
    """The heads of the columns of `rows_by_variant`."""
    return ["", "size on disk", "nodes", *_most_used(variants)]


def rows_by_variant(variants: Sequence[Variant]) -> list[list[str]]:
    """Name, size, nodes and the counts of the most used operations, a row for each variant."""
    return [[each["name"], size(each["bytes"]), f"{each['nodes']:,}",
             *(f"{each['ops'].get(name, 0):,}" for name in _most_used(variants))] for each in variants]


def counts(variants: Sequence[Variant], name: str) -> list[int]:
    """How many operations of that name each variant has, in any version (FusedBatchNorm, FusedBatchNormV3), or how many
    nodes, for "nodes"; nothing if no variant has any."""
    if name.lower() == "nodes":
        return [each["nodes"] for each in variants]

    def plain(op: str) -> str:
        return re.sub(r"V\d+$", "", op)
    found = [sum(number for op, number in each["ops"].items() if plain(op) == plain(name)) for each in variants]
    return found if any(found) else []


def size(count: float) -> str:
    """Bytes with three significant digits: 22.1 MB, 2.78 MB, 4.2 kB."""
    unit, name = next((unit for unit in ((1e9, "GB"), (1e6, "MB")) if count >= unit[0]), (1e3, "kB"))
    return f"{charts.number(count / unit)} {name}"


def svg(title: str, variants: Sequence[Variant]) -> str:
    """Rings of the operations of up to four variants, the counts below, and the size of every variant as a bar."""
    model, own = _of_the_first(variants)
    ringed, body = [each for each in own if each["ops"]][:RINGS], []
    y = 34.0
    for line in picture.lines(words(title), 17, ROOM, 2, bold=True):
        body.append(picture.line(EDGE, y, line, 17, bold=True))
        y += 21
    body.append(picture.line(EDGE, y, words(f"operations{f' of {model}' if model else ''} and sizes", "soft"), 12.5))
    y += 12
    # An operation has one colour in all rings; those that have none of their own are summed up in the last colour.
    peaks = sorted(_ranked(ringed), key=lambda name: -max(each["ops"].get(name, 0) for each in ringed))
    coloured = [name for name in _ranked(ringed) if len(peaks) <= OWN_COLOUR + 1 or name in peaks[:OWN_COLOUR]]
    for index, each in enumerate(ringed):
        last = index == len(ringed) - 1
        centre = WIDTH / 2 if last and index % 2 == 0 else WIDTH * (0.26 if index % 2 == 0 else 0.74)
        body += _ring(each, coloured, centre, y + 8 + RADIUS + THICK / 2)
        if index % 2 or last:
            y += 2 * RADIUS + THICK + 44
    y = _legend(body, y + 14, ringed, coloured)
    y = _sizes(body, y + 22, variants)
    return picture.file(y, f"{title}: operations and sizes", described(variants), body)


def described(variants: Sequence[Variant]) -> str:
    """What the picture shows, in words."""
    return " ".join(f"{each['name']}: {each['nodes']:,} nodes, {size(each['bytes'])}; " + ", ".join(
        f"{each['ops'][name]:,} {name}" for name in _ranked([each])[:OWN_COLOUR]) + "." for each in variants)


def _ranked(variants: Sequence[Variant]) -> list[str]:
    """All operations, those that the first variant has most of first; then those of the second, and so on."""
    names = dict.fromkeys(name for each in variants for name in each["ops"])
    return sorted(names, key=lambda name: ([-each["ops"].get(name, 0) for each in variants], name))


def _most_used(variants: Sequence[Variant]) -> list[str]:
    total = {name: sum(each["ops"].get(name, 0) for each in variants) for name in _ranked(variants)}
    return sorted(total, key=lambda name: -total[name])[:OWN_COLOUR]


def _of_the_first(variants: Sequence[Variant]) -> tuple[str, list[Variant]]:
    """The first model and its variants without its name, where all names are "MODEL, VARIANT"; else "" and all."""
    if len(variants) <= SIDE_BY_SIDE or not all(", " in each["name"] for each in variants):
        return "", list(variants)
    model = variants[0]["name"].rpartition(", ")[0]
    own = [each for each in variants if each["name"].rpartition(", ")[0] == model]
    return model, [{**each, "name": each["name"].rpartition(", ")[2]} for each in own]


def _changed(cells: Sequence[str]) -> list[str]:
    return [" → ".join(cells[:2]), *cells[2:]]


def _counts(each: Variant, coloured: Sequence[str]) -> list[int]:
    own = [each["ops"].get(name, 0) for name in coloured]
    rest = sum(each["ops"].values()) - sum(own)
    return [*own, rest]


def _ring(each: Variant, coloured: Sequence[str], x: float, y: float) -> list[str]:
    counts = _counts(each, coloured)
    total, angle, made = sum(counts), -math.pi / 2, []
    for index, count in enumerate(counts):
        sweep = 2 * math.pi * count / total if total else 0.0
        if sweep:
            made.append(f'<path class="op{min(index, OWN_COLOUR)} slice" d="{_slice(x, y, angle, sweep)}"/>')
        angle += sweep
    made.append(picture.line(x, y + 2, words(f"{each['nodes']:,}"), 21, bold=True, anchor="middle"))
    made.append(picture.line(x, y + 18, words("nodes", "soft"), 12, anchor="middle"))
    name = picture.lines(words(each["name"]), 13.5, ROOM / 2 - 8, 1, bold=True)
    return [*made, *(picture.line(x, y + RADIUS + THICK / 2 + 24, line, 13.5, bold=True, anchor="middle")
                     for line in name)]


def _slice(x: float, y: float, angle: float, sweep: float) -> str:
    """A sector of a ring; a whole ring is drawn as two halves, since an arc cannot end where it begins."""
    if sweep > 1.999 * math.pi:
        return _slice(x, y, angle, math.pi) + _slice(x, y, angle + math.pi, math.pi)
    outer, inner = RADIUS + THICK / 2, RADIUS - THICK / 2

    def at(radius: float, where: float) -> str:
        return f"{x + radius * math.cos(where):.2f} {y + radius * math.sin(where):.2f}"
    large = int(sweep > math.pi)
    return (f"M{at(outer, angle)}A{outer:g} {outer:g} 0 {large} 1 {at(outer, angle + sweep)}L{at(inner, angle + sweep)}"
            f"A{inner:g} {inner:g} 0 {large} 0 {at(inner, angle)}Z")


def _legend(body: list[str], y: float, ringed: Sequence[Variant], coloured: Sequence[str]) -> float:
    """Adds a line for each colour with its count in every ring; returns the y below."""
    others = len(_ranked(ringed)) - len(coloured)
    names = [*coloured, *([f"{others} others"] if others else [])]
    counts = [[f"{count:,}" for count in _counts(each, coloured)] for each in ringed]
    widest = max((picture.width_of(cell, 13) for cells in counts for cell in cells), default=0) + 12
    named = max((picture.width_of(each["name"], 12) for each in ringed), default=0) + 12
    column = max(52.0, widest, min(named, (ROOM - 135) / max(len(ringed), 1)))
    room = ROOM - 20 - column * len(ringed)
    for place, each in enumerate(ringed):
        x = WIDTH - EDGE - column * (len(ringed) - 1 - place)
        body += [picture.line(x, y, line, 12, anchor="end")
                 for line in picture.lines(words(each["name"], "soft"), 12, column - 10, 1)]
    y += 20
    for index, name in enumerate(names):
        body.append(picture.box(EDGE, y - 10, 12, 12, f"op{min(index, OWN_COLOUR)}", 3))
        body.append(picture.line(EDGE + 20, y, picture.lines([Word(name)], 13, room, 1)[0], 13))
        body += [picture.line(WIDTH - EDGE - column * (len(ringed) - 1 - place), y,
                              [Word(cells[index], "ink" if cells[index] != "0" else "soft")], 13, anchor="end")
                 for place, cells in enumerate(counts)]
        y += 20
    return y


def _sizes(body: list[str], y: float, variants: Sequence[Variant]) -> float:
    """Adds a bar for the size of every variant; returns the height of the picture."""
    body.append(picture.line(EDGE, y, words("Size on disk"), 13.5, bold=True))
    largest = max((each["bytes"] for each in variants), default=0) or 1
    y += 24
    for each in variants:
        text = size(each["bytes"])
        label = picture.lines(words(each["name"]), 13, ROOM - picture.width_of(text, 13) * picture.BOLD - 8, 1)
        body += [picture.line(EDGE, y, line, 13) for line in label]
        body.append(picture.line(WIDTH - EDGE, y, words(text), 13, bold=True, anchor="end"))
        body.append(picture.box(EDGE, y + 7, ROOM, 9, "track", 3))
        body.append(picture.box(EDGE, y + 7, max(ROOM * each["bytes"] / largest, 2), 9, "start", 3))
        y += 38
    return y - 4
