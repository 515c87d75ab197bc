"""Shows on stderr how far a measurement is."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counted(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, one line when done everywhere else. Yields a function that takes the steps done since."""
    console, began = Console(stderr=True, highlight=False), perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda steps: progress.advance(task, steps)
    console.print(f"[green]✓[/green] {title} [dim]{perf_counter() - began:.1f} s[/dim]", soft_wrap=True)
