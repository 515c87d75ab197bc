"""The definitions of the studies: consistent in themselves, and slips are found when they are read."""
import re
from dataclasses import replace

import pytest

from benchmark.studies.study import Ceiling, Goal, Part, Step, Way, optimized
from benchmark.study import STUDIES

MNIST = STUDIES["mnist"]


@pytest.mark.parametrize("name", STUDIES)
def test_every_target_is_the_original_or_a_version_that_the_study_makes(name: str) -> None:
    study = STUDIES[name]
    assert study.name == name
    made = {(each.model, each.name) for each in study.variants}
    for build in study.builds:
        form = build[build.index("--form") + 1] if "--form" in build else "original"
        made.add((build[0], {"article": "original"}.get(form, form)))
    for part in study.parts:
        for step in part.steps:
            assert (part.model, step.variant) in made, f"{part.key}: {step.label}"
    assert set(study.shown) <= made


@pytest.mark.parametrize("name", STUDIES)
def test_the_quick_form_has_the_opening_chart_and_no_version_that_it_does_not_make(name: str) -> None:
    study = STUDIES[name]
    parts = study.of_form(quick=True)
    assert study.way.part in {part.key for part in parts}
    left_out = {(each.model, each.name) for each in study.variants if not each.quick}
    # A version that the quick form does not make is a step of it only where the first is not it.
    assert all((part.model, part.steps[0].variant) not in left_out for part in parts)


@pytest.mark.parametrize("name", STUDIES)
def test_keys_and_models_name_files(name: str) -> None:
    keys = [part.key for part in STUDIES[name].parts]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[a-z0-9_-]+", key) for key in keys)


def test_the_usual_variants() -> None:
    arguments = {each.name: " ".join(each.arguments) for each in optimized(
        "mine", ("optimized", "int8", "litert-float32", "openvino-int8"), "1,8")}
    assert arguments == {
        "optimized": "--batch 1,8",
        "int8": "--batch 1,8 --unmeasured --precision int8",
        "litert-float32": "--batch 1,8 --unmeasured --engine litert",
        "openvino-int8": "--batch 1,8 --unmeasured --engine openvino --precision int8"}


def test_slips_are_refused() -> None:
    with pytest.raises(ValueError, match="no part 'absent'"):
        replace(MNIST, way=Way("absent", "grpc", 1, ""))
    with pytest.raises(ValueError, match="no part 'served' with absent"):
        replace(MNIST, goals=(Goal("", "served", "grpc", 100, ("absent",), 1),))
    with pytest.raises(ValueError, match="no part 'served' with absent"):
        replace(MNIST, ceilings=(Ceiling("served", 1, "absent", "int8"),))
    one = Step("original", "original")
    with pytest.raises(ValueError, match="two steps of one label"):
        Part("served", "", "mnist", (one, one), (1,))
    with pytest.raises(ValueError, match="no step"):
        Part("served", "", "mnist", (one,), (1,), baselines=("absent",))
    with pytest.raises(ValueError, match="no protocol"):
        Part("served", "", "mnist", (one,), (1,), ("http",))


@pytest.mark.parametrize(("target", "variant"), [
    ("original", "original"), ("session:optimized", "optimized"), ("lite@litert", "lite"),
    ("session:lite-int8@openvino", "lite-int8")])
def test_the_variant_of_a_step(target: str, variant: str) -> None:
    assert Step("x", target).variant == variant
