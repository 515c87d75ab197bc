"""A whole study of small models: real processes, made once, measured once, and what does not run is said."""
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine_versions
import pytest

from benchmark.studies import conduct, profiles
from benchmark.studies import result as results
from benchmark.studies.stages import Stages
from benchmark.studies.study import Article, Goal, Part, Profile, Step, Study, Variant, Way
from user_error import FailedError, UserError

ARTICLE = Article("nobody", 2020, "A small article", "https://example.com", ("", "s"), (("original", "2"),),
                  (("nobody 2020", 1.2),))


def study(*steps: Step, variants: tuple[Variant, ...] = (),
          shown: dict[tuple[str, str], str] | None = None, **changes: Any) -> Study:
    # By LiteRT: its processes start without TensorFlow, in a tenth of the time.
    part = Part("alone", "In process", "tiny", (Step("original", "session:original@litert"), *steps), (1, 3),
                requests=8, quick=4, processes=1, warmup=1)
    return Study("tiny", "A small study", ARTICLE, (), variants, (replace(part, **changes),),
                 Way("alone", "in-process", 3, "three examples"),
                 (Goal("a thousand", "alone", "in-process", 3, ("original",), 1000),),
                 shown=shown or {})


@pytest.fixture
def models(tmp_path: Path) -> Path:
    engine_versions.both(tmp_path / "models/tiny/original/1")
    return tmp_path / "models"


