"""Versions are loaded and unloaded while requests run, and one model's error does not affect others."""
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from model_stages import Loader, Stage
from waiting import until

from serving.config import Model
from serving.errors import Code, ServingError
from serving.model_store import ModelStore, Retries
from serving.servable import ModelSpec
from serving.versions import All, Latest, Specific


def test_the_newest_version_answers_and_a_newer_one_replaces_it(stage: Stage) -> None:
    assert stage.store.configure([stage.add("m", 1, 2)]) == {}
    assert stage.answering() == 2
    stage.add("m", 3)
    until(lambda: stage.answering() == 3)
    until(lambda: stage.states("m") == {3: "AVAILABLE", 2: "END"})
    assert stage.loader.one("m", 2).closed


def test_the_old_version_answers_until_the_new_one_is_loaded(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    stage.loader.gate.clear()
    stage.add("m", 2)
    until(lambda: stage.states("m").get(2) == "LOADING")
    assert stage.answering() == 1
    stage.loader.gate.set()
    until(lambda: stage.answering() == 2)


def test_unloading_waits_for_running_requests(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    with stage.store.pin(ModelSpec("m")) as servable:
        stage.add("m", 2)
        until(lambda: stage.states("m") == {2: "AVAILABLE", 1: "UNLOADING"})
        assert not stage.loader.one("m", 1).closed
        assert servable.version == 1
        with pytest.raises(ServingError, match=r"Specific\(m, 1\)"):
            stage.answering(version=1)
    until(lambda: stage.states("m") == {2: "AVAILABLE", 1: "END"})
    assert stage.loader.one("m", 1).closed


def test_a_broken_version_leaves_the_old_one_serving(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    stage.loader.broken.add(("m", 2))
    stage.add("m", 2)
    until(lambda: stage.states("m").get(2) == "END")
    assert stage.answering() == 1
    [failed] = stage.store.status(ModelSpec("m", 2))
    assert (failed.code, failed.message) == (Code.DATA_LOSS, "broken")
    assert stage.missing() == (True, ["version 2: DATA_LOSS: broken"])


def test_loads_unloads_and_failures_are_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = stage.add("m", 1).base_path
    stage.store.configure([Model("m", path)])
    stage.loader.broken.add(("m", 3))
    stage.add("m", 2)
    until(lambda: stage.states("m") == {2: "AVAILABLE", 1: "END"})
    stage.add("m", 3)
    until(lambda: stage.states("m").get(3) == "END")
    lines = [re.sub(r"[0-9.]+ s\b", "T s", record.getMessage()) for record in caplog.records]
    assert lines == [
        f"version 1 of model m is loaded from {path}/1, in T s, and run by fake",
        f"version 2 of model m is loaded from {path}/2, in T s, and run by fake",
        f"version 1 of model m is unloaded, from {path}/1, in T s",
        f"version 3 of model m cannot be loaded from {path}/3 (after T s; not tried again): DATA_LOSS: broken"]


def test_a_broken_model_does_not_keep_others_from_being_loaded(stage: Stage) -> None:
    stage.loader.broken.add(("bad", 1))
    failures = stage.store.configure([stage.add("bad", 1), stage.add("m", 1), Model("none", str(stage.root / "none"))])
    assert {name: failure.text for name, failure in failures.items()} == {
        "bad": "{{name: bad version: 1} due to error: DATA_LOSS: broken}",
        "none": "{{name: none} due to error: NOT_FOUND: Could not find base path "
                f"{stage.root}/none for servable none with error No such file or directory}}"}
    assert stage.answering() == 1
    stage.add("none", 4)
    until(lambda: stage.states("m") and stage.answering("m") == 1)
    until(lambda: "none" not in [n for n in stage.store.models() if not _answers(stage, n)])
    assert stage.answering("none") == 4


def _answers(stage: Stage, name: str) -> bool:
    try:
        stage.answering(name)
    except ServingError:
        return False
    return True


def test_a_failed_load_is_tried_again(tmp_path: Path) -> None:
    loader = Loader()
    loader.broken.add(("m", 1))
    store = ModelStore(loader, retries=Retries(3, 0.02))
    stage = Stage(tmp_path, store, loader)
    assert list(store.configure([stage.add("m", 1)])) == ["m"]
    assert stage.states("m") == {1: "LOADING"}
    loader.broken.clear()
    until(lambda: stage.states("m") == {1: "AVAILABLE"})
    assert len(loader.attempts) >= 2
    store.stop(5)


def test_retries_end(tmp_path: Path) -> None:
    loader = Loader()
    loader.broken.add(("m", 1))
    stage = Stage(tmp_path, ModelStore(loader, retries=Retries(2, 0.001)), loader)
    stage.store.configure([stage.add("m", 1)])
    until(lambda: stage.states("m") == {1: "END"})
    assert len(loader.attempts) == 3
    stage.store.stop(5)


def test_an_unwanted_version_is_not_tried_again(tmp_path: Path) -> None:
    loader = Loader()
    loader.broken.add(("m", 1))
    stage = Stage(tmp_path, ModelStore(loader, retries=Retries(5, 60.0)), loader)
    stage.store.configure([stage.add("m", 1)])
    stage.store.configure([])
    assert stage.states("m") == {1: "END"}
    stage.store.stop(1)


def test_removing_the_only_version_unloads_it(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    (stage.root / "m" / "1").rmdir()
    until(lambda: stage.states("m") == {1: "END"})
    with pytest.raises(ServingError, match=r"Latest\(m\)"):
        stage.answering()


def test_policies_change_by_configuration(stage: Stage) -> None:
    path = stage.add("m", 1, 2, 3).base_path
    stage.store.configure([Model("m", path, All())])
    until(lambda: set(stage.states("m").values()) == {"AVAILABLE"} and len(stage.states("m")) == 3)
    stage.store.configure([Model("m", path, Specific(frozenset({1})))])
    until(lambda: stage.states("m") == {1: "AVAILABLE", 2: "END", 3: "END"})
    stage.store.configure([Model("m", path, Latest(2))])
    until(lambda: stage.states("m") == {1: "END", 2: "AVAILABLE", 3: "AVAILABLE"})


def test_a_removed_model_can_come_back(stage: Stage) -> None:
    model = stage.add("m", 1)
    stage.store.configure([model])
    stage.store.configure([])
    until(lambda: stage.states("m") == {1: "END"})
    assert stage.store.models() == []
    assert stage.store.configure([model]) == {}
    assert stage.answering() == 1


def test_a_model_that_comes_back_forgets_its_failures(stage: Stage) -> None:
    model = stage.add("m", 1)
    stage.loader.broken.add(("m", 1))
    assert "m" in stage.store.configure([model])
    stage.store.configure([])
    stage.loader.broken.clear()
    assert stage.store.configure([model]) == {}
    assert stage.answering() == 1


def test_labels_are_checked_before_anything_is_changed(stage: Stage) -> None:
    path = stage.add("m", 1, 2).base_path
    stage.store.configure([Model("m", path, Specific(frozenset({1})))])
    with pytest.raises(ServingError) as error:
        stage.store.configure([Model("m", path, All(), {"canary": 2})])
    assert error.value.code is Code.FAILED_PRECONDITION
    assert "version 2 of model m, which is not currently available" in error.value.message
    assert stage.states("m") == {1: "AVAILABLE"}
    stage.store.configure([Model("m", path, All())])
    until(lambda: stage.states("m").get(2) == "AVAILABLE")
    stage.store.configure([Model("m", path, All(), {"canary": 2, "stable": 1})])
    for label, version in (("canary", 2), ("stable", 1)):
        with stage.store.pin(ModelSpec("m", label=label)) as servable:
            assert servable.version == version
    stage.store.configure([Model("m", path, All(), {"stable": 2})])
    with (pytest.raises(ServingError, match="Unrecognized servable version label: canary"),
          stage.store.pin(ModelSpec("m", label="canary"))):
        pass


@pytest.mark.parametrize("any_label", [False, True])
def test_flags_let_labels_name_versions_that_are_not_loaded(tmp_path: Path, any_label: bool) -> None:
    loader = Loader()
    stage = Stage(tmp_path, ModelStore(loader, any_label_when_new=True, any_label=any_label), loader)
    path = stage.add("m", 1).base_path
    stage.store.configure([Model("m", path, labels={"next": 7})])
    with pytest.raises(ServingError, match=r"Specific\(m, 7\)"), stage.store.pin(ModelSpec("m", label="next")):
        pass
    if any_label:
        stage.store.configure([Model("m", path, labels={"next": 8})])
    else:
        with pytest.raises(ServingError, match="version 8"):
            stage.store.configure([Model("m", path, labels={"next": 8})])
    stage.store.stop(1)


def test_errors_for_unknown_models_versions_and_labels_have_the_originals_message(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    for spec, words in ((ModelSpec("x"), "Could not find any versions of model x"),
                        (ModelSpec("m", 9), "Could not find version 9 of model m")):
        with pytest.raises(ServingError, match=words):
            stage.store.status(spec)


def test_stopping_waits_for_requests_and_frees_everything(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1), stage.add("n", 1)])
    pin = stage.store.pin(ModelSpec("m"))
    pin.__enter__()
    stop = threading.Thread(target=stage.store.stop, args=(10,))
    stop.start()
    until(lambda: stage.states("n") == {1: "END"})
    assert stop.is_alive()
    pin.__exit__(None, None, None)
    stop.join(60)
    assert not stop.is_alive()
    assert all(servable.closed for servable in stage.loader.loaded)


def test_a_request_that_outlives_the_pools_of_a_process_that_ends_is_answered(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    with stage.store.pin(ModelSpec("m")) as servable:
        stage.store.stop(0)
        stage.store._workers.shutdown()  # as Python does at its end
        assert servable.version == 1


def test_no_request_fails_while_versions_are_swapped(stage: Stage) -> None:
    stage.store.configure([stage.add("m", 1)])
    failures: list[ServingError] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                with stage.store.pin(ModelSpec("m")) as servable:
                    servable.run(["x"], [np.ones(1)], ["y"])
            except ServingError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(2, 32):
        stage.add("m", version)
        until(lambda version=version: stage.answering() == version)  # type: ignore[misc]
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    until(lambda: sum(not servable.closed for servable in stage.loader.loaded) == 1)


def test_with_polling_off_a_new_configuration_looks_at_new_models_only(tmp_path: Path) -> None:
    loader = Loader()
    stage = Stage(tmp_path, ModelStore(loader, poll_s=0, retries=Retries(0, 0.0)), loader)
    m = stage.add("m", 1, 2)
    stage.store.configure([m])
    assert stage.states("m") == {2: "AVAILABLE"}
    stage.add("m", 3)
    stage.store.configure([Model("m", m.base_path, Specific(frozenset({1}))), stage.add("n", 7)])
    assert stage.states("m") == {2: "AVAILABLE"}
    assert stage.answering("n") == 7
    stage.store.configure([m])
    until(lambda: stage.states("n") == {7: "END"})
    assert stage.states("m") == {2: "AVAILABLE"}
    stage.store.stop(5)


def test_platforms_are_checked_in_the_originals_order(stage: Stage) -> None:
    m = stage.add("m", 1)
    stage.store.configure([m])
    for models, message in (
            ([Model("m", m.base_path, platform="torch"), Model("n", "/n", labels={"a": 1}, platform="torch")],
             "Illegal to change a model's platform"),
            ([m, Model("n", "/n", labels={"a": 1}, platform="torch")], "Request to assign label to version 1"),
            ([m, Model("n", "/n", platform="torch")], "Model n requests unsupported platform torch")):
        with pytest.raises(ServingError, match=message):
            stage.store.configure(models)
    assert stage.store.models() == ["m"]
    assert stage.answering("m") == 1
