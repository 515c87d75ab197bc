"""Converters in a process of their own: its limits, its reasons, and that nothing is left of it."""
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf
from graph_session import build

from export.engines import conversion
from export.engines.conversion import ConversionError, converted
from export.engines.converter import _reason
from export.engines.convertible import Ends
from export.engines.limits import Limits
from export.graph import Graph

v1 = tf.compat.v1
ENDS = Ends(("x:0",), ("y:0",))
LIMITS = Limits()


def doubled() -> None:
    tf.multiply(v1.placeholder(tf.float32, [None, 3], "x"), 2.0, "y")


def decomposed() -> None:
    x = v1.placeholder(tf.float32, [None, 3, 3], "x")
    tf.identity(tf.linalg.svd(x, compute_uv=False), "y")


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """Where a conversion has its folder: empty at the end of each test, and without a process that still runs."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def convert(home: Path, kind: str = "litert", nodes: Callable[[], None] = doubled, limits: Limits = LIMITS,
            precision: str = "float32", requests: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """The names of the files in the folder after a conversion."""
    graph = Graph.from_graph_def(build(nodes), ["x"], ["y"])
    with converted(home, kind, precision, graph, ENDS, requests, limits) as folder:
        return sorted(file.name for file in folder.iterdir())


def children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True) if "export.engines.converter" in one.cmdline()}


@pytest.mark.parametrize(("kind", "file"), [("litert", "model.tflite"), ("openvino", "model.xml")])
def test_a_graph_is_converted_and_its_folder_deleted(kind: str, file: str, own_folder: Path) -> None:
    assert file in convert(own_folder, kind)
    assert os.listdir(own_folder) == []


@pytest.mark.parametrize("kind", ["litert", "openvino"])
def test_an_operation_that_the_engine_does_not_have_is_named(kind: str, own_folder: Path) -> None:
    with pytest.raises(ConversionError) as found:
        convert(own_folder, kind, decomposed)
    assert str(found.value) == "it has no Svd"
    assert os.listdir(own_folder) == []


@pytest.mark.parametrize(("limits", "reason"), [
    (Limits(0.05), "the converter was not done in 0.05 s (--max-convert-time)"),
    (Limits(most_bytes=1 << 20), "the converter took over 0.0 GB of memory, most of what was free"),
], ids=["time", "memory"])
def test_a_converter_that_takes_too_much_is_ended(limits: Limits, reason: str, own_folder: Path) -> None:
    with pytest.raises(ConversionError) as found:
        convert(own_folder, limits=limits)
    assert str(found.value) == reason
    assert not children()
    assert os.listdir(own_folder) == []


def test_a_converter_that_crashes_is_a_reason(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, crash = conversion._environment, own_folder.parent / "site"
    crash.mkdir()
    (crash / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'export.engines.converter' in ' '.join(sys.orig_argv): os.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(conversion, "_environment", lambda folder: {**real(folder), "PYTHONPATH": str(crash)})
    with pytest.raises(ConversionError) as found:
        convert(own_folder)
    assert str(found.value) == "the converter's process ended with SIGSEGV"


@pytest.mark.usefixtures("converted_here")
def test_requests_with_other_inputs_are_not_used(own_folder: Path) -> None:
    some = [{"x": np.ones([1, 3], np.float32)}, {"other": np.ones(3, np.float32)}]
    assert [name for name in convert(own_folder, precision="int8", requests=some) if name.endswith(".npz")] == ["0.npz"]


@pytest.mark.parametrize("kind", ["litert", "openvino"])
def test_int8_needs_an_example_with_all_inputs(kind: str, own_folder: Path) -> None:
    with pytest.raises(ConversionError) as found:
        convert(own_folder, kind, precision="int8", requests=[{"other": np.ones(3, np.float32)}])
    assert str(found.value).startswith("no example has all of its inputs (x:0)")


@pytest.mark.parametrize(("said", "reason"), [
    ("Some ops are not supported\nTF Select ops: AsString, Einsum\nDetails:\n", "it has no AsString, Einsum"),
    ("-- No conversion rule found for operations: Svd\nTo facilitate", "it has no Svd"),
    ('<unknown>:0: error: loc(fused["TensorListReserve:", "loop/array"]): \'tf.TensorListReserve\' op requires '
     'element_shape to be static\n<unknown>:0: note: loc(fused["TensorListReserve:", "loop/array"]): see current',
     "'loop/array' (TensorListReserve): 'tf.TensorListReserve' op requires element_shape to be static"),
    ("Exception from src/core.cpp:84:\nCheck 'false' failed at src/report.cpp:151:\nFrontEnd API failed with X:\n"
     "Model wasn't fully converted.\n", "Model wasn't fully converted."),
    ("", "no reason is given"),
])
def test_of_what_converters_say_the_reason_is_taken(said: str, reason: str) -> None:
    assert _reason(said) == reason
