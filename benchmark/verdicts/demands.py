"""What a comparison must show for a build to pass: pure. The rules are in decision 150."""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark.verdicts.block import Block, latencies
from benchmark.verdicts.records import AgainstRecord, ComparisonRecord
from benchmark.verdicts.statistics import metric_value, samples_needed
from serving.client.objective import Objective

Judged = ComparisonRecord | AgainstRecord
MEAN, LONGEST = 0.0, 100.0  # as Objective.percentile


@dataclass(frozen=True)
class Demands:  # decision 150
    """`fail_if` and `fail_if_not` are verdicts; `budgets` are latency limits that candidates must keep.

    Faster is enough where equal is demanded.
    """

    fail_if: str | None = None
    fail_if_not: str | None = None
    budgets: tuple[Objective, ...] = ()

    def requests(self) -> int:
        """The least number of requests per target by which every budget can be judged; 0 without a budget."""
        return max((_needed(budget) for budget in self.budgets), default=0)

    def failed(self, comparison: Judged) -> str | None:
        """The option that this comparison fails, or None if it passes.

        An INVALID comparison fails every demand, since it shows nothing.
        """
        found = comparison["verdict"]
        enough = found == self.fail_if_not or (found, self.fail_if_not) == ("faster", "equal")
        for option, verdict, hit in (("--fail-if", self.fail_if, found == self.fail_if),
                                     ("--fail-if-not", self.fail_if_not, not enough)):
            if verdict and (hit or not comparison["valid"]):
                return f"{option} {verdict}"
        return None


def over_budget(budget: Objective, blocks: Iterable[Block]) -> str | None:
    """Why the blocks of one target, protocol and batch size do not keep the budget; None if they do."""
    own = list(blocks)
    values, failed = latencies(own), sum(block.errors for block in own)
    if failed or len(values) < _needed(budget):
        return (f"{failed} requests failed" if failed else f"cannot tell from {len(values):,} requests, "
                f"{_needed(budget):,} are needed: raise --repeat or --max-time")
    measured = {MEAN: lambda: metric_value("mean", values), LONGEST: lambda: float(values.max())}.get(
        budget.percentile, lambda: metric_value(f"p{budget.percentile:g}", values))()
    return f"{measured * 1e3:.3g} ms" if measured > budget.seconds else None


def groups(blocks: Sequence[Block]) -> dict[tuple[str, str, int], list[Block]]:
    """Blocks by target, protocol and batch size."""
    found: dict[tuple[str, str, int], list[Block]] = {}
    for block in blocks:
        found.setdefault((block.target, block.protocol, block.batch), []).append(block)
    return found


def _needed(budget: Objective) -> int:
    return 1 if budget.percentile in (MEAN, LONGEST) else samples_needed(budget.percentile)
