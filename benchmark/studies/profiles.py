"""Where the time of a study's versions goes: TensorFlow's own trace of each, by operation."""
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.issuing.sampling import traced
from benchmark.reports.environment import digest
from benchmark.reports.study_result import StudyProfile
from benchmark.studies.making import Made
from benchmark.studies.stages import Stages, machine
from benchmark.studies.study import Profile
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import find_target
from commandline import step
from serving.client.protocol import DEFAULT_SIGNATURE
from serving.client.saved_model import metadata_of

RUNS = 20


def profile(wanted: Profile, made: Made, stages: Stages, seed: int) -> StudyProfile:
    """The time by operation of each version that was made, in processes one after the other.

    Raises FailedError if one cannot be traced.
    """
    versions = {variant: version for _, variant in wanted.variants
                if (version := made.version(wanted.model, variant)) is not None}
    depends_on = {"profile": asdict(wanted), "versions": {name: digest(each) for name, each in versions.items()},
                  "seed": seed, "cpu": machine()}
    targets = [(label, variant) for label, variant in wanted.variants if variant in versions]
    found = stages.run(f"profile-{wanted.model}", depends_on, lambda raw: {"targets": [
        {"target": label, "operations": _operations(wanted, variant, made.models, seed, raw.parent)}
        for label, variant in targets]})
    return {"title": wanted.title, "batch": wanted.batch, "targets": found["targets"]}


def _operations(wanted: Profile, variant: str, models: Path, seed: int, timelines: Path) -> Any:
    """The operations of one version: versions of a study can take different inputs, so each is traced by itself."""
    target = find_target(variant, models, wanted.model, signature=wanted.signature, grappler=wanted.grappler)
    version = target.version_directory
    assert version is not None  # find_target refuses a variant without one
    signature = metadata_of(version).signature(wanted.signature or DEFAULT_SIGNATURE)
    batches, _ = Inputs(wanted.signature, None, seed).batches(signature, wanted.batch, version, 1)
    with step(f"Trace {version}"):
        traces, _ = traced([target], wanted.signature, batches[0], RUNS, wanted.grappler, timelines)
    return traces[0]["operations"]
