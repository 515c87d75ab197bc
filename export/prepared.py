"""A source that is ready to be written in some precision: loaded, frozen and transformed in float32."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from export import diagnosis, edited, loaded, pipeline, saved_model
from export.asking import Plan
from export.freeze import Frozen, freeze
from export.graph import Graph
from export.job import Job
from export.options import budget
from export.samples import refuse_strangers
from export.saved_model import Content, SavedModel
from export.served import node_count
from export.stages import Stages
from freed_memory import give_back_memory
from serving.client import payloads
from user_error import UserError
from version_directory import SAMPLES, model_bytes


@dataclass
class Prepared:
    """`path` is the source as a SavedModel, `graph` the transformed graph; `plan` has the samples of job or source."""

    job: Job
    stages: Stages
    path: Path
    plan: Plan
    model: SavedModel
    frozen: Frozen
    graph: Graph
    report: pipeline.Report

    @property
    def steps(self) -> tuple[str, ...]:
        """What each step of the pipeline did, as text."""
        return tuple(map(str, self.report.steps))

    @property
    def name(self) -> str:
        """The source as the user named it; `path` may be a temporary copy."""
        return self.job.given.name

    def for_tensorflow(self) -> tuple[Graph, list[pipeline.StepReport]]:
        """The graph to write for TensorFlow in float32, and its steps after those of the report."""
        return self._after(self.graph, pipeline.FOR_TENSORFLOW)

    def with_blocks(self, graph: Graph) -> tuple[Graph, list[pipeline.StepReport]]:
        """A graph in reduced precision, with blocks beside the LSTMs that are still loops in float32, and the step."""
        return self._after(graph, pipeline.BLOCKS)

    def _after(self, graph: Graph, steps: str) -> tuple[Graph, list[pipeline.StepReport]]:
        if not pipeline.has_default(self.job.transforms):
            return graph, []
        graph, report = pipeline.run(graph, steps)
        return graph, report.steps

    def write(self, directory: Path, graph: Graph) -> None:
        """Fills an empty directory with a SavedModel of the source's signatures and of `graph`."""
        saved_model.write(directory, content(self.model, self.frozen, graph, self.job.graph_limit))

    def forget(self) -> None:
        """Frees the graphs, which are as large as the model, once all that is made from them is written."""
        self.graph = Graph({})
        self.frozen = replace(self.frozen, graph=Graph({}))
        give_back_memory()

    def sizes(self, version: Path) -> tuple[tuple[int, int], tuple[int, int]]:
        """((bytes before, after), (nodes before, after))"""
        return ((model_bytes(self.path), model_bytes(version)),
                (node_count(self.model), node_count(saved_model.read(version, self.job.tags))))

    def facts(self) -> dict[str, Any]:
        """For the manifest: the source, and how the float32 graph was made."""
        return {"source": self.name, "tensorflow": installed("tensorflow"), "pipeline": self.job.transforms,
                "variables_kept": dict(self.frozen.kept), **self.report.to_json()}


@contextmanager
def prepared(job: Job) -> Iterator[Prepared]:
    """Loads, freezes and transforms the job's source. Raises UserError for a model that cannot be asked or run."""
    real = payloads.load_samples(job.sample_file) if job.sample_file else None
    loaded.prepare()
    plan = Plan(job.batches, real or {}, budget(job.atol, job.rtol), job.seed, frozenset(job.allow_constant or ()),
                None, job.allow, job.allow_random)
    stage = Stages()
    with stage("start TensorFlow"):
        from export.runtime import tf  # noqa: F401
    with job.given.saved_model(job.tags) as plain, edited.fixed(plain, job.tags, dict(job.fixed)) as path, \
            _called(path, job.given.name):
        if plan.samples:
            refuse_strangers(plan.samples, saved_model.chosen(saved_model.read(path, job.tags), job.signatures))
        if not plan.samples and (path / SAMPLES).exists():
            plan = replace(plan, samples=payloads.load_samples(path / SAMPLES))
        with stage("load and freeze"):
            model = saved_model.read(path, job.tags)
            diagnosis.refuse(model, saved_model.chosen(model, job.signatures), plan.allow)
            frozen = freeze(model, job.signatures)
        with stage("transform"):
            graph, report = pipeline.run(frozen.graph, job.transforms)
        yield Prepared(job, stage, path, plan, model, frozen, graph, report)


@contextmanager
def _called(path: Path, name: str) -> Iterator[None]:
    """Within the context, errors name the source as the user named it, not its temporary copy."""
    if path.is_relative_to(name):
        yield
        return
    try:
        yield
    except UserError as error:
        error.args = (str(error).replace(str(path), name),)
        raise


def content(model: SavedModel, frozen: Frozen, graph: Graph, graph_limit: int) -> Content:
    """The content to write: the frozen model with `graph` instead of its own graph."""
    return Content(graph, frozen.signatures, model.tags, frozen.init_op, frozen.assets, frozen.variables, graph_limit,
                   model)
