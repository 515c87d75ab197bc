"""Finished stages are taken from their files; a stage that depends on something else is measured again."""
import json
from pathlib import Path
from typing import Any

import pytest

import cpu_class
from benchmark.studies.stages import Stages, cpu
from user_error import UserError


class Counted:
    """A measurement that counts how often it was made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, raw: Path) -> dict[str, Any]:
        self.times += 1
        raw.write_text("samples")
        return {"figure": self.times}


def test_figures_depend_on_the_cpu_and_not_on_its_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for model in ("17", "26"):
        monkeypatch.setattr(cpu_class, "cpuinfo", {"model name": "AMD EPYC", "cpu family": "25", "model": model}.get)
        names.append(cpu())
    assert names[0] != names[1]
    assert ", AMD EPYC (family 25, model 17), " in names[0]


def test_a_finished_stage_is_not_measured_again(tmp_path: Path) -> None:
    measure = Counted()
    first = Stages(tmp_path / "mnist-full").run("served", {"batch": 1}, measure)
    second = Stages(tmp_path / "mnist-full").run("served", {"batch": 1}, measure)
    assert measure.times == 1
    assert first == second
    assert first["figure"] == 1
    assert first["took_s"] >= 0
    assert (tmp_path / "mnist-full/served.raw.json").read_text() == "samples"


@pytest.mark.parametrize("other", [{"batch": 2}, {"batch": 1, "cpu": "amx"}])
def test_a_stage_that_depends_on_something_else_is_measured_again(other: Any, tmp_path: Path) -> None:
    measure, stages = Counted(), Stages(tmp_path)
    stages.run("served", {"batch": 1}, measure)
    assert stages.done("served", other) is None
    assert stages.run("served", other, measure)["figure"] == 2


def test_again_measures_all(tmp_path: Path) -> None:
    measure = Counted()
    Stages(tmp_path).run("served", {}, measure)
    assert Stages(tmp_path, again=True).run("served", {}, measure)["figure"] == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"depends_on": "x"}', '{"found": {"figure": 7}}'])
def test_a_file_that_is_no_stage_is_measured_again(content: str, tmp_path: Path) -> None:
    (tmp_path / "served.json").write_text(content)
    assert Stages(tmp_path).run("served", {}, Counted())["figure"] == 1


def test_what_fails_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def fails(raw: Path) -> dict[str, Any]:
        raw.write_text("half")
        raise UserError("the server died")
    stages = Stages(tmp_path)
    with pytest.raises(UserError, match="died"):
        stages.run("served", {}, fails)
    assert stages.done("served", {}) is None
    assert not (tmp_path / "served.json").exists()
    stages.run("served", {}, Counted())
    assert json.loads((tmp_path / "served.json").read_text())["found"]["figure"] == 1