def test_a_whole_study_is_measured_once(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = study(Step("OpenVINO", "session:original@openvino"), Step("TensorFlow", "session:original", threads=1),
                   shown={("tiny", "original"): "original", ("tiny", "absent"): "absent"})
    wanted = replace(wanted, profile=Profile("One", "tiny", (("original", "original"), ("absent", "absent"))))
    stages = Stages(tmp_path / "work")
    found = results.conduct(wanted, models, stages, False, 0, "python -m benchmark study tiny")
    assert [(row["batch"], row["label"]) for row in found["parts"][0]["rows"]] == [
        (batch, label) for batch in (1, 3) for label in ("original", "OpenVINO", "TensorFlow")]
    assert [step["label"] for step in found["way"]["steps"]] == ["original", "OpenVINO", "TensorFlow"]
    assert found["way"]["published"] == [{"label": "nobody 2020", "ratio": 1.2}]
    assert found["article"]["table"]["rows"] == [["original", "2"]]
    assert found["goals"][0]["met"] is False
    assert found["does_not_run"] == []
    assert [each["name"] for each in found["variants"]] == ["original"]
    assert found["variants"][0]["ops"]["MatMul"] == 1
    assert found["took_s"] > 0
    profiled, = found["profiles"]
    assert [each["target"] for each in profiled["targets"]] == ["original"]
    assert any(op["op"].endswith("MatMul") for op in profiled["targets"][0]["operations"])
    # Again: nothing is measured, and every figure is the same.
    monkeypatch.delattr(profiles, "traced")
    again = results.conduct(wanted, models, stages, False, 0, "python -m benchmark study tiny")
    assert again["parts"] == found["parts"]
    assert again["profiles"] == found["profiles"]


def test_another_version_is_measured_again(models: Path, tmp_path: Path) -> None:
    stages = Stages(tmp_path / "work")
    first = results.conduct(study(Step("B", "session:original@openvino")), models, stages, True, 0, "x")
    engine_versions.both(models / "tiny/original/2")
    (models / "tiny/original/2/assets.extra").mkdir(exist_ok=True)
    (models / "tiny/original/2/variables").mkdir(exist_ok=True)
    (models / "tiny/original/2/variables/another").write_text("content")
    assert {row["requests"] for row in first["parts"][0]["rows"]} == {4}
    second = results.conduct(study(Step("B", "session:original@openvino")), models, stages, True, 0, "x")
    assert second["parts"] != first["parts"]


def test_only_one_model_is_made_and_measured_again(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                   ) -> None:
    engine_versions.both(models / "other/original/1")
    wanted = study(Step("B", "session:original@openvino"))
    first, = wanted.parts
    wanted = replace(wanted, parts=(first, replace(first, key="second", model="other")),
                     builds=(("tiny",),), variants=(Variant("tiny", "absent"),))
    stages = Stages(tmp_path / "work")
    with pytest.raises(FailedError, match=r"In process: not measured yet, or of other versions: add --only tiny$"):
        results.conduct(wanted, models, stages, False, 0, "x", ["other"])
    both = results.conduct(replace(wanted, builds=(), variants=()), models, stages, False, 0, "x")
    monkeypatch.setattr(conduct, "git_revision", lambda: "0123456789ab")
    # Nothing of the other model is built or made: it could not be.
    again = results.conduct(wanted, models, replace(stages, again=True), False, 0, "x", ["other"])
    assert again["parts"][0]["rows"] == both["parts"][0]["rows"]
    assert again["parts"][1]["rows"] != both["parts"][1]["rows"]
    measured_at, = again["parts"][1]["notes"]
    assert measured_at.startswith("Measured at commit 0123456789ab on 20")
    # The file of an earlier program does not say it.
    file = tmp_path / "work/alone.json"
    stored = json.loads(file.read_text())
    del stored["found"]["commit"]
    file.write_text(json.dumps(stored))
    last = results.conduct(wanted, models, stages, False, 0, "x", ["other"])
    assert last["parts"][0]["notes"] == ["Measured by an earlier run, at a commit that was not recorded."]


def test_a_foreign_engine_that_answers_otherwise_is_left_out_with_its_reason(models: Path, tmp_path: Path) -> None:
    engine_versions.litert(models / "tiny/other/1", factor=1.5)
    foreign = Step("LiteRT", "session:other@litert", foreign=True)
    found = results.conduct(study(foreign, Step("B", "session:original@openvino")), models, Stages(tmp_path / "work"),
                            True, 0, "x")
    assert {row["label"] for row in found["parts"][0]["rows"]} == {"original", "B"}
    missing, = found["does_not_run"]
    assert missing["what"] == "tiny: LiteRT"
    assert "other answers" in missing["why"]


def test_a_foreign_engine_that_fails_after_it_was_tried_is_left_out_too(models: Path, tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conduct, "_tried", lambda part, targets, inputs: (list(targets), {}))
    for name, factor in (("second", 1.5), ("third", 2.5)):
        engine_versions.litert(models / "tiny" / name / "1", factor=factor)
    foreign = [Step(name, f"session:{name}@litert", foreign=True) for name in ("second", "third")]
    found = results.conduct(study(*foreign, Step("B", "session:original@openvino")), models,
                            Stages(tmp_path / "work"), True, 0, "x")
    assert {row["label"] for row in found["parts"][0]["rows"]} == {"original", "B"}
    assert [each["what"] for each in found["does_not_run"]] == ["tiny: second", "tiny: third"]
    assert all("other answers" in each["why"] for each in found["does_not_run"])


def test_a_foreign_tool_is_tried_with_the_two_smallest_batch_sizes(models: Path, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(conduct, "measure", tried.append)
    results.conduct(study(Step("B", "session:original@openvino", foreign=True), batches=(6, 1, 3)), models,
                    Stages(tmp_path / "work"), True, 0, "x")
    assert [plan.batches for plan in tried] == [(1, 3)]


def test_where_nothing_but_the_original_runs_there_are_no_rows(models: Path, tmp_path: Path) -> None:
    engine_versions.litert(models / "tiny/other/1", factor=1.5)
    found = results.conduct(study(Step("LiteRT", "session:other@litert", foreign=True)), models,
                            Stages(tmp_path / "work"), True, 0, "x")
    assert found["parts"][0]["rows"] == []
    assert found["goals"][0]["seen"] == "not measured"
    assert len(found["does_not_run"]) == 1


def test_a_step_of_this_project_that_answers_otherwise_ends_the_study(models: Path, tmp_path: Path) -> None:
    engine_versions.litert(models / "tiny/other/1", factor=1.5)
    with pytest.raises(FailedError, match="other answers"):
        results.conduct(study(Step("LiteRT", "session:other@litert")), models, Stages(tmp_path / "work"), True, 0, "x")


def test_what_cannot_be_made_is_said_and_left_out(models: Path, tmp_path: Path) -> None:
    wanted = study(Step("int8", "session:int8"), Step("B", "session:original@openvino"), variants=(
        Variant("tiny", "int8", ("--precision", "int8", "--unmeasured")), Variant("tiny", "slow", quick=False)))
    found = results.conduct(wanted, models, Stages(tmp_path / "work"), True, 0, "x")
    assert {row["label"] for row in found["parts"][0]["rows"]} == {"original", "B"}
    assert "tiny: int8" in {each["what"] for each in found["does_not_run"]}
    assert not (models / "tiny/slow").exists()


def test_without_the_original_there_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(UserError, match="no model 'tiny'"):
        results.conduct(study(), tmp_path / "models", Stages(tmp_path / "work"), True, 0, "x")
