"""Freed memory stays in the process: the blocks of a large request are made of the same pages again."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The new pages that five blocks of 19 MB need, after they were freed once.
COUNT = """
import resource, sys
from serving.heap import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def cycle():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytes(bytearray(b"1") * (19 << 20)) for _ in range(5)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
cycle(), cycle()
print(cycle())
"""


def new_pages(what: str, **variables: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT, what], cwd=ROOT, capture_output=True, text=True, check=True,
                          env={**os.environ, **variables})
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "confstr") or not os.confstr("CS_GNU_LIBC_VERSION"), reason="not the GNU C library")
def test_blocks_that_were_freed_are_used_again() -> None:
    without = new_pages("leave")
    assert new_pages("keep") < without / 10
    # Who sets it from outside is not overruled.
    assert new_pages("keep", MALLOC_TRIM_THRESHOLD_="65536") > without / 10
