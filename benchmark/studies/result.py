"""Puts the result of a study together from what its parts found."""
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import cpu_class
from benchmark.options import announce
from benchmark.reports.head import FORMAT, head
from benchmark.reports.study_result import Limit, Row, StudyPart, StudyProfile, StudyResult
from benchmark.studies import rows
from benchmark.studies.conduct import Conduct
from benchmark.studies.machine import ceilings, work
from benchmark.studies.making import Made, counted, make
from benchmark.studies.profiles import profile
from benchmark.studies.stages import Stages, cpu
from benchmark.studies.study import Part, Study
from benchmark.targets.target import find_target
from user_error import FailedError


def conduct(study: Study, models: Path, stages: Stages, quick: bool, seed: int, command: str,
            only: Collection[str] = ()) -> StudyResult:
    """Runs the whole study; what an earlier run of it finished is taken from `stages`.

    only: the models to make and measure; the parts of the others must be in `stages`, of the versions that are there.
    Raises FailedError if a model cannot be built, a server dies, or answers are wrong; finished parts are kept.
    """
    made = make(study, models, quick, only)
    own, parts = Conduct(made, stages, quick, seed, only), study.of_form(quick)
    left = own.left(parts)
    if others := [part for part in left if only and part.model not in only]:
        wanted = dict.fromkeys(f"--only {part.model}" for part in others)
        raise FailedError(f"{'; '.join(part.title for part in others)}: not measured yet, or of other versions: "
                          f"add {' '.join(wanted)}")
    announce(f"{len(left)} of {len(parts)} parts to measure{': ' if left else ''}"
             f"{'; '.join(part.title for part in left)}")
    found = {part.key: own.measured(part) for part in parts}
    stages = replace(stages, again=stages.again and not only)
    limits = against_the_machine(study, made, {key: each["rows"] for key, each in found.items()}, stages)
    profiles = [profile(study.profile, made, stages, seed)] if study.profile else []
    return assembled(study, made, found, limits, profiles, quick, seed, command)


def against_the_machine(study: Study, made: Made, by_key: Mapping[str, list[Row]], stages: Stages) -> list[Limit]:
    """How much of what the machine can do each row of `study.ceilings` reaches; nothing where it was not measured."""
    models = {part.key: part.model for part in study.parts}
    wanted = [(each, row) for each in study.ceilings for row in by_key.get(each.part, ())
              if (row["label"], row["batch"]) == (each.label, each.batch)]
    if not wanted:
        return []
    kernels = stages.run("ceilings", {"cpu": cpu()}, lambda _: {"gflop_per_s": ceilings()})
    found = []
    for each, row in wanted:
        model, version = models[each.part], made.version(models[each.part], "original")
        assert version is not None  # it was measured
        gflop = stages.run(f"work-{model}", {"version": str(version)}, partial(_work, version))
        if "gflop" in gflop and each.precision in kernels["gflop_per_s"]:
            found.append(rows.limit(model, row, each.precision, gflop["gflop"],
                                    kernels["gflop_per_s"][each.precision]))
    return found


def _work(version: Path, _: Path) -> dict[str, Any]:
    """{"gflop": of one example}, or {"why": it is not known}: a size may depend on more than the batch."""
    try:
        return {"gflop": work(version)}
    except FailedError as error:
        return {"why": str(error)}


def assembled(study: Study, made: Made, found: Mapping[str, dict[str, Any]], limits: list[Limit],
              profiles: list[StudyProfile], quick: bool, seed: int, command: str) -> StudyResult:
    """The result. `found`: of each part's key, what `Conduct.measured` returned."""
    missing: dict[str, str] = {}
    for each in found.values():
        missing |= each["missing"]
    first = study.parts[0]
    conditions = head("study", [find_target(first.steps[0].target, made.models, first.model)], seed,
                      found[study.way.part]["inputs"])
    commit = conditions["environment"].get("revision") or ""
    parts: list[StudyPart] = [
        {"key": part.key, "title": part.title, "unit": "ms", "rows": found[part.key]["rows"],
         "notes": _notes(part, found[part.key], commit)} for part in study.of_form(quick)]
    by_key: dict[str, list[Row]] = {part["key"]: part["rows"] for part in parts}
    article = study.article
    return {
        **conditions, "format": FORMAT, "study": study.name, "title": study.title, "quick": quick, "command": command,
        "seed": seed, "commit": commit,
        "cpu_class": str(cpu_class.current()), "measured": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "article": {"author": article.author, "year": article.year, "title": article.title, "url": article.url,
                    "table": {"head": list(article.head), "rows": [list(row) for row in article.rows]}},
        "way": {"title": study.way.title, "steps": rows.way(study.way, by_key[study.way.part]),
                "published": [{"label": label, "ratio": ratio} for label, ratio in article.ratios]},
        "parts": parts, "variants": counted(made, study.shown), "profiles": profiles, "limits": limits,
        "goals": [rows.goal(each, by_key[each.part]) for each in study.goals if each.part in by_key],
        "does_not_run": [{"what": what, "why": why} for what, why in missing.items()],
        "took_s": round(sum(each["took_s"] for each in found.values()), 1)}


def _notes(part: Part, found: Mapping[str, Any], commit: str) -> list[str]:
    """The part's own note, and when and at which commit it was measured if that was another than the result's."""
    notes = [part.note] if part.note else []
    if "commit" not in found:
        notes.append("Measured by an earlier run, at a commit that was not recorded.")
    elif found["commit"] != commit:
        notes.append(f"Measured at commit {found['commit'] or 'not known'} on {found['measured']}.")
    return notes
