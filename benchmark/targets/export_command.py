"""`python -m export` in a child process: what benchmark wants to know of a model's graph, which it does not read."""
import subprocess

from benchmark.targets.child import Child, python_module
from user_error import FailedError

LONGEST_S = 600.0


class ExportError(FailedError):
    """The command failed; the message is its reason."""


def export(command: str, *arguments: str) -> None:
    """Runs `python -m export COMMAND ARGUMENTS` to its end. What it prints is dropped: it is to write a file."""
    with Child(f"export {command}", python_module("export", command, *arguments)) as child:
        try:
            status = child.process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            raise ExportError(f"it did not end within {LONGEST_S:g} s") from None
        if status:
            raise ExportError(child.last_message(most=1000).removeprefix("error: "))
