"""A progress bar for measurements that have an end in time."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, perf_counter

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from commandline import progress_console


@contextmanager
def progress_bar(title: str, total: int, until: float | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; elsewhere only one line at the end. Yields a function that adds finished steps.

    until: the latest end (monotonic clock); the bar shows the time left until then.
    """
    console, began = progress_console(), perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True,
                  disable=console.quiet or not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, left="")

        def done(steps: int) -> None:
            left = "" if until is None else f"at most {duration(max(0.0, until - monotonic()))} left"
            progress.update(task, advance=steps, left=left)
        yield done
    console.print(f"[green]✓[/green] {title} [dim]{perf_counter() - began:.1f} s[/dim]", soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as text: 45 s, 10 min."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
