"""The behaviour that all commands share, in real processes."""
import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import pytest

from user_error import UserError
from whole_file import whole_file, write_bytes

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("package", ["export", "serving", "benchmark"])
def test_every_package_prints_its_version(package: str) -> None:
    done = subprocess.run([sys.executable, "-m", package, "--version"], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"python -m {package}, version [0-9.]+\n", done.stdout)


def test_a_file_is_written_completely(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    write_bytes(target, b"whole")
    assert target.read_bytes() == b"whole"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_a_mistyped_path_creates_no_folders(tmp_path: Path) -> None:
    target = tmp_path / "no" / "such" / "file"
    with pytest.raises(UserError, match=f"^cannot write {target}: name a file in a folder that you may write to$"):
        write_bytes(target, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(UserError, match=r"^cannot write /dev/null: "):
        write_bytes("/dev/null", b"")
    assert Path("/dev/null").is_char_device()


def test_writing_to_a_symbolic_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_bytes(tmp_path / "link", b"whole")
    assert ((tmp_path / "link").is_symlink(), (tmp_path / "file").read_bytes()) == (True, b"whole")


def test_a_json_file_that_cannot_be_written_is_refused_before_the_work() -> None:
    done = subprocess.run([sys.executable, "-m", "export", "describe", "no-model", "--json", "no/such/file"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2, "error: cannot write no/such/file: name a file in a folder that you may write to\n")


def test_the_error_for_a_full_disk_gives_the_next_step_and_no_partial_file_is_left(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("as it was")
    with pytest.raises(UserError) as caught, whole_file(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == (
        f"{target} cannot be written: No space left on device; make room there, or write elsewhere")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "as it was")]


def test_an_error_is_one_line() -> None:
    assert str(UserError("two\nlines  and   spaces")) == "two lines and spaces"


@pytest.mark.parametrize(("arguments", "line"), [
    (["nope"], "error: no command 'nope' (there are: "),
    (["optimise"], "error: no command 'optimise' (did you mean 'optimize'?)"),
    (["freeze"], "error: Missing option '--out'."),
])
def test_usage_errors_are_one_line(arguments: list[str], line: str) -> None:
    done = subprocess.run([sys.executable, "-m", "export", *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_the_error_for_missing_packages_says_where_they_are() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import commandline"],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {sys.executable} has no click: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_runs_the_cleanup_and_prints_a_message(number: signal.Signals, status: int, tmp_path: Path) -> None:
    began, left = tmp_path / "began", tmp_path / "left"
    (tmp_path / "waiting.py").write_text(
        "import pathlib, signal, click\n"
        "@click.command()\n"
        "@click.argument('began', type=pathlib.Path)\n"
        "@click.argument('left', type=pathlib.Path)\n"
        "def command(began, left):\n"
        "    try:\n"
        "        began.touch()\n"
        "        signal.pause()\n"
        "    finally:\n"
        "        left.touch()\n")
    program = "import commandline; commandline.run(commandline.Commands('x', 'x', {'wait': ('waiting', 'Waits.')}))"
    with subprocess.Popen([sys.executable, "-c", program, "wait", str(began), str(left)], stderr=subprocess.PIPE,
                          text=True, env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}) as process:
        try:
            deadline = time.monotonic() + 60
            while not began.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert errors.endswith("nothing half-written is left behind\n")
    assert len(errors.strip().splitlines()) == 1  # without the empty line that click prints after "^C" in a terminal
    assert left.exists()


PROGRESS = """
import commandline
with commandline.step("outer"):
    with commandline.steps("inner", 3) as done:
        for _ in range(3):
            commandline.progress_console().print("line between")
            done()
"""


def test_progress_within_progress_on_a_terminal() -> None:
    """What changes in place is on one console, so a line printed meanwhile stays whole."""
    ours, theirs = os.openpty()
    with subprocess.Popen([sys.executable, "-c", PROGRESS], cwd=ROOT, stderr=theirs, env=os.environ | {
            "TERM": "xterm", "COLUMNS": "100"}) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO is the end of a terminal's output on Linux
            while chunk := os.read(ours, 65536):
                shown += chunk
        os.close(ours)
    assert process.returncode == 0
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()))
    assert lines.count("line between") == 3
    assert [line.split()[1] for line in lines if line.startswith("\u2713")] == ["inner", "outer"]


def test_steps_write_nothing_where_there_is_no_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRESS.replace('"outer"', '"x"')], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    assert "inner" not in done.stderr


@pytest.mark.parametrize("package", ["export", "serving", "benchmark"])
def test_without_a_command_the_help_is_printed(package: str) -> None:
    """The help goes to stderr and the exit status is 2, as in click's groups. --version prints the version."""
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", package, *args], cwd=ROOT, capture_output=True, text=True,
                              check=False)
    alone, asked = run(), run("--help")
    assert (alone.returncode, alone.stdout, asked.returncode) == (2, "", 0)
    assert alone.stderr == asked.stdout
    assert "Commands:" in alone.stderr
    version = run("--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert re.fullmatch(rf"python -m {package}, version \d+\.\d+\.\d+\n", version.stdout)


EXIT_STATUS = re.compile(r"Exit status: 0 if [^;]+; 1 if [^;]+; (?:2|255) if [^;.]+(?:; \d if [^;.]+)*\.")


@pytest.mark.parametrize("program", ["export", "serving", "benchmark"])
def test_the_help_of_every_command_says_its_exit_statuses_in_one_spelling(program: str) -> None:
    commands = importlib.import_module(f"{program}.__main__").COMMANDS
    for name in commands.list_commands(click.Context(commands)):
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        for _ in range(2):  # asked for again, it is not said twice
            commands.get_command(click.Context(commands), name)
        shown = " ".join(command.get_help(click.Context(command, info_name=name)).split())
        assert len(EXIT_STATUS.findall(shown)) == 1, f"{program} {name}"
        assert len(re.findall("exit (status|code)", shown, re.IGNORECASE)) == 1, f"{program} {name}"


def test_two_imports_at_once_leave_standard_error_where_it_was() -> None:
    program = """
import os, threading
from commandline import quiet
before, inside, left = os.fstat(2), threading.Event(), threading.Event()
def second():
    with quiet():
        inside.set()
        left.wait()
other = threading.Thread(target=second)
with quiet():
    other.start()
    inside.wait(0.3)  # it comes in now only if it does not wait for the first one
    os.write(2, b"noise")
left.set()
other.join()
os.write(2, b"the last line" if os.path.samestat(before, os.fstat(2)) else b"it leads elsewhere")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "the last line"
