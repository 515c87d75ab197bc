"""An environment of its own for a foreign package that does not fit this project's versions, made when first needed.

    python = environment("zentf", Path("reports/studies/venvs"))      # reports/studies/venvs/zentf/bin/python

Every version in it is pinned by pinned/NAME.txt. It is complete when it has a copy of that file; one that was
interrupted, or that an older list made, is made anew.
"""
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmark.targets.child import Child
from commandline import step
from user_error import FailedError
from whole_file import write_text

ROOT = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).with_name("pinned")
LONGEST_S = 1800.0
# One retry for each package: without a network, pip's own five would take minutes.
_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1")


def environment(name: str, folder: Path, lists: Path = LISTS) -> Path:  # decision 226
    """The interpreter of the environment folder/NAME. Raises FailedError with the reason if it cannot be made."""
    wanted, home = (lists / f"{name}.txt").read_text(encoding="utf-8"), folder.resolve() / name
    python, complete = home / "bin" / "python", home / "complete.txt"
    if not (complete.is_file() and complete.read_text(encoding="utf-8") == wanted and python.exists()):
        with step(f"Make the environment {home}"):
            shutil.rmtree(home, ignore_errors=True)
            home.parent.mkdir(parents=True, exist_ok=True)
            finish(f"environment of {name}", [sys.executable, "-m", "venv", str(home)])
            finish(f"pip of {name}", [str(python), *_PIP, "-r", str(lists / f"{name}.txt")])
            write_text(complete, wanted)
    return python


def finish(title: str, argv: list[str], env: dict[str, str] | None = None, cwd: Path = ROOT,
           longest_s: float = LONGEST_S, **pipes: Any) -> None:
    """Runs a program to its end. Raises FailedError with its last message if it fails or takes longer.

    env: variables besides this process's own. Wherever it runs, it can import the project's modules.
    """
    # TensorFlow's own notes are no reason for a failure.
    own = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(ROOT), **(env or {})}
    with Child(title, argv, own, cwd, **pipes) as child:
        try:
            status = child.process.wait(longest_s)
        except subprocess.TimeoutExpired:
            raise FailedError(f"the {title} did not end within {longest_s:g} s") from None
        if status < 0:
            raise FailedError(f"the {title} was ended by {signal.Signals(-status).name}: {child.last_message()}")
        if status:
            raise FailedError(child.last_message().removeprefix("ERROR: ").removeprefix("error: "))
