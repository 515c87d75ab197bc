"""Where the time of a study's versions goes: TensorFlow's own trace of each, by operation."""
from dataclasses import asdict
from pathlib import Path

from benchmark.issuing.sampling import traced
from benchmark.reports.environment import digest
from benchmark.reports.study_result import TRACED_RUNS, StudyProfile
from benchmark.studies.making import Made
from benchmark.studies.stages import Stages, cpu
from benchmark.studies.study import Profile
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import Target, find_target
from benchmark.verdicts.records import Operation
from commandline import step
from serving.client.protocol import DEFAULT_SIGNATURE
from serving.client.saved_model import metadata_of


def profile(wanted: Profile, made: Made, stages: Stages, seed: int) -> StudyProfile:
    """The time by operation of each version that was made, in processes one after the other.

    Raises FailedError if one cannot be traced.
    """
    versions = {label: (variant, version) for label, variant in wanted.variants
                if (version := made.version(wanted.model, variant)) is not None}
    depends_on = {"profile": asdict(wanted), "versions": {label: digest(each) for label, (_, each) in versions.items()},
                  "runs": TRACED_RUNS, "seed": seed, "cpu": cpu()}
    found = stages.run(f"profile-{wanted.model}", depends_on, lambda raw: {"targets": [
        {"target": label, "operations": _operations(wanted, find_target(variant, made.models, wanted.model), version,
                                                    seed, raw.parent)}
        for label, (variant, version) in versions.items()]})
    return {"title": wanted.title, "batch": wanted.batch, "targets": found["targets"]}


def _operations(wanted: Profile, target: Target, version: Path, seed: int, timelines: Path) -> list[Operation]:
    """The operations of one version: versions of a study can take different inputs, so each is traced by itself."""
    signature = metadata_of(version).signature(DEFAULT_SIGNATURE)
    batches, _ = Inputs(seed=seed).batches(signature, wanted.batch, version, 1)
    with step(f"Trace {version}"):
        traces, _ = traced([target], "", batches[0], TRACED_RUNS, True, timelines, verbose=False)
    return traces[0]["operations"]
