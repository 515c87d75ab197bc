"""python -m benchmark compare: measures which of several variants is faster, or that it cannot be told."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from benchmark.issuing.trial import DESIGNS
from benchmark.measured import LEAST, MAX_TIME_S, Measured, measured, planned
from benchmark.options import (
    PERCENT,
    VERDICTS,
    Output,
    budget_options,
    card_option,
    comma_list,
    demand_options,
    output_options,
    positive_list,
    source_options,
)
from benchmark.reports import stored
from benchmark.targets.inputs import Inputs
from benchmark.targets.source import Source, distinct
from benchmark.targets.target import PROTOCOLS, Target, running_targets
from benchmark.verdicts.comparison import RULES
from benchmark.verdicts.demands import Demands
from commandline import progress, user_errors
from serving.client.answers import Budget
from serving.client.objective import parse_objective
from user_error import FailedError, UserError


@click.command(epilog="""\b
Examples:
  python -m benchmark compare original optimized --model mnist
  python -m benchmark compare original optimized --batch 1,100 --repeat 1000 --html reports/compare.html
  python -m benchmark compare original original                    # A/A: must say "cannot tell"
  python -m benchmark compare container:original embedded:original --protocol grpc
  python -m benchmark compare original int8 --atol 0.05 --disagreement 0.01
  python -m benchmark compare session:original session:optimized    # the model alone, without a server
  python -m benchmark compare original optimized@litert optimized@openvino            # run by other engines
  python -m benchmark compare session:optimized@litert optimized@litert --protocol grpc   # the server's own time
  python -m benchmark compare original optimized --fail-if slower --budget p99=50ms             # in CI
  python -m benchmark compare original optimized --against stored.json --fail-if slower
  python -m benchmark compare original optimized --store reports/history   # `report reports/history` draws them
  python -m benchmark compare --url http://127.0.0.1:8501 --url http://127.0.0.1:8503 --samples digits.npz
  python -m benchmark compare optimized --saved-model models/mnist/optimized/1 \\
      --url vertex:projects/123/locations/europe-west4/endpoints/456
