"""The float32 version of a source: it is published only if its answers are equal by the tolerance table."""
from __future__ import annotations

from typing import Any

from export import equivalence, manifest, publish
from export import warmup as warm
from export.equivalence import Report
from export.job import Job
from export.outcome import Made, NotEqualError, Optimized
from export.precision.layer import FULL
from export.prepared import Prepared, prepared
from export.reach import effects_of


def published(job: Job, wanted: dict[str, Any]) -> Optimized:
    """The job's next version, in float32. Raises NotEqualError if its answers differ."""
    with publish.new_version(job.base, job.version) as made:
        with prepared(job) as ready:
            with ready.stages("transform"):
                graph, steps = ready.for_tensorflow()
                ready.report.steps += steps
            with ready.stages("write"):
                ready.write(made.path, graph)
            del graph
            ready.forget()
            with ready.stages("verify"):
                equality = equivalence.check(ready.path, made.path, job.tags, ready.plan, job.signatures)
                if not ready.path.is_relative_to(ready.name):
                    equality.reasons = [one.replace(str(ready.path), ready.name) for one in equality.reasons]
            sizes, nodes = ready.sizes(made.path)
        if not equality.equal:
            raise NotEqualError(ready.steps, equality, {
                "path": None, "reasons": equality.all_reasons(), **ready.report.to_json(),
                "equality": equality.by_signature()})
        if job.warmup:
            write_warmup(ready, made, equality)
        manifest.write(made.path, wanted, **ready.facts(), precision=FULL, equality=equality.by_signature(),
                       seconds=ready.stages.seconds, nodes={"before": nodes[0], "after": nodes[1]})
    return Optimized(made.published, manifest.read(made.published) or {},
                     Made(ready.steps, equality, sizes, nodes, str(ready.stages)))


def write_warmup(ready: Prepared, made: publish.NewVersion, equality: Report) -> None:
    """Warm-up records from the requests of a comparison, except those with effects."""
    warm.write(made.path, [(key, inputs) for key, one in equality.signatures.items()
                           for inputs in one.requests.values() if not effects_of(ready.model, key)])
