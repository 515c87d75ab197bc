"""Converters in a process of their own: its limits, its reasons, and that nothing is left of it."""
import os
import sys
import tempfile
from pathlib import Path

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
from export.node import make_const

v1 = tf.compat.v1
ENDS = Ends(("x:0",), ("y:0",))


def doubled() -> None:
    tf.multiply(v1.placeholder(tf.float32, [None, 3], "x"), 2.0, "y")


def decomposed() -> None:
    x = v1.placeholder(tf.float32, [None, 3, 3], "x")
    tf.identity(tf.linalg.svd(x, compute_uv=False), "y")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made: empty at the end of each test, and without a process that still runs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def graph(nodes: object = doubled) -> Graph:
    return Graph.from_graph_def(build(nodes), ["x"], ["y"])  # type: ignore[arg-type]


def children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True) if "export.engines.converter" in one.cmdline()}


@pytest.mark.parametrize(("kind", "file"), [("litert", "model.tflite"), ("openvino", "model.xml")])
def test_a_graph_is_converted_and_its_folder_deleted(kind: str, file: str, own_folder: Path) -> None:
    with converted(kind, "float32", graph(), ENDS, [], Limits()) as folder:
        assert (folder / file).stat().st_size
    assert os.listdir(own_folder) == []


def test_a_scalar_that_was_a_variable_is_read(own_folder: Path) -> None:
    """OpenVINO takes a scalar whose message states no shape for 0."""
    def scaled() -> None:
        tf.multiply(v1.placeholder(tf.float32, [None], "x"), tf.constant(2.0, name="factor"), "y")
    made = graph(scaled)
    factor = make_const("factor", np.array(3.0, np.float32))
    made = made.with_nodes([factor if node.name == "factor" else node for node in made.nodes.values()])
    with converted("openvino", "float32", made, ENDS, [], Limits(), marks=ENDS.outputs) as folder:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
        model = openvino.Core().compile_model(folder / "model.xml", "CPU")
        assert model(np.ones(2, np.float32))[0].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("kind", ["litert", "openvino"])
def test_an_operation_that_the_engine_does_not_have_is_named(kind: str, own_folder: Path) -> None:
    with pytest.raises(ConversionError) as found, converted(kind, "float32", graph(decomposed), ENDS, [], Limits()):
        pass
    assert str(found.value) == "it has no Svd"
    assert os.listdir(own_folder) == []


def test_a_converter_that_takes_too_long_is_ended(own_folder: Path) -> None:
    with pytest.raises(ConversionError) as found, converted("litert", "float32", graph(), ENDS, [], Limits(0.05)):
        pass
    assert str(found.value) == "the converter was not done in 0.05 s (--max-convert-time)"
    assert not children()
    assert os.listdir(own_folder) == []


def test_a_converter_that_takes_too_much_memory_is_ended(own_folder: Path) -> None:
    with pytest.raises(ConversionError) as found, converted("litert", "float32", graph(), ENDS, [],
                                                            Limits(most_bytes=1 << 20)):
        pass
    assert str(found.value).startswith("the converter took over 0.0 GB of memory")
    assert not children()
    assert os.listdir(own_folder) == []


def test_a_converter_that_crashes_is_a_reason(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python ends a process whose memory fault it is told to report; the variable is the only thing from outside here.
    real = conversion._environment
    crash = own_folder / "site"
    crash.mkdir()
    (crash / "sitecustomize.py").write_text("import os, signal, sys\n"
                                            "if 'export.engines.converter' in ' '.join(sys.orig_argv):\n"
                                            "    os.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(conversion, "_environment", lambda folder: {**real(folder), "PYTHONPATH": str(crash)})
    with pytest.raises(ConversionError) as found, converted("litert", "float32", graph(), ENDS, [], Limits()):
        pass
    assert str(found.value) == "the converter's process ended with SIGSEGV"


def test_requests_with_other_inputs_are_not_used() -> None:
    some = [{"x": np.ones([1, 3], np.float32)}, {"other": np.ones(3, np.float32)}]
    with converted("litert", "int8", graph(), ENDS, some, Limits()) as folder:
        assert sorted(file.name for file in folder.glob("*.npz")) == ["0.npz"]


@pytest.mark.parametrize("kind", ["litert", "openvino"])
def test_int8_needs_an_example_with_all_inputs(kind: str) -> None:
    with pytest.raises(ConversionError) as found, converted(
            kind, "int8", graph(), ENDS, [{"other": np.ones(3, np.float32)}], Limits()):
        pass
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
