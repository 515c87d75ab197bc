"""A child process that accepts connections at a Unix socket, and ends when its standard input is closed."""
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from benchmark.targets.child import STOP_S, Child


class SocketChild(Child):
    """A child whose command line has the path of its socket in the place of {socket}.

    It ends when its standard input is closed, so it ends with this process even where the kernel does not kill children
    with their parent.
    """

    def __init__(self, title: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="child-")
        self._socket = str(Path(self._folder.name, "socket"))
        super().__init__(title, [self._socket if part == "{socket}" else part for part in argv], env=env,
                         stdin=subprocess.PIPE)

    def loaded(self) -> bool:
        """Whether it accepts connections."""
        try:
            self.open().close()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def open(self) -> Any:
        return Client(self._socket, "AF_UNIX")

    def stop(self, timeout_s: float = STOP_S) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        super().stop(timeout_s)
        self._folder.cleanup()
