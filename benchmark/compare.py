"""python -m benchmark compare: which of several variants is faster, or that one cannot tell."""
from dataclasses import asdict
from pathlib import Path

import click

from benchmark.issuing.interleaved import LEAST_CLEAR, LONG_S, Plan, duration, measure
from benchmark.options import (
    Output,
    announce,
    budget_options,
    comma_list,
    output_options,
    positive_list,
    source_options,
)
from benchmark.reports import stored
from benchmark.reports.compare import CompareResult, Settings, compared
from benchmark.reports.head import head, stolen_time
from benchmark.targets.source import Source, protocols_for
from benchmark.targets.target import PROTOCOLS
from benchmark.verdicts.comparison import RULES, Rules
from serving.client.answers import Budget
from user_error import FailedError, UserError

LEAST, MOST = 200, 1000
MAX_TIME_S = 600.0


@click.command(epilog="""\b
Examples:
  python -m benchmark compare original optimized --model mnist
  python -m benchmark compare original optimized --batch 1,100 --repeat 1000 --html reports/compare.html
  python -m benchmark compare original original                    # A/A: must say "cannot tell"
  python -m benchmark compare container:original embedded:original --protocol grpc
  python -m benchmark compare original int8 --atol 0.05 --disagreement 0.01
  python -m benchmark compare session:original session:optimized    # the model alone, without a server
  python -m benchmark compare --url http://127.0.0.1:8501 --url http://127.0.0.1:8503 --samples digits.npz
  python -m benchmark compare optimized --saved-model models/mnist/optimized/1 \\
      --url vertex:projects/123/locations/europe-west4/endpoints/456
\b
A ratio is baseline over candidate: over 1, the candidate is faster. The first target is the baseline.
Without --repeat there are 200 requests, and more up to 1,000 until the interval of the average is within 2 %;
one that measures for more than a minute ends as soon as its verdict is clear. --max-time ends each run.
A verdict needs the whole 95 % interval outside the noise floor, which is how far two processes of the same
variant were apart in the same run, and at least 1 %.
Exit status: 0 measured, whatever the verdict; 1 wrong answers or a server that died; 2 could not run.
""")
@click.argument("variants", nargs=-1, metavar="BASELINE CANDIDATE ...")
@source_options()
@click.option("--batch", "batches", type=positive_list, default="100", show_default=True,
              help="Examples per request, comma-separated.")
@click.option("--repeat", type=click.IntRange(1),
              help=f"Requests per target, protocol and batch size (default: {LEAST}, on a noisy machine up to {MOST}).")
@click.option("--protocol", "protocols", type=comma_list(PROTOCOLS),
              help="rest, grpc or rest,grpc (default: what all targets speak).")
@click.option("--warmup", type=click.IntRange(0), default=10, show_default=True,
              help="Requests to each process before measuring.")
@click.option("--processes", type=click.IntRange(1, 2), default=2, show_default=True,
              help="Servers per variant; with 1 the noise floor cannot see what differs from process to process.")
@click.option("--max-time", "max_s", type=click.FloatRange(0, min_open=True), default=MAX_TIME_S, show_default=True,
              help="Seconds of measuring in all, after which it ends with what it has.")
@budget_options
@output_options
def command(variants: tuple[str, ...], source: Source, batches: tuple[int, ...], repeat: int | None,
            protocols: tuple[str, ...] | None, warmup: int, processes: int, max_s: float, budget: Budget | None,
            output: Output) -> None:
    """Measures BASELINE and one or more CANDIDATEs side by side: interleaved, every answer checked."""
    chosen = source.targets(variants, otherwise=None)
    if len(chosen) < 2:
        raise UserError("compare needs a baseline and a candidate: python -m benchmark compare original optimized")
    plan = Plan(tuple(chosen), protocols_for(chosen, protocols), batches, repeat or LEAST, 0 if repeat else MOST,
                warmup, source.inputs, processes, budget, max_s, until_clear=repeat is None)
    announce(words(plan))
    result = run(plan, Path(output.json) if output.json and output.json != "-" else None)
    output.deliver(result)
    if result["first_wrong"]:
        raise FailedError(f"wrong answers while measuring: {result['first_wrong']}")


def words(plan: Plan) -> str:
    """What the plan will do, before it does it."""
    requests = f"{plan.repeat:,} to {plan.most:,}" if plan.most else f"{plan.repeat:,}"
    ends = f", or until the verdict is clear after {LEAST_CLEAR} requests and {duration(LONG_S)}" * plan.until_clear
    limit = f"; measuring ends after {duration(plan.max_s)} at the latest (--max-time)" if plan.max_s else ""
    return f"{requests} requests per target, protocol and batch size{ends}{limit}"


def run(plan: Plan, json_path: Path | None = None, rules: Rules = RULES) -> CompareResult:
    """Measures the plan with a progress bar, and keeps every finished round beside json_path until the end."""
    names, seed = [target.name for target in plan.targets], plan.inputs.seed
    began = head("compare", plan.targets, seed)
    settings: Settings = {"signature": plan.inputs.signature or "serving_default", "repeat": plan.repeat,
                          "warmup": plan.warmup, "processes": plan.processes}
    journal = stored.Journal(json_path and json_path.with_name(f".{json_path.name}.rounds"), {
        "kind": "compare", "targets": names, "about": {**began, **settings}, "rules": asdict(rules), "seed": seed})
    complete = False
    try:
        with stolen_time(began["environment"]):
            outcome = measure(plan, lambda outcome: journal.save(outcome.blocks, outcome.about()))
        complete = True
    finally:
        if kept := journal.close(complete):
            click.echo(kept, err=True)
    return {**began, **settings, **outcome.about(), **compared(names, outcome.blocks, rules, seed)}
