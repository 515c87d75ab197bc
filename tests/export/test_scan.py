import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import saved_models
import tensorflow as tf

from commandline import status_of
from export.scan import scan
from user_error import UserError

v1 = tf.compat.v1
Run = Callable[..., object]


def module(path: Path, serve: Callable[[Any], Any]) -> Path:
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="name")])
        def inner(self, name: Any) -> Any:
            return serve(name)

        @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="name")])
        def serve(self, name: Any) -> Any:
            return {"y": self.inner(name)}
    made = Module()
    tf.saved_model.save(made, str(path), signatures={"serving_default": made.serve})
    return path


@pytest.mark.parametrize(("op", "reason", "serve"), [
    ("ReadFile", "touches files", tf.io.read_file),
    ("MatchingFiles", "touches files", tf.io.matching_files),
    ("EagerPyFunc", "calls Python", lambda name: tf.py_function(lambda one: one, [name], tf.string)),
    ("PyFunc", "calls Python", lambda name: tf.numpy_function(lambda one: one, [name], tf.string)),
])
def test_an_operation_in_a_nested_function_is_found(tmp_path: Path, op: str, reason: str, serve: Any) -> None:
    found = scan(module(tmp_path / "1", serve))
    assert [(one.op, one.reason) for one in found] == [(op, reason)]


def test_writing_in_a_branch_of_a_loop_is_found(tmp_path: Path) -> None:
    def serve(name: Any) -> Any:
        for index in tf.range(3):
            if index > 1:
                tf.io.write_file(name, "x")
        return name
    assert "WriteFile" in {one.op for one in scan(module(tmp_path / "1", serve))}


def test_a_table_from_a_file_that_is_not_an_asset_is_found(tmp_path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None], "words")
        (tmp_path / "words.txt").write_text("a\nb\n")
        table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="t")
        start = tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=table, filename=str(tmp_path / "words.txt"), key_index=-2, value_index=-1)
        ids = tf.raw_ops.LookupTableFindV2(table_handle=table, keys=words, default_value=tf.constant(-1, tf.int64))
        saved_models.save_v1(tmp_path / "1", session, {"serving_default": saved_models.signature(
            {"words": words}, {"ids": ids})}, main_op=start)
    found = scan(tmp_path / "1")
    assert [one.reason for one in found] == ["reads a file that is none of the model's assets"]


@pytest.mark.parametrize("kind", sorted(saved_models.BUILDERS))
def test_ordinary_models_are_safe(source: Callable[[str], Path], kind: str) -> None:
    assert scan(source(kind)) == []


def test_unknown_operation_is_found(source: Callable[[str], Path], copied: Callable[[str], Path]) -> None:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    path = copied("v1_control_flow") / "1" / "saved_model.pb"
    proto = SavedModel.FromString(path.read_bytes())
    for node in proto.meta_graphs[0].graph_def.node:
        if node.op == "Tanh":
            node.op = "Tanhh"
    path.write_bytes(proto.SerializeToString())
    assert {(one.op, one.reason) for one in scan(path.parent)} == {("Tanhh", "is no operation of TensorFlow's")}


def test_command_exits_1_unless_allowed(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = module(tmp_path / "1", tf.io.read_file)
    with pytest.raises(UserError, match=r"holds 1 operations that are not allowed, first ReadFile") as caught:
        run("scan", path, "--json", tmp_path / "report.json")
    assert status_of(caught.value) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["safe"], report["found"][0]["op"]) == (False, "ReadFile")
    capsys.readouterr()
    run("scan", path, "--allow", "ReadFile")
    assert "(allowed)" in capsys.readouterr().out
