"""What one comparison measures."""
from dataclasses import dataclass, field

from benchmark.issuing.trial import UNPINNED
from benchmark.targets.inputs import Inputs
from benchmark.targets.target import Target
from benchmark.verdicts.comparison import RULES, Rules
from serving.client import answers


@dataclass(frozen=True)
class Plan:
    """What one comparison measures: `repeat` requests per target, or, with `until_certain`, as many as it needs.

    `max_s` is the time limit in seconds for all protocols and batch sizes together; None: no limit. With
    `until_certain`, a measurement of `repeat` requests or more ends as soon as its verdict is certain and its ratio
    known within 2 %; after a minute, as soon as its verdict is certain or it has `repeat` requests. It has `demanded`
    requests in any case. `design`: one of `trial.DESIGNS`.
    """

    targets: tuple[Target, ...]
    protocols: tuple[str, ...] = ("rest", "grpc")
    batches: tuple[int, ...] = (100,)
    repeat: int = 200
    warmup: int = 10
    inputs: Inputs = field(default_factory=Inputs)
    processes: int = 2
    budget: answers.Budget | None = None
    max_s: float | None = None
    until_certain: bool = False
    demanded: int = 0
    design: str = UNPINNED
    rules: Rules = RULES
