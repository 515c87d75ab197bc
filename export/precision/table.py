"""The candidates of one run as a table."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO

from export.precision.trial import Tried

_WIDTH = 140


def table(tried: Mapping[str, Tried], chosen: str, batches: Sequence[int]) -> str:
    """Size, load, error, accuracy and ratio of each candidate, and why it lost; as text of at most 140 columns."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    made = Table("candidate", "MB", "load s", "max error", "accuracy or agreement",
                 *(f"ratio at {batch}" for batch in batches), "why")
    for one in tried.values():
        ratios = [one.ratios.get(str(batch)) for batch in batches]
        figures = [f"{each['ratio']:.2f} [{each['ci95'][0]:.2f}-{each['ci95'][1]:.2f}]" if each else "-"
                   for each in ratios]
        made.add_row(*map(escape, (
            one.name, f"{one.bytes / 1e6:.2f}" if one.bytes else "-", f"{one.load_s:.2f}" if one.bytes else "-",
            f"{one.error:.2g}" if one.bytes else "-", one.closeness() if one.bytes else "-", *figures,
            "chosen" if one.name == chosen else one.lost)))
    console = Console(file=StringIO(), width=_WIDTH)
    console.print(made)
    return str(console.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]
