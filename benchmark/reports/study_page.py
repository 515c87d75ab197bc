"""The page of a study in docs/studies/: its prose is written by hand, its figures are filled in from a stored result.

A figure stands in a block between two comments, `<!-- study: KEY -->` and `<!-- end of study: KEY -->`.
"""
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap

from benchmark.reports import op_counts, study_tables, way
from benchmark.reports.study_result import StudyResult
from benchmark.reports.study_tables import Grid
from user_error import UserError
from whole_file import write_text

COMMENT = re.compile(r"<!-- (end of )?study: *(.*?) *-->")
WIDTH = 120


def write(folder: Path, result: StudyResult) -> None:
    """Writes the `files` of a study."""
    for path, text in files(folder, result).items():
        write_text(path, text)


def files(folder: Path, result: StudyResult) -> dict[Path, str]:
    """The page folder/NAME.md filled in, and its pictures, by path. A page that is not there yet begins with all blocks
    under headings; its prose is still to be written.

    Raises:
        UserError: the page's comments are not as `fill` wants them.
    """
    path = folder / f"{result['study']}.md"
    page = path.read_text(encoding="utf-8") if path.is_file() else _empty(result)
    return {path: fill(page, result), **{folder / name: text for name, text in pictures(result).items()}}


def pictures(result: StudyResult) -> dict[str, str]:
    """The SVG files of the page by name: NAME.svg, and NAME-ops.svg if operations are known."""
    name = result["study"]
    made = {f"{name}.svg": way.svg(result)}
    if result["variants"]:
        made[_of_operations(result)] = op_counts.svg(result["title"], result["variants"])
    return made


def blocks(result: StudyResult) -> dict[str, str]:
    """Every block by its key, as Markdown."""
    return {key: "\n\n".join(filter(None, make(result))) for key, make in BLOCKS.items()}


def fill(page: str, result: StudyResult) -> str:  # decision 232
    """The page with what is between the comments replaced, and all else as it was.

    Raises:
        UserError: a key that is not known, a block without its end, or an end without its block.
    """
    made, where = blocks(result), f"docs/studies/{result['study']}.md"
    parts, at, opened = [], 0, ""
    for comment in COMMENT.finditer(page):
        ends, key = bool(comment[1]), comment[2]
        if key not in made:
            raise UserError(f"{where}: {comment[0]} is none of {', '.join(made)}")
        if ends and key != opened:
            raise UserError(f"{where}: {comment[0]} ends no block: write <!-- study: {key} --> before it")
        if opened and not ends:
            break
        if not ends:
            parts += [page[at:comment.end()], f"\n\n{made[key]}\n\n"]
        at, opened = comment.start() if ends else comment.end(), "" if ends else key
    if opened:
        raise UserError(f"{where}: <!-- study: {opened} --> has no end: write <!-- end of study: {opened} --> after it")
    return "".join([*parts, page[at:]])


def _empty(result: StudyResult) -> str:
    shown = f"![The way from the original to the fastest]({result['study']}.svg)"
    parts = [f"## {title}\n\n<!-- study: {key} -->\n<!-- end of study: {key} -->\n" for key, title in TITLES.items()]
    return "\n".join([f"# {result['title']}\n", f"{shown}\n", *parts])


def _machine(result: StudyResult) -> list[str]:
    return [_table(study_tables.machine(result))]


def _article(result: StudyResult) -> list[str]:
    article = result["article"]
    title = f"[{_plain(article['title'])}]({article['url']})" if article["url"] else _plain(article["title"])
    by = f"{article['author']}, {article['year']}: {title}." if article["author"] else ""
    return [_prose(by), *map(_prose, study_tables.beside_the_article(result)),
            *map(_table, study_tables.article(result)), _prose(study_tables.measured_on(result))]


def _parts(result: StudyResult) -> list[str]:
    made = []
    for part in result["parts"]:
        notes = "\n".join("\n  ".join(wrap(f"- {note}", WIDTH - 2, break_long_words=False, break_on_hyphens=False))
                          for note in part["notes"])
        rows = _table(study_tables.part(result, part)) if part["rows"] else ""
        made += [f"### {part['title']}", rows, _prose(study_tables.below(result, part)), notes]
    return made


def _variants(result: StudyResult) -> list[str]:
    if not result["variants"]:
        return ["None was counted."]
    return [f"![Operations and sizes, before and after]({_of_operations(result)})",
            _table(study_tables.variants(result))]


def _profiles(result: StudyResult) -> list[str]:
    made = [text for found in result.get("profiles", ()) for text in (
        f"{_plain(found['title'])}:", _table(study_tables.profile(found)))]
    return [*made, _prose(f"{study_tables.TRACED} {study_tables.measured_on(result)}")] if made else [
        "Not traced in this study."]


def _limits(result: StudyResult) -> list[str]:
    return [_table(study_tables.limits(result)), _prose(study_tables.measured_on(result))] if result["limits"] else [
        "Not measured in this study."]


def _goals(result: StudyResult) -> list[str]:
    return [_table(study_tables.goals(result)), _prose(study_tables.measured_on(result))] if result["goals"] else [
        "This study has no goals."]


def _missing(result: StudyResult) -> list[str]:
    return [_table(study_tables.missing(result)) if result["does_not_run"] else "All that was tried runs."]


BLOCKS: dict[str, Callable[[StudyResult], list[str]]] = {
    "machine": _machine, "article": _article, "parts": _parts, "variants": _variants,
    "profile": _profiles, "limits": _limits,
    "goals": _goals, "missing": _missing}


TITLES = {"article": "Beside the article", "parts": "Measurements",
          "variants": "Operations and sizes, before and after", "profile": "Where the time goes",
          "limits": "Against the machine", "goals": "Goals",
          "missing": "What does not run", "machine": "Measured on"}


def _of_operations(result: StudyResult) -> str:
    return f"{result['study']}-ops.svg"


def _table(grid: Grid) -> str:
    rule = ["---" if index < grid.text or name in grid.words else "---:" for index, name in enumerate(grid.head)]
    lines = [list(map(_plain, grid.head)), rule, *(list(map(_plain, row)) for row in grid.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text whose characters have no meaning in Markdown; what stands between backticks is code and stays."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    for index in range(0, len(pieces), 2):
        # An underscore within a word and a bracket without a target have no meaning.
        escaped = re.sub(r"([*\\`]|(?<!\w)_|_(?!\w)|(?<=\])\()", r"\\\1", pieces[index])
        pieces[index] = escaped.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(pieces).replace("|", r"\|")


def _prose(text: str) -> str:
    return "\n".join(wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))
