"""The only list of the kinds of results. A new kind is a module with the four attributes of `Kind`, and a line here."""
from typing import Any, Protocol

from rich.table import Table

from benchmark.reports import compare, overhead, profile, run, search, split, study, sweep, tune
from benchmark.reports.head import Head


class Kind(Protocol):  # decision 105
    """The attributes of a module of reports/ for one kind of result."""

    NEEDED: frozenset[str]  # the keys without which a file is no result of this kind

    def tables(self, result: Any) -> list[Table]: ...  # for a terminal of 80 columns, and for Markdown
    def lines(self, result: Any) -> list[str]: ...  # what the tables do not say, with rich's markup
    def html(self, result: Any) -> str: ...  # one page that works offline


KINDS: dict[str, Kind] = {"compare": compare, "run": run, "sweep": sweep, "search": search, "split": split,
                          "profile": profile, "overhead": overhead, "tune": tune, "study": study}


def of(result: Head) -> Kind:
    """The module for a result."""
    return KINDS[result["kind"]]
