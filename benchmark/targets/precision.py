"""How far the answers of a variant in reduced precision may be from the original's, as its manifest states it.

Each engine that runs a version has an entry of its own there: TensorFlow's answers may be exact, LiteRT's in int8.
"""
from benchmark.targets.engines import stated
from benchmark.targets.target import Target
from other_engines import TENSORFLOW
from serving.client.answers import Budget
from serving.client.protocol import DEFAULT_SIGNATURE


def budget_between(baseline: Target, target: Target, signature: str = "") -> Budget | None:
    """The budget in which the target's answers must be equal to the baseline's; None: the table's own bounds.

    `optimize --precision` proves a version within a budget and writes it into the version's manifest. If both are in
    reduced precision, each may be that far from the original.
    """
    found = {(path, each.engine or TENSORFLOW): budget for each in (baseline, target)
             if (path := each.version_directory)
             and (budget := Budget.of_manifest(stated(each.engine, path), signature or DEFAULT_SIGNATURE))}
    if len(found) < 2:
        return next(iter(found.values()), None)
    first, second = found.values()
    return first + second
