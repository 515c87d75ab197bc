"""python -m benchmark run: measures targets under one scenario; each run is VALID, or INVALID with reasons."""
from dataclasses import replace
from typing import Any

import click

from benchmark.issuing import loops
from benchmark.issuing.warm import repeats
from benchmark.options import Output, output_options, slo_option, source_options
from benchmark.reports.environment import environment
from benchmark.reports.head import head, stolen_time
from benchmark.reports.run import RunResult
from benchmark.targets.source import Source, protocol_for
from benchmark.targets.target import PROTOCOLS, Target
from benchmark.verdicts import scenario
from user_error import UserError
from whole_file import write_json


@click.command(epilog="""\b
Examples:
  python -m benchmark run single-stream original optimized --model mnist
  python -m benchmark run server optimized --rate 40 --slo p99=50ms --html reports/server.html
  python -m benchmark run server optimized@openvino --rate 40      # run by another engine
  python -m benchmark run my-scenario.toml --url http://127.0.0.1:8501
  python -m benchmark run closed --clients 8 --protocol rest --seconds 10
  python -m benchmark run article --signature serving_default
  python -m benchmark run throughput original --num_iter 500 --num_warmup 50 --grappler off
  python -m benchmark scenarios                      # lists all scenarios
\b
Latency counts from the intended start of each request, so it includes the time that a late request had to wait.
""")
@click.argument("name", metavar="SCENARIO")
@click.argument("variants", nargs=-1, metavar="[VARIANT ...]")
@source_options()
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="Protocol, instead of the scenario's.")
@click.option("--batch", type=click.IntRange(1), help="Examples per request, instead of the scenario's.")
@click.option("--rate", "rate_per_s", type=click.FloatRange(0, min_open=True),
              help="Requests per second of an open loop.")
@click.option("--clients", type=click.IntRange(1), help="Clients of a closed loop.")
@click.option("--warmup-seconds", "warmup_s", type=click.FloatRange(0), help="Seconds of warm-up before measuring.")
@click.option("--seconds", "measure_s", type=click.FloatRange(0, min_open=True), help="Seconds to measure.")
@click.option("--repeat", "repeats_", type=click.IntRange(1), help="How many times each target is measured.")
@slo_option
@click.option("--engine", type=click.Choice(("own", "loadgen")), default="own", show_default=True,
              help="What sends the requests: the project's runner, or MLPerf's LoadGen (mlcommons_loadgen). What runs "
                   "the model is in a target's name: VARIANT@litert.")
@click.option("--num_iter", "--num-iter", "iterations", type=click.IntRange(1),
              help="Iterations of a loop (article, throughput).")
@click.option("--num_warmup", "--num-warmup", "loop_warmup", type=click.IntRange(0),
              help="Unmeasured iterations of a loop before the measured ones.")
@output_options
def command(name: str, variants: tuple[str, ...], source: Source, engine: str, iterations: int | None,
            loop_warmup: int | None, output: Output, repeats_: int | None, slo: str | None, **changes: Any) -> None:
    """Runs SCENARIO: a name that `scenarios` lists, a .toml file, or one of the loops article and throughput."""
    changes |= {"repeats": repeats_, "slo": scenario.parse_slo(slo)}
    if name in loops.LOOPS:
        batch = changes.pop("batch")
        _refuse(f"{name} is an in-process loop with a number of iterations: it has no", {
            "--html": output.html, "--url or --grpc": source.running, **_options(changes),
            "--engine": engine != "own"})
        loop = loops.LOOPS[name]
        loop = replace(loop, batch=batch or loop.batch, iterations=iterations or loop.iterations,
                       warmup=loop.warmup if loop_warmup is None else loop_warmup)
        named = [text if ":" in text else f"{loop.backend}:{text}" for text in variants]
        for target in source.targets(named, otherwise=f"{loop.backend}:original"):
            run_loop(loop, target, source, output)
        return
    _refuse(f"scenario '{name}' has a duration, not a number of iterations: it has no",
            {"--num_iter": iterations, "--num_warmup": loop_warmup is not None})
    protocol = changes.pop("protocol")
    chosen = scenario.changed(scenario.find(name), **changes)
    found = source.targets(variants)
    chosen = replace(chosen, protocol=protocol_for(found, protocol, chosen.protocol))
    result: RunResult = {**head("run", found, source.inputs.seed), "scenario": chosen.to_json(), "engine": engine,
                         "runs": []}
    with stolen_time(result["environment"]):
        for target in found:
            for measurement, result["inputs"] in repeats(chosen, target, source.inputs, engine):
                result["runs"].append({"target": target.name, **measurement.to_json()})
                output.save(result)
    output.deliver(result)
    if not all(run["valid"] and run["slo_met"] is not False for run in result["runs"]):
        raise click.exceptions.Exit(1)


def _options(changes: dict[str, Any]) -> dict[str, Any]:
    names = {"rate_per_s": "--rate", "warmup_s": "--warmup-seconds", "measure_s": "--seconds", "repeats": "--repeat"}
    return {names.get(key, f"--{key}"): value is not None for key, value in changes.items()}


def _refuse(why: str, given: dict[str, Any]) -> None:
    """Raises UserError for the first of these options that was given, since it would have no effect."""
    if name := next((name for name, value in given.items() if value), None):
        raise UserError(f"{why} {name}")


def run_loop(loop: loops.Loop, target: Target, source: Source, output: Output) -> None:
    """Runs a loop, prints the lines that the original benchmark prints, and writes --json."""
    block, inputs = loops.run(loop, target, source.inputs)
    for line in loops.lines(loop, block):
        click.echo(line, err=output.json == "-")
    if output.json:
        path = target.version_directory
        conditions = environment({target.name: (path, target.files)} if path else None, source.inputs.seed)
        write_json(output.json, loops.to_json(loop, block, inputs, conditions))
