"""What flags set for every graph: threads, reduced precision, XLA."""
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from graph_session import build, seeded

import cpu_class
from serving.engines.process import session_options
from serving.errors import ServingError

ROOT = Path(__file__).resolve().parents[3]


def test_session_parallelism_excludes_intra_and_inter_op_parallelism() -> None:
    assert session_options("", 3, 0, 0).inter_op_parallelism_threads == 3
    assert session_options("", 0, 1, 2).intra_op_parallelism_threads == 1
    with pytest.raises(ServingError, match="You cannot configure all"):
        session_options("", 1, 1, 1)


def convolutions(options: Any) -> set[int]:
    """The types in which a session with these options runs a convolution of 64 channels."""
    def nodes() -> None:
        x = tf.compat.v1.placeholder(tf.float32, (None, 16, 16, 64), "x")
        tf.nn.relu(tf.nn.conv2d(x, seeded((3, 3, 64, 64)), 1, "SAME"), name="y")
    graph, ran = tf.Graph(), tf.compat.v1.RunMetadata()
    with graph.as_default(), tf.compat.v1.Session(config=options) as session:
        tf.import_graph_def(build(nodes), name="")
        session.run("y:0", {"x:0": seeded((8, 16, 16, 64))}, tf.compat.v1.RunOptions(output_partition_graphs=True), ran)
    return {node.attr["T"].type for part in ran.partition_graphs for node in part.node if "Conv2D" in node.op}


@pytest.mark.skipif(not cpu_class.current().has_bf16, reason="TensorFlow lowers nothing without instructions for it")
def test_mixed_precision_computes_in_bfloat16() -> None:
    assert convolutions(session_options("", 0, 0, 0)) == {tf.float32.as_datatype_enum}
    assert convolutions(session_options("", 0, 0, 0, "bfloat16")) == {tf.bfloat16.as_datatype_enum}


def test_another_precision_is_named_and_has_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    assert session_options("", 0, 0, 0, "nonsense") == session_options("", 0, 0, 0)
    assert [record.getMessage() for record in caplog.records] == [
        "nonsense auto mixed precision is not supported. Valid option: bfloat16"]


def test_a_cpu_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with caplog.at_level(logging.INFO, "serving"):
        session_options("", 0, 0, 0, "bfloat16")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "(avx2) has no instructions for it, so it may be slower" in caplog.records[1].getMessage()


XLA = """
import sys, numpy as np
import tensorflow as tf
from pathlib import Path
from serving.engines.process import allow_xla
from serving.engines.tensorflow import load
from serving.errors import ServingError
from serving.protos import config_pb2

def compiled():
    module = tf.Module()
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")], jit_compile=True)
    def serve(x):
        return {"y": x * 2 + 1}
    module.serve = serve
    return module, {"serving_default": serve}

path = Path(sys.argv[1])
module, signatures = compiled()
tf.saved_model.save(module, str(path), signatures)
for allowed in (False, True, False):
    allow_xla(allowed)
    model = load("m", 1, path, ["serve"], config_pb2.ConfigProto())
    (spec,), (out,) = (list(side.values()) for side in (model.signatures["serving_default"].inputs,
                                                        model.signatures["serving_default"].outputs))
    try:
        print(model.run([spec.name], [np.ones(2, np.float32)], [out.name])[0].tolist())
    except ServingError as error:
        print(error.code.name, str(error).splitlines()[0], "/", error.advice)
    model.close()
"""


def test_xla_compiles_only_where_it_is_allowed(tmp_path: Path) -> None:
    """In its own process, since the switch is the process's."""
    done = subprocess.run([sys.executable, "-c", XLA, str(tmp_path / "m")],
                          cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    refused = ("INTERNAL XLA compilation disabled / The model asks for XLA: start the server with "
               "--xla_cpu_compilation_enabled.")
    assert done.stdout.splitlines() == [refused, "[3.0, 3.0]", refused]
