"""Starts a program that the kernel ends when the starting thread's process ends, whatever ends it (Linux only).

    subprocess.Popen(dies_with_parent.argv(["tensorflow_model_server", "--port=8500"]))

This file is run as a program: it asks the kernel, then becomes the other program, with the same process id. Popen's
preexec_fn would need no program between, but it runs in a copy of this process, in which gRPC starts its threads anew;
they find their files closed and abort it.
"""
import os
import shutil
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def argv(command: Sequence[str]) -> list[str]:  # decision 195
    """The arguments to start instead of `command`. Raises FileNotFoundError if there is no such program."""
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(2, os.strerror(2), command[0])
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), program, *command]


def _become(parent: int, program: str, command: list[str]) -> None:
    import ctypes
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:  # it may have ended before it was asked for
        os.execv(program, command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
