"""A picture as one SVG file that needs nothing beside it: colours for light and dark pages, and text that fits."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from unicodedata import category, east_asian_width

WIDTH, EDGE = 400, 18  # decision 231
ROOM = WIDTH - 2 * EDGE
BOLD = 1.13  # how much wider bold text is
SHOWN = 1.8  # pixels of the file's own size for each unit: 720 pixels wide where there is room
FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif'
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
# The class of a shape or a text -> its colour on a light and on a dark page.
COLOURS = {
    "paper": ("#ffffff", "#14171c"), "frame": ("#dcd9d2", "#323945"), "track": ("#f0eeea", "#22272f"),
    "notch": ("#ffffff", "#14171c"), "ink": ("#1d2129", "#ece9e3"), "soft": ("#5b6472", "#9fa9b7"),
    "one": ("#8a929e", "#6f7a88"), "start": ("#7b8ba1", "#8496ad"), "faster": ("#7cc29c", "#2f8058"),
    "fastest": ("#1a7f4b", "#58c98b"), "slower": ("#c0392b", "#f0786a"), "cannot": ("#b4b8be", "#565e6a"),
    "published": ("#7446b3", "#bb9cec"),
    "op0": ("#3f6fb5", "#6f9be0"), "op1": ("#e0a03b", "#e3b75a"), "op2": ("#3c9d94", "#4fbdb2"),
    "op3": ("#a8577f", "#cf86aa"), "op4": ("#8fb8e8", "#3d6299"), "op5": ("#7d8a5c", "#a3b27c"),
    "op6": ("#d98a73", "#a8604c"), "op7": ("#c3c8cf", "#515966"),
}


@dataclass(frozen=True)
class Word:
    """A word and the class of its colour."""

    text: str
    style: str = "ink"


def words(text: str, style: str = "ink") -> list[Word]:
    """The words of a text; characters that XML does not allow count as spaces."""
    return [Word(word, style) for word in _allowed(text).split()]


def lines(text: Sequence[Word], size: float, room: float, most: int = 4, bold: bool = False) -> list[list[Word]]:
    """`text` in lines that are at most `room` units wide; what is past the last line is left out, with "…" for it."""
    size *= BOLD if bold else 1
    made: list[list[Word]] = [[]]
    for each in text:
        fitting = _cut(each, size, room)
        if made[-1] and _width([*made[-1], fitting], size) > room:
            if len(made) == most:
                made[-1][-1] = _cut(Word(f"{made[-1][-1].text}…", made[-1][-1].style), size, room)
                break
            made.append([])
        made[-1].append(fitting)
    return made if text else []


def width_of(text: str, size: float) -> float:
    """About how wide a text is: as in DejaVu Sans, which is wider than most fonts of its kind."""
    return size * sum(map(_share, text))


def line(x: float, y: float, text: Sequence[Word], size: float, bold: bool = False, anchor: str = "") -> str:
    """One line of text with its base line at y; `anchor` is "", "middle" or "end"."""
    spans: list[str] = []
    for index, each in enumerate(text):
        space = " " if index else ""
        if index and text[index - 1].style == each.style:
            spans[-1] = spans[-1].removesuffix("</tspan>") + f" {escape(each.text)}</tspan>"
        else:
            spans.append(f'<tspan class="{each.style}">{space}{escape(each.text)}</tspan>')
    attributes = (' font-weight="700"' if bold else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{attributes} xml:space="preserve">{"".join(spans)}'
            "</text>")


def box(x: float, y: float, width: float, height: float, style: str, radius: float = 0) -> str:
    return (f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            + (f' rx="{radius:g}"' if radius else "") + "/>")


def file(height: float, title: str, about: str, body: Iterable[str]) -> str:
    """The file: a card of WIDTH x `height` units with `body` on it; `about` says in words what it shows."""
    frame = (f'<rect class="paper" width="{WIDTH}" height="{height:.0f}" rx="14"/><rect class="frame" x=".5" y=".5" '
             f'width="{WIDTH - 1}" height="{height - 1:.0f}" rx="13.5"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH * SHOWN:.0f}" '
            f'height="{height * SHOWN:.0f}" role="img" aria-labelledby="title about">\n'
            f'<title id="title">{escape(_allowed(title))}</title>\n<desc id="about">{escape(_allowed(about))}</desc>\n'
            f"<style>{_style()}</style>\n" + "\n".join([frame, *body]) + "\n</svg>\n")


def _style() -> str:
    # Colours are repeated in plain rules: programs other than browsers know no variables and take the light ones.
    def rules(page: int) -> str:
        return "".join(f".{name}{{fill:{colours[page]}}}" for name, colours in COLOURS.items()) + "".join(
            f".{kind}{{fill:none;stroke:{COLOURS[name][page]}}}"
            for kind, name in (("frame", "frame"), ("whisker", "ink"), ("halo", "paper"), ("mark", "published"))
        ) + f".slice{{stroke:{COLOURS['paper'][page]}}}"
    shared = (f"text{{font-family:{FONT};font-variant-numeric:tabular-nums}}.mono{{font-family:{MONO}}}"
              ".whisker,.mark{stroke-width:1.5}.halo{stroke-width:3.5;stroke-opacity:.55}"
              ".slice{stroke-width:1}")
    return f"{shared}{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}"


def _allowed(text: str) -> str:
    return "".join(" " if category(c) in ("Cc", "Cs", "Cn") else c for c in text)


def _cut(word: Word, size: float, room: float) -> Word:
    text = word.text
    while width_of(text, size) > room and len(text) > 2:
        text = f"{text.removesuffix('…')[:-1]}…"
    return Word(text, word.style)


def _width(text: Sequence[Word], size: float) -> float:
    return width_of(" ".join(each.text for each in text), size)


def _share(character: str) -> float:
    if east_asian_width(character) in "WF":
        return 1.0
    if character in "iljI.,:;'|! ":
        return 0.34
    if character in "ftr()[]-/":
        return 0.41
    if character in "mwMW%@→×…":
        return 0.9
    return 0.69 if character.isupper() else 0.63
