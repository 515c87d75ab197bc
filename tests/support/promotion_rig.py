"""A production root whose promotions are broken on purpose, while a client goes on asking its server."""
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import half_model
import psutil
from promotions import MODEL, Traffic
from proof import ROOT
from waiting import until

from serving.promotion import history
from serving.promotion.plan import STABLE
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server

FAULTS = ("kill", "after", "ENOSPC", "EIO", "unanswered")
ANSWERS = {"a": "[1.5, 3.0]", "b": "[2.5, 4.0]"}
# What a client is told while its only server is gone.
_GONE = ("cannot connect",)


class Rig:
    """A root whose stable version changes between a and b, its server, and a client that goes on all the time.

    kill: a shell command that kills the server; start: starts it again, once it is gone.
    """

    def __init__(self, folder: Path, server: Server, root: ProductionRoot, kill: Callable[[], str],
                 start: Callable[[], None]) -> None:
        for variant, offset in (("a", 1.0), ("b", 2.0)):
            half_model.save(folder / variant / "1", offset)
        self.folder, self.server, self.root, self._kill, self._start = folder, server, root, kill, start
        self.traffic = Traffic(server)
        assert self.run("a")[0] == 0

    def run(self, variant: str, at: int = 0, fault: str = "", command: str = "") -> tuple[int, str]:
        """(exit status, what it printed)."""
        argv = [sys.executable, str(ROOT / "tests/support/faulty_promotion.py"), str(self.root.path),
                str(self.server.rest), str(self.server.grpc), str(self.folder / variant / "1")]
        done = subprocess.run([*argv, "--at", str(at), "--fault", fault, "--command", command], capture_output=True,
                              text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        return done.returncode, done.stdout + done.stderr

    def server_rss(self) -> int:
        port = int(str(self.server.grpc).rpartition(":")[2])
        return next(process.memory_info().rss for process in psutil.process_iter(["cmdline"])
                    if f"--port={port}" in (process.info["cmdline"] or []))

    def steps(self) -> int:
        """How many steps a promotion has; two of them leave the first variant stable again."""
        old = self.stable()
        status, said = self.run(_other(old))
        assert status == 0, said
        assert self.run(old)[0] == 0
        return int(said.split()[0])

    def stable(self) -> str:
        """Which variant is stable by the file."""
        number = self.root.config().served(MODEL).labels[STABLE]
        source = next(one["source"] for one in history.read(self.root.history_path).records
                      if one["version"] == number and one["outcome"] == "done")
        return Path(source).parent.name

    def broken_at(self, at: int, fault: str) -> dict[str, Any]:
        """Promotes the other variant with a fault, then the old one, and checks what must hold."""
        old = self.stable()
        status, said = self.run(_other(old), at, fault)
        assert status in (0, 1, -signal.SIGKILL), said
        # Whatever was left is taken up by the next command, which is asked to promote the old one: nothing to do, if
        # the promotion was undone.
        again, words = self.run(old)
        assert again == 0, words
        self._holds(old)
        wrong = self._wrong()
        assert wrong == {}, wrong
        return {"status": status, "ended": said.split("\n")[0][:80], "taken_up": words.split("\n")[0][:120]}

    def server_killed_at(self, at: int) -> dict[str, Any]:
        """Promotes the other variant; its server is killed at a step, and started again at once."""
        old = self.stable()
        done: list[tuple[int, str]] = []
        promotion = threading.Thread(target=lambda: done.append(self.run(_other(old), at, "server", self._kill())))
        promotion.start()
        try:
            self._start()
        finally:
            promotion.join()
        status, said = done[0]
        assert status == 0, said
        self._holds(old if "undone" in said else _other(old))
        # A client of one server notices that it is gone, and nothing else.
        wrong = {words: count for words, count in self._wrong().items() if not any(one in words for one in _GONE)}
        assert wrong == {}, wrong
        until(lambda: self._answered() == ANSWERS[self.stable()])
        return {"ended": said.split("\n")[0][:80]}

    def _holds(self, stable: str) -> None:
        assert self.stable() == stable
        assert self.root.journal() is None
        served = self.root.config().served(MODEL)
        assert set(self.root.versions(MODEL)) == served.versions
        assert {path.name for path in self.root.base_path(MODEL).glob(".*")} == {
            f".{version}.golden" for version in served.versions}
        assert {path.name for path in self.root.path.iterdir()} == {"models.config", "history.jsonl", ".lock", MODEL}
        until(lambda: self.server.labelled(MODEL, STABLE) == served.labels[STABLE])
        history.read(self.root.history_path)

    def _wrong(self) -> dict[str, int]:
        return {words: count for words, count in self.traffic.seen.items()
                if not any(words.endswith(f": {answer}") for answer in ANSWERS.values())}

    def _answered(self) -> str:
        """What the client was answered last."""
        return self.traffic.last.rpartition(": ")[2]


def _other(variant: str) -> str:
    return "b" if variant == "a" else "a"
