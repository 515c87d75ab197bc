"""Models like TensorFlow Serving's own test models; and those models, if UPSTREAM names a checkout of it."""
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from upstream_forms import FORMS, constant_by_graph, counter, counters, initial_weights, parsed_and_fed, set_at_load

from export import optimization, saved_model
from export.asking import Plan
from export.equivalence import check
from export.freeze import freeze
from export.verification import show
from user_error import FailedError, UserError

TESTDATA = Path(os.environ.get("UPSTREAM", ""), "tensorflow_serving/servables/tensorflow/testdata")


def published(source: Path, to: Path, *more: str) -> Path:
    CliRunner().invoke(optimization.command, [str(source), "--to", str(to), *more], standalone_mode=False,
                       catch_exceptions=False)
    return to / "1"


@pytest.mark.parametrize("form", ["parsed_and_fed", "set_at_load", "one_batch_size", "constant_by_graph"])
def test_each_form_is_published(tmp_path: Path, form: str) -> None:
    assert (published(FORMS[form](tmp_path / "model"), tmp_path / "to") / "saved_model.pb").is_file()


def test_a_fed_tensor_that_is_computed_has_the_shape_that_its_graph_computes(tmp_path: Path) -> None:
    frozen = freeze(saved_model.read(parsed_and_fed(tmp_path / "model")))
    assert frozen.graph.nodes["x"].op == "PlaceholderWithDefault"
    assert tuple(frozen.graph.nodes["x"].get("shape")) == (-1, 1)


def test_a_variable_that_only_loading_sets_is_a_constant(tmp_path: Path) -> None:
    frozen = freeze(saved_model.read(set_at_load(tmp_path / "model")))
    assert not frozen.kept
    assert not frozen.variables
    assert not any("Variable" in item.op or item.op.startswith("Assign") for item in frozen.graph.nodes.values())


def test_a_refusal_for_state_names_the_variable_and_what_changes_it(tmp_path: Path) -> None:
    report = check(counter(tmp_path / "by_one"), counter(tmp_path / "by_two", 2.0), ("serve",), Plan())
    assert not report.equal
    assert "since AssignAdd 'AssignAdd' changes the variable 'requests'; leave it out" in report.why_not()


def test_counters_are_published_with_their_variable(tmp_path: Path) -> None:
    made = published(counters(tmp_path / "model"), tmp_path / "to")
    kept = json.loads((made / "assets.extra" / "manifest.json").read_text())["variables_kept"]
    assert list(kept) == ["counter"]
    model = saved_model.read(made)
    with saved_model.session(model) as session:
        by, read = (model.signatures[key].outputs["output"].name for key in ("incr_counter_by", "serving_default"))
        delta = model.signatures["incr_counter_by"].inputs["delta"].name
        assert [session.run(by, {delta: 2.5}), session.run(by, {delta: 4.0}), session.run(read)] == [2.5, 6.5, 6.5]


@pytest.mark.parametrize("key", ["incr_counter", "incr_counter_by"])
def test_the_refusal_of_a_counter_names_its_variable(tmp_path: Path, key: str) -> None:
    report = check(counters(tmp_path / "one"), counters(tmp_path / "two", step=2.0), ("serve",), Plan(), [key])
    node = "AssignAdd_1" if key == "incr_counter_by" else "AssignAdd"
    assert report.why_not() == (
        f"signature '{key}': {tmp_path / 'one'} answers one request in two ways, since AssignAdd '{node}' changes the "
        "variable 'counter'; leave it out with --signatures")


def test_an_output_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        published(counters(tmp_path / "model", resource=True), tmp_path / "to")
    assert str(caught.value) == (
        f"signature 'incr_counter' of {tmp_path / 'model'} has the output 'output', but its operation "
        "AssignAddVariableOp 'AssignAddVariableOp' makes no such tensor: leave it out with --signatures "
        "serving_default")
    published(tmp_path / "model", tmp_path / "to", "--signatures", "serving_default")


def test_an_answer_that_is_constant_by_its_graph_is_reported(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = constant_by_graph(tmp_path / "model")
    report = check(model, model, ("serve",), Plan())
    assert report.equal
    show(report)
    assert "may be constant: its graph makes its answer from no value that is fed" in capsys.readouterr().out
    assert report.to_json()["signatures"]["serving_default"]["may_be_constant"]


def test_a_model_at_its_initial_weights_is_published_when_it_is_allowed(tmp_path: Path) -> None:
    model = initial_weights(tmp_path / "model")
    with pytest.raises(FailedError, match="--allow-constant serving_default"):
        published(model, tmp_path / "to")
    with pytest.raises(UserError, match="--allow-constant other: there is no such signature"):
        published(model, tmp_path / "to", "--allow-constant", "other")
    assert published(model, tmp_path / "to", "--allow-constant", "serving_default").is_dir()


def test_files_beside_the_model_are_kept_byte_for_byte(tmp_path: Path) -> None:
    model = set_at_load(tmp_path / "model")
    files = {"assets/foo.txt": b"asset-file-contents", "assets/deep/er.bin": bytes(range(256)),
             "assets.extra/saved_model_config.pb": b"", "assets.extra/notes/a": b"\xff"}
    for name, content in files.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(content)
    made = published(model, tmp_path / "to")
    assert {name: (made / name).read_bytes() for name in files} == files


@pytest.mark.skipif(not TESTDATA.is_dir(), reason="UPSTREAM names no checkout of tensorflow/serving")
@pytest.mark.parametrize("path", sorted(TESTDATA.glob("*/*/saved_model.pb")), ids=lambda path: path.parts[-3])
def test_upstreams_own_models(tmp_path: Path, path: Any) -> None:
    made = published(path.parent, tmp_path / "to")
    if "counter" in path.parts[-3]:
        assert list(json.loads((made / "assets.extra" / "manifest.json").read_text())["variables_kept"]) == ["counter"]
    for folder in ("assets", "assets.extra"):
        for file in (path.parent / folder).rglob("*"):
            assert not file.is_file() or (made / file.relative_to(path.parent)).read_bytes() == file.read_bytes()
