"""What `python -m export`, `python -m serving` and `python -m benchmark` share.

A command is a module, imported only when it is chosen, so `--help` costs milliseconds and never imports TensorFlow.
Every failure that a user can cause ends as one line on stderr that says what to do next, and an exit status above 0.
"""
import difflib
import importlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import NoReturn

try:
    import click
    from rich.console import Console
except ModuleNotFoundError as missing:
    print(f"error: {sys.executable} has no {missing.name}: this project's packages are in .venv "
          "('make .venv/.installed' makes it, '. .venv/bin/activate' goes into it)", file=sys.stderr)
    sys.exit(2)

import tensorflow_alone
from user_error import UserError
from whole_file import refuse_unwritable, remedied

EXIT_FAILED = 1
EXIT_COULD_NOT_RUN = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
# What the help of every command says of its exit status, unless its program says more in its table.
STATUSES = {0: "it was done", EXIT_FAILED: "it was tried and failed", EXIT_COULD_NOT_RUN: "it could not be run"}


def _json_path(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    # Checked before the work: an error at its end would lose the result.
    if value not in (None, "-"):
        refuse_unwritable(Path(str(value)))
    return value


json_option = click.option("--json", "json_path", metavar="PATH", callback=_json_path,
                           help="Write the result as JSON to PATH ('-': standard output).")


class Terminated(BaseException):
    """Raised at SIGTERM, so that it unwinds as Ctrl-C does: partial files are removed, child processes are ended."""


class Commands(click.Group):  # decision 1
    """A group whose commands are "module:attribute" strings beside their one-line summaries."""

    def __init__(self, name: str, help: str, commands: Mapping[str, tuple[str, str]],
                 statuses: Mapping[str, Mapping[int, str]] | None = None) -> None:
        """statuses: by command, when it ends with which exit status, where STATUSES do not say enough."""
        super().__init__(name, help=help, context_settings={"help_option_names": ["-h", "--help"],
                                                            "max_content_width": 110})
        self._table = commands
        self._statuses = statuses or {}
        click.version_option(package_name="tfserving-kit", prog_name=f"python -m {name}")(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, _, attribute = self._table[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute or "command")
        assert isinstance(command, click.Command)
        status = exit_status(self._statuses.get(cmd_name, STATUSES))
        if status not in (command.epilog or ""):
            command.epilog = f"{command.epilog or ''}\n\n{status}"
        return command

    def resolve_command(
            self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._table and not args[0].startswith("-"):
            similar = difflib.get_close_matches(args[0], self._table, n=1)
            hint = f"did you mean '{similar[0]}'?" if similar else f"there are: {', '.join(self._table)}"
            raise click.UsageError(f"no command '{args[0]}' ({hint})", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self._table.items()])


def run(commands: Commands) -> NoReturn:
    """Runs the chosen command and ends the process: 0, the command's own status, or 2 with one line on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    tensorflow_alone.own_process = True
    try:
        status = commands.main(prog_name=f"python -m {commands.name}", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        fail(str(error), status_of(error))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # the help, as click's own groups print it
        sys.exit(error.exit_code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else f"python -m {commands.name}"
        fail(f"{error.format_message()} (see '{path} --help')", EXIT_COULD_NOT_RUN)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except Terminated:
        fail("terminated; nothing half-written is left behind", EXIT_TERMINATED)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted; nothing half-written is left behind", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has ended (`| head`): print nothing, and avoid a second error when Python flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_COULD_NOT_RUN)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{remedied(error)}", EXIT_COULD_NOT_RUN)
    sys.exit(status if isinstance(status, int) else 0)


def exit_status(reasons: Mapping[int, str]) -> str:
    """What a command's help says of its exit statuses, in one spelling: {status: when it ends so}."""
    return f"Exit status: {'; '.join(f'{status} if {reason}' for status, reason in sorted(reasons.items()))}."


def status_of(error: UserError) -> int:
    """The exit status of a command that ends with the error."""
    return error.exit_status


def _terminate(number: int, frame: FrameType | None) -> None:
    # A second SIGTERM must not interrupt the clean-up that the first one started.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def fail(message: str, exit_code: int) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(exit_code)


_progress_shown: ContextVar[bool] = ContextVar("progress", default=True)
# The console on which a line changes at the moment: what is printed meanwhile must go through it.
_live: ContextVar[Console | None] = ContextVar("live", default=None)


@contextmanager
def progress(shown: bool) -> Iterator[None]:
    """Whether what is done within shows its progress on stderr; functions of the Python API do when asked."""
    token = _progress_shown.set(shown)
    try:
        yield
    finally:
        _progress_shown.reset(token)


def progress_console() -> Console:
    """stderr, or nothing at all within `progress(False)`."""
    return _live.get() or Console(stderr=True, highlight=False, quiet=not _progress_shown.get())


@contextmanager
def _as_live(console: Console) -> Iterator[None]:
    token = _live.set(console)
    try:
        yield
    finally:
        _live.reset(token)


@contextmanager
def user_errors() -> Iterator[None]:
    """What a command reports in one line, raised as the one UserError: for callers from Python. decision 152"""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{where}{remedied(error)}") from error
    except click.ClickException as error:
        raise UserError(error.format_message()) from error


@contextmanager
def step(title: str) -> Iterator[None]:
    """Shows `title` on stderr while the block runs, and afterwards how many seconds it took."""
    console = progress_console()
    began = perf_counter()
    if console.is_terminal and not console.quiet:
        with console.status(title), _as_live(console):
            yield
    else:
        yield
    console.print(f"[green]✓[/green] {title} [dim]{perf_counter() - began:.1f} s[/dim]", soft_wrap=True)


@contextmanager
def steps(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows on a terminal how many of the block's steps are done. Yields a function to call after each."""
    console, began = progress_console(), perf_counter()
    if not console.is_terminal or console.quiet:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                  console=console, transient=True) as shown, _as_live(console):
        task = shown.add_task(title, total=total)
        yield lambda: shown.advance(task)
    console.print(f"[green]✓[/green] {title} [dim]{perf_counter() - began:.1f} s[/dim]", soft_wrap=True)


# Of two threads that turn descriptor 2 away at once, the second would take the first one's file for standard error.
_turned_away = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back what TensorFlow's C++ side writes to stderr while imported; shows it if the import fails."""
    with _turned_away:
        yield from _quiet()


def _quiet() -> Iterator[None]:
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except Exception:
            captured.seek(0)
            os.write(stderr, captured.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