\b
A ratio is baseline over candidate: over 1, the candidate is faster. The first target is the baseline.
Without --repeat a measurement ends as soon as its verdict is certain and the ratio known within 2 %, or after a
minute and 200 requests per target. --max-time limits the time of every run.
The verdict is on the typical latency, the mean of the middle half of a block's requests: faster or slower if the
whole 95 % interval is above or below 1, equal if it is within --equal-within of 1. The interval holds at any time,
and has in it how far processes of one variant are apart.
--fail-if and --fail-if-not judge this verdict under every protocol and batch size; an INVALID comparison fails them.
--against compares the new ratio with the stored ratio over the same baseline; the two options then judge this
comparison.
""")
@click.argument("variants", nargs=-1, metavar="BASELINE CANDIDATE ...")
@source_options()
@click.option("--batch", "batches", type=positive_list, default="100", show_default=True,
              help="Examples per request, comma-separated.")
@click.option("--repeat", type=click.IntRange(1),
              help=f"Requests per target, protocol and batch size (default: {LEAST} or more, as many as needed).")
@click.option("--equal-within", type=PERCENT, default="2%", show_default=True,
              help="Verdict `equal` if the whole interval is so near 1.")
@click.option("--protocol", "protocols", type=comma_list(PROTOCOLS),
              help="rest, grpc or rest,grpc (default: all that every target supports).")
@click.option("--warmup", type=click.IntRange(0), default=10, show_default=True,
              help="Unmeasured requests to each process before measuring.")
@click.option("--processes", type=click.IntRange(1, 16), default=2, show_default=True,
              help="Processes of each variant; more show smaller differences, as one is a little faster than another.")
@click.option("--design", type=click.Choice(DESIGNS), default="auto", show_default=True,
              help="Measure one after the other on the same core (interleaved), or wherever the system puts them "
                   "(unpinned), or two at the same time (duet); auto: what is quieter here.")
@click.option("--max-time", "max_s", type=click.FloatRange(0, min_open=True), default=MAX_TIME_S, show_default=True,
              help="Limit of the measuring time in seconds; the run then ends with what is measured by then.")
@budget_options
@demand_options
@card_option
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Keep the result in a folder of results, which `report DIR` draws over time.")
@output_options
def command(variants: tuple[str, ...], source: Source, batches: tuple[int, ...], repeat: int | None,
            equal_within: float, protocols: tuple[str, ...] | None, warmup: int, processes: int, max_s: float,
            design: str, budget: Budget | None, demands: Demands, against: Path | None, cards: tuple[str, ...],
            store: Path | None, output: Output) -> None:
    """Measures BASELINE and one or more CANDIDATEs side by side: interleaved, with every answer checked."""
    if store:
        stored.refuse_folder(store)
    plan = planned(source.targets(variants, otherwise=None), source.inputs, protocols, batches, repeat, warmup,
                   processes, budget, max_s, demands, replace(RULES, equal_within=equal_within), design)
    found = measured(plan, demands, against, Path(output.json) if output.json and output.json != "-" else None)
    output.deliver(found.result)
    for path in cards:
        found.card(path)
    if store:
        click.echo(f"Kept: {stored.keep(store, found.result)}", err=True)
    if found.failures:
        raise FailedError("; ".join(found.failures))


def compare(baseline: str, candidate: str, *others: str, model: str = "mnist", models: str | Path = "models",
            batch: int | Sequence[int] = 100, protocol: str | Sequence[str] | None = None, repeat: int | None = None,
            warmup: int = 10, processes: int = 2, design: str = "auto", max_time: float = MAX_TIME_S,
            signature: str = "", samples: str | Path | None = None, seed: int = 0, server_flags: Sequence[str] = (),
            atol: float | None = None, rtol: float | None = None, disagreement: float | None = None,
            equal_within: float = RULES.equal_within, fail_if: str | None = None, fail_if_not: str | None = None,
            budget: str | Sequence[str] = (), against: str | Path | None = None,
            show_progress: bool = False) -> Measured:
    """Measures a baseline and candidates side by side, as `python -m benchmark compare` does, and prints nothing.

    baseline, candidate: what the command takes (`original`, `session:optimized`, `optimized@litert`), or the http://
    address of a server that already runs. max_time is in seconds; each other parameter is the command's option of that
    name. A demand (fail_if, fail_if_not, budget) that is not met is in the result's `failures`, and so are wrong
    answers while measuring.

    Raises UserError if it cannot be measured, FailedError if a server dies or gives other answers than the baseline.
    """
    with user_errors(), progress(show_progress):
        source = Source(model, Path(models), Inputs(signature, Path(samples) if samples else None, seed),
                        tuple(server_flags))
        found = distinct([_target(source, text) for text in (baseline, candidate, *others)])
        source.refuse_without_effect(found)
        allowed = Budget(rtol or 0.0, atol or 0.0, disagreement or 0.0) if any(
            value is not None for value in (atol, rtol, disagreement)) else None
        demands = Demands(_verdict("fail_if", fail_if), _verdict("fail_if_not", fail_if_not), tuple(
            parse_objective(text) for text in ([budget] if isinstance(budget, str) else budget)))
        batches = (batch,) if isinstance(batch, int) else tuple(batch)
        protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol or ())
        plan = planned(found, source.inputs, protocols or None, batches, repeat, warmup, processes, allowed, max_time,
                       demands, replace(RULES, equal_within=equal_within), design)
        return measured(plan, demands, Path(against) if against else None)


def _target(source: Source, text: str) -> Target:
    address = text.startswith(("http://", "https://"))
    return running_targets([text], [], source.model)[0] if address else source.target(text)


def _verdict(name: str, given: str | None) -> str | None:
    if given not in (None, *VERDICTS):
        raise UserError(f"{name} must be 'slower', 'equal' or 'faster', not '{given}'")
    return given
