"""Tables for the terminal, and the same tables as Markdown."""
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def compact(title: str) -> Table:
    """A table without lines and with one space between columns, so that many columns fit into 80 characters."""
    return Table(title=escape(title), title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))


def ruled(title: str, columns: Sequence[str], text: Iterable[str]) -> Table:
    """A table with a line below its head; the columns named in `text` hold words, all others numbers."""
    table, text_columns = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD), set(text)
    for column in columns:
        table.add_column(escape(column), justify="left" if column in text_columns else "right")
    return table


def cells(table: Table) -> tuple[list[str], list[tuple[str, ...]]]:
    """The headers and rows of a table without markup."""
    columns = [[plain(str(cell)).strip() for cell in column.cells] for column in table.columns]
    return [plain(str(column.header)) for column in table.columns], list(zip(*columns, strict=True))


def title(table: Table) -> str:
    return plain(str(table.title)) if table.title else ""


def markdown(table: Table) -> str:
    """A table as GitHub's Markdown."""
    head, rows = cells(table)
    rule = ["---:" if column.justify == "right" else "---" for column in table.columns]
    above = [f"**{title(table)}**", ""] if table.title else []
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in (head, rule, *rows)]
    return "\n".join([*above, *(f"| {line} |" for line in lines)])


def plain(line: str) -> str:
    """A line without markup."""
    return Text.from_markup(line).plain
