"""python -m benchmark compare: which of several variants is faster, or that one cannot tell."""
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from benchmark import report
from benchmark.issuing.interleaved import Plan, measure
from benchmark.options import address_options, budget_options, comma_list, model_options, output_options, positive_list
from benchmark.reports import stored
from benchmark.reports.environment import environment, steal_s
from benchmark.targets.target import PROTOCOLS, Target, common_protocols, find_target
from benchmark.verdicts.comparison import RULES, Rules
from serving.client.answers import Budget
from user_error import FailedError, UserError

LEAST, MOST = 200, 1000


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
Without --repeat there are 200 requests, and more up to 1,000 until the interval of the average is within 2 %.
A verdict needs the whole 95 % interval outside the noise floor, which is how far two processes of the same
variant were apart in the same run, and at least 1 %.
Exit status: 0 measured, whatever the verdict; 1 wrong answers or a server that died; 2 could not run.
""")
@click.argument("variants", nargs=-1, metavar="BASELINE CANDIDATE ...")
@model_options
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
@budget_options
@address_options
@output_options
def command(variants: tuple[str, ...], model: str, models: Path, signature: str, samples: Path | None, seed: int,
            grappler: str, server_flags: tuple[str, ...], batches: tuple[int, ...], repeat: int | None,
            protocols: tuple[str, ...] | None, warmup: int, processes: int,
            budget: Budget | None, running: list[Target], html_path: str | None, json_path: str | None) -> None:
    """Measures BASELINE and one or more CANDIDATEs side by side: interleaved, every answer checked."""
    chosen = _distinct([*(find_target(text, models, model, server_flags, signature, grappler == "on")
                          for text in variants), *running])
    if len(chosen) < 2:
        raise UserError("compare needs a baseline and a candidate: python -m benchmark compare original optimized")
    if protocols is None:
        protocols = common_protocols(chosen)
    plan = Plan(tuple(chosen), protocols, batches, repeat or LEAST, 0 if repeat else MOST, warmup, signature, samples,
                seed, processes, budget)
    result = run(plan, Path(json_path) if json_path and json_path != "-" else None)
    report.deliver(result, html_path, json_path)
    if result["first_wrong"]:
        raise FailedError(f"wrong answers while measuring: {result['first_wrong']}")


def run(plan: Plan, json_path: Path | None = None, rules: Rules = RULES) -> dict[str, Any]:
    """Measures the plan with a progress bar, and keeps every finished round beside json_path until the end."""
    names = [target.name for target in plan.targets]
    versions = {target.name: path for target in plan.targets if (path := target.version_directory)}
    about: dict[str, Any] = {
        "model": plan.targets[0].model, "signature": plan.signature or "serving_default", "repeat": plan.repeat,
        "warmup": plan.warmup, "processes": plan.processes, "environment": environment(versions, plan.seed)}
    head = {"kind": "compare", "targets": names, "about": about, "rules": asdict(rules), "seed": plan.seed}
    journal = stored.Journal(json_path and json_path.with_name(f".{json_path.name}.rounds"), head)
    stolen, complete = steal_s(), False
    try:
        outcome = measure(plan, lambda outcome: journal.save(outcome.blocks, outcome.about()))
        complete = True
    finally:
        if kept := journal.close(complete):
            click.echo(kept, err=True)
    about |= outcome.about()
    about["environment"]["steal_s"] = round(steal_s() - stolen, 2)
    return stored.document("compare", names, outcome.blocks, about, rules, plan.seed)


def _distinct(chosen: list[Target]) -> list[Target]:
    """The same variant twice is an A/A run: the second gets a name of its own."""
    seen: dict[str, int] = {}
    named = []
    for target in chosen:
        seen[target.name] = seen.get(target.name, 0) + 1
        named.append(replace(target, name=f"{target.name} #{seen[target.name]}") if seen[target.name] > 1 else target)
    return named
