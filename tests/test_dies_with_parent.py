"""A program that ends when its parent ends: the test of a killed parent is tests/benchmark/targets/test_child.py."""
import subprocess
import sys

import pytest

import dies_with_parent


def test_it_becomes_the_program_with_its_arguments_and_process_id() -> None:
    code = "import os, sys; print(os.getpid(), sys.argv[1:])"
    with subprocess.Popen(dies_with_parent.argv([sys.executable, "-c", code, "a b", "-S", ""]), stdout=subprocess.PIPE,
                          text=True) as child:
        said, _ = child.communicate(timeout=60)
    assert said == f"{child.pid} {['a b', '-S', '']}\n"


def test_it_does_not_start_for_a_parent_that_has_ended() -> None:
    argv = dies_with_parent.argv([sys.executable, "-c", "print('started')"])
    argv[argv.index(dies_with_parent.__file__) + 1] = "1"
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b""


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no_such_program"):
        dies_with_parent.argv(["no_such_program"])
