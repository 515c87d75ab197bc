"""A promotion in which something goes wrong at one of its steps, as a command of its own that may be killed.

    python tests/support/faulty_promotion.py ROOT REST GRPC SOURCE
        [--at N --fault kill|after|ENOSPC|EIO|unanswered|server --command COMMAND]

A step is a file that is copied, a flush to the disk, a rename, a removal, or a request to a server. "kill" ends the
process before step N is done, and "after" once it is; ENOSPC and EIO let it fail; "unanswered" loses the answer of a
server, and "server" runs a command that kills it. First it takes up what an earlier run left. It prints how many steps
there were and how it ended.
"""
import argparse
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serving.promotion import files, rollout
from serving.promotion.golden import Golden, as_file
from serving.promotion.options import finish_what_was_begun
from serving.promotion.plan import STABLE, Kind
from serving.promotion.production import Production, new_operation
from serving.promotion.rollout import StageFailedError
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server

MODEL, X = "half", {"x": np.array([1.0, 4.0], np.float32)}
ANSWERS = {"a": np.array([1.5, 3.0], np.float32), "b": np.array([2.5, 4.0], np.float32)}
_steps = 0


def _faulty(real: Callable[..., Any], at: int, fault: str, command: str, request: bool = False) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        global _steps
        _steps += 1
        if _steps != at:
            return real(*args, **kwargs)
        if fault == "server":
            subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault in ("ENOSPC", "EIO"):
            if request:
                raise StageFailedError(f"injected {fault}")
            raise OSError(getattr(errno, fault), f"injected {fault}")
        found = real(*args, **kwargs)
        if fault == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "unanswered" and request:
            raise StageFailedError("injected: no answer")
        return found
    return called


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("root", "rest", "grpc", "source"):
        parser.add_argument(name)
    parser.add_argument("--at", type=int, default=0)
    parser.add_argument("--fault", default="")
    parser.add_argument("--command", default="")
    given = parser.parse_args()
    for module, names in ((os, ("fsync", "replace", "rename")), (shutil, ("copyfile", "rmtree"))):
        for name in names:
            setattr(module, name, _faulty(getattr(module, name), given.at, given.fault, given.command))
    for name in ("reload", "await_available", "await_label", "check"):
        setattr(Server, name, _faulty(getattr(Server, name), given.at, given.fault, given.command, request=True))
    root, source = ProductionRoot.at(given.root), Path(given.source)
    production = Production(root, [Server(given.rest, given.grpc)], as_file(
        [Golden(X, "", {"y": ANSWERS[source.parent.name]})], MODEL))
    with root.locked():
        finish_what_was_begun(production)
        before = root.config().served(MODEL)
        digest = files.whole(files.digests(source))
        stable = root.versions(MODEL).get(before.labels.get(STABLE, 0))
        if stable is not None and files.whole(files.digests(stable)) == digest:
            print(_steps, "already")
            return
        version = max([*root.versions(MODEL), *before.versions], default=0) + 1
        ended = rollout.carry_out(new_operation(Kind.PROMOTE, MODEL, version, before,
                                                source=str(source), digest=digest), production)
        print(_steps, ended.stage)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
