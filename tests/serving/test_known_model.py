"""Readiness, and what a base path without the wanted versions means for those that are loaded."""
from pathlib import Path

import pytest
from model_stages import Stage
from waiting import until

from serving.config import Model
from serving.versions import Specific


def test_a_version_that_cannot_answer_is_available_and_not_ready(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    assert stage.missing() == (True, [])
    stage.loader.one("m", 1).answers = False
    assert stage.states("m") == {1: "AVAILABLE"}
    assert stage.missing() == (False, ["version 1: loaded, but its first run failed, and no request has succeeded"])


def test_ready_while_a_newer_version_loads(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    stage.loader.gate.clear()
    stage.add("m", 2)
    until(lambda: stage.states("m").get(2) == "LOADING")
    assert stage.missing() == (True, ["version 2: LOADING"])
    stage.loader.gate.set()
    until(lambda: stage.missing() == (True, []))


def test_versions_that_the_policy_names_but_that_do_not_exist_are_reported(
        stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    path = stage.add("m", 1).base_path
    stage.store.configure([Model("m", path, Specific(frozenset({1, 3})))])
    assert stage.missing() == (True, [f"version 3: NOT_FOUND: not in {path}"])
    assert f"model m: no version 3 in {path}" in caplog.text
    stage.add("m", 3)
    until(lambda: stage.missing() == (True, []))


def test_a_model_of_which_nothing_was_found_is_not_ready(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1), Model("n", str(stage.root / "n"))])
    ready, missing = stage.missing("n")
    assert (ready, stage.store.readiness().ready) == (False, False)
    assert missing[0].startswith("NOT_FOUND: Could not find base path")
    stage.store.configure([stage.add("k", 1)])
    assert stage.store.readiness().ready


def test_a_missing_directory_keeps_what_is_loaded(stage: Stage) -> None:
    model = stage.add("m", 1)
    stage.store.configure([model])
    Path(model.base_path).rename(stage.root / "away")
    until(lambda: stage.missing()[1])
    ready, [missing] = stage.missing()
    assert ready
    assert missing.startswith("NOT_FOUND: Could not find base path")
    assert stage.answering() == 1
    (stage.root / "away").rename(model.base_path)
    until(lambda: stage.missing() == (True, []))


def test_an_empty_directory_in_place_of_the_one_with_the_versions_keeps_what_is_loaded(
        stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """An unmounted storage leaves its empty mount point."""
    model = stage.add("m", 1)
    base = Path(model.base_path)
    stage.store.configure([model])
    base.rename(stage.root / "away")
    base.mkdir()
    until(lambda: any("Is its storage mounted?" in missing for missing in stage.missing()[1]))
    assert stage.missing()[0]
    assert stage.answering() == 1
    assert len([line for line in caplog.messages if "Is its storage mounted?" in line]) == 1
    base.rmdir()
    (stage.root / "away").rename(base)
    until(lambda: stage.missing() == (True, []))
    (base / "1").rmdir()
    until(lambda: stage.states("m") == {1: "END"})


def test_versions_in_another_directory_at_the_same_path_are_taken(stage: Stage) -> None:
    model = stage.add("m", 1)
    stage.store.configure([model])
    Path(model.base_path).rename(stage.root / "old")
    stage.add("m", 2)
    until(lambda: stage.answering() == 2)
    until(lambda: stage.states("m") == {2: "AVAILABLE", 1: "END"})
    (Path(model.base_path) / "2").rmdir()
    until(lambda: stage.states("m") == {2: "END", 1: "END"})


def test_another_base_path_without_versions_unloads_what_is_loaded(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    (stage.root / "other").mkdir()
    stage.store.configure([Model("m", str(stage.root / "other"))])
    until(lambda: stage.states("m") == {1: "END"})
