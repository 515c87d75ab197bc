"""The instructions of the project's own paths do not grow unseen: make nightly.

docs/proof/instructions.json has the counts. A path that takes more fails, and keeps failing, since its row stays as it
is: delete the row if the path is meant to take more from now on.
"""
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
from counted_calls import CALLS
from proof import ROOT, Proof

CODE = ("serving/json", "serving/tensor_proto.py", "serving/client/json_codec.py", "tests/support/counted_calls.py")
MOST = 1.02


def counted(name: str, calls: int) -> int:
    """The instructions of a process that makes so many calls."""
    done = subprocess.run(  # addresses that are the same in each run: with others, calls take up to 2 % more or fewer
        ["setarch", "-R", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable,
         str(ROOT / "tests/support/counted_calls.py"), name, str(calls)], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"})
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr[-500:]
    return int(found[1])


def measured(name: str) -> dict[str, Any]:
    calls = CALLS[name][1]
    return {"instructions_per_call": round((counted(name, calls) - counted(name, 0)) / calls), "calls": calls,
            "counted_with": " ".join([platform.machine(), f"Python {platform.python_version()}", *(
                f"{package} {version(package)}" for package in ("numpy", "orjson", "pysimdjson", "protobuf"))])}


@pytest.mark.nightly
@pytest.mark.parametrize("name", CALLS)
def test_a_call_takes_no_more_instructions_than_before(name: str) -> None:
    assert shutil.which("valgrind"), "valgrind is needed: apt-get install valgrind"
    now = measured(name)
    proof = Proof("instructions", seed=0, about=CODE, command="make nightly")
    before = proof.content["rows"].get(name)
    if before and before["counted_with"] == now["counted_with"]:
        # Compared with the least that was ever counted: many small steps are one large one.
        assert now["instructions_per_call"] <= MOST * before["instructions_per_call"], (before, now)
        if now["instructions_per_call"] >= before["instructions_per_call"]:
            return
    proof.save(name, now)


def test_every_call_works() -> None:
    for call, _ in CALLS.values():
        call()
