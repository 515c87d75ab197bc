"""python -m benchmark run and scenarios: one scenario against one or more targets, VALID or INVALID with reasons."""
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmark import report
from benchmark.issuing import loops, runner
from benchmark.issuing.interleaved import DISTINCT, alive, start_all
from benchmark.options import address_options, model_options, output_options
from benchmark.reports import stored
from benchmark.reports.environment import environment, steal_s
from benchmark.targets import null_server
from benchmark.targets.child import Child, free_ports, python_module
from benchmark.targets.connections import Measured, Workload
from benchmark.targets.inputs import inputs_for
from benchmark.targets.target import PROTOCOLS, Instance, Target, find_target
from benchmark.verdicts import scenario
from benchmark.verdicts.arrivals import Closed
from benchmark.verdicts.measurement import Measurement
from benchmark.verdicts.scenario import Scenario
from commandline import json_option, step
from user_error import UserError
from whole_file import write_json

CEILING_S = 1.0


@click.command(epilog="""\b
Examples:
  python -m benchmark run single-stream original optimized --model mnist
  python -m benchmark run server optimized --rate 40 --slo p99=50ms --html reports/server.html
  python -m benchmark run my-scenario.toml --url http://127.0.0.1:8501
  python -m benchmark run closed --clients 8 --protocol rest --measure 10
  python -m benchmark run article --signature serving_default
  python -m benchmark run throughput original --num_iter 500 --num_warmup 50 --grappler off
  python -m benchmark scenarios                      # what there is
\b
Latency is from the intended start of each request: what a user waits, also when the server made others wait.
Exit status: 0 VALID; 1 INVALID, wrong answers or a server that died; 2 could not run.
""")
@click.argument("name", metavar="SCENARIO")
@click.argument("variants", nargs=-1, metavar="[VARIANT ...]")
@model_options
@address_options
@click.option("--protocol", type=click.Choice(PROTOCOLS), help="Instead of the scenario's.")
@click.option("--batch", type=click.IntRange(1), help="Examples per request, instead of the scenario's.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests per second of an open loop.")
@click.option("--clients", type=click.IntRange(1), help="Clients of a closed loop.")
@click.option("--warmup", type=click.FloatRange(0), help="Seconds before measuring.")
@click.option("--measure", type=click.FloatRange(0, min_open=True), help="Seconds measured.")
@click.option("--repeats", type=click.IntRange(1), help="How many times it is measured.")
@click.option("--slo", metavar="pP=Nms", help="A promise, such as p99=50ms.")
@click.option("--engine", type=click.Choice(("own", "loadgen")), default="own", show_default=True,
              help="Who issues requests: this runner, or MLPerf's LoadGen (mlcommons_loadgen).")
@click.option("--num_iter", "--num-iter", "iterations", type=click.IntRange(1),
              help="Iterations of a loop (article, throughput).")
@click.option("--num_warmup", "--num-warmup", "loop_warmup", type=click.IntRange(0),
              help="Iterations of a loop before its clock starts.")
@output_options
def command(name: str, variants: tuple[str, ...], model: str, models: Path, signature: str, samples: Path | None,
            seed: int, grappler: str, server_flags: tuple[str, ...], running: list[Target],
            protocol: str | None, batch: int | None, rate: float | None, clients: int | None, warmup: float | None,
            measure: float | None, repeats: int | None, slo: str | None, engine: str, iterations: int | None,
            loop_warmup: int | None, html_path: str | None, json_path: str | None) -> None:
    """Runs SCENARIO (a name of the catalogue, a .toml file, or the loops article and throughput)."""
    if name in loops.LOOPS:
        if html_path or running:
            raise UserError(f"{name} is a loop in process: it has no addresses and no page")
        loop = loops.LOOPS[name]
        loop = replace(loop, batch=batch or loop.batch, iterations=iterations or loop.iterations,
                       warmup=loop.warmup if loop_warmup is None else loop_warmup)
        for text in variants or ("original",):
            target = find_target(text if ":" in text else f"{loop.backend}:{text}", models, model, server_flags,
                                  signature, grappler == "on")
            run_loop(loop, target, samples, seed, json_path)
        return
    chosen = scenario.changed(
        scenario.find(name), protocol=protocol, batch=batch, rate_per_s=rate, clients=clients, warmup_s=warmup,
        measure_s=measure, repeats=repeats, slo=scenario.parse_slo(slo))
    found = [*(find_target(text, models, model, server_flags, signature, grappler == "on") for text in variants),
             *running]
    found = found or [find_target("original", models, model, server_flags)]
    result = document(chosen, found, seed, engine)
    for target in found:
        for measurement, inputs in measured(chosen, target, signature, samples, seed, engine):
            result["inputs"] = inputs
            result["runs"].append({"target": target.name, **measurement.to_json()})
            if json_path and json_path != "-":
                # Saved now: a later run may crash, and this one must not be lost with it.
                write_json(json_path, result)
    result["environment"]["steal_s"] = round(steal_s() - result["environment"]["steal_s"], 2)
    report.deliver(result, html_path, json_path)
    if not all(run["valid"] for run in result["runs"]):
        raise click.exceptions.Exit(1)


def run_loop(loop: loops.Loop, target: Target, samples: Path | None, seed: int, json_path: str | None) -> None:
    """Prints what the original of the loop prints."""
    block = loops.run(loop, target, samples, seed)
    for line in loops.lines(loop, block):
        click.echo(line, err=json_path == "-")
    if json_path:
        path = target.version_directory
        write_json(json_path, loops.to_json(loop, block, environment({target.name: path} if path else None, seed)))


def document(chosen: Scenario, found: list[Target], seed: int, engine: str) -> dict[str, Any]:
    """The result without its runs."""
    versions = {target.name: path for target in found if (path := target.version_directory)}
    return {"kind": "run", "format": stored.FORMAT, "scenario": chosen.to_json(), "engine": engine, "inputs": "",
            "model": found[0].model, "runs": [], "environment": {**environment(versions, seed), "steal_s": steal_s()}}


def measured(chosen: Scenario, target: Target, signature: str, samples: Path | None, seed: int,
             engine: str = "own") -> Iterator[tuple[Measurement, str]]:
    """Starts the target, warms up, and yields each repeat of the scenario as soon as it is done."""
    if chosen.protocol not in target.protocols:
        raise UserError(f"{target.name} has no address for {chosen.protocol}: give --url for rest, --grpc for grpc")
    with ExitStack() as stack:
        with step(f"Start {target.name}"):
            instance = stack.enter_context(start_all([target], 1))[target.name][0]
        with alive(instance, "while it was warmed up"), step(f"Warm up, {chosen.warmup_s:g} s"):
            connections, inputs = stack.enter_context(open_connections(chosen, instance, signature, samples, seed))
            runner.run(replace(chosen, arrivals=Closed(len(connections))), connections, chosen.warmup_s)
        with step("Measure what the load generator itself can send"):
            ceiling = generator_ceiling(chosen, connections[0].workload)
        for repeat in range(chosen.repeats):
            with alive(instance, "while it was measured"), step(
                    f"{target.name}: {chosen.name}, {chosen.measure_s:g} s ({repeat + 1} of {chosen.repeats})"):
                if engine == "loadgen":
                    from benchmark.issuing.loadgen import run as issued_by_loadgen
                    yield replace(issued_by_loadgen(chosen, connections), ceiling_per_s=ceiling), inputs
                else:
                    yield replace(runner.run(chosen, connections), ceiling_per_s=ceiling), inputs
                instance.await_death("while it was measured", 0)


@contextmanager
def open_connections(chosen: Scenario, instance: Instance, signature: str, samples: Path | None, seed: int
               ) -> Iterator[tuple[list[Measured], str]]:
    """A connection per worker, all with the same requests; the first answers are what later ones must equal."""
    with ExitStack() as stack:
        connections = []
        for _ in range(runner.workers_for(chosen)):
            connection = instance.connect(chosen.protocol, signature)
            stack.callback(connection.close)
            connections.append(connection)
        inputs, words = inputs_for(connections[0].signature(), chosen.batch, DISTINCT, samples,
                                   instance.target.version_directory, seed)
        workload = Workload(chosen.batch, inputs)
        first = connections[0]
        workload.expected = [first.decode(first.timed(first.prepare(each))[1]) for each in inputs]
        yield [Measured(connection, workload) for connection in connections], words


def generator_ceiling(chosen: Scenario, workload: Workload) -> float:
    """Requests per second that one connection sends of this workload to a server that does nothing."""
    rest_port, grpc_port = free_ports(2)
    argv = python_module("benchmark", "null-server", "--rest-port", str(rest_port), "--grpc-port", str(grpc_port))
    with Child("null server", argv) as child:
        target = Target("null server", null_server.MODEL, "address")
        instance = Instance(target, child, f"http://127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}")
        instance.wait()
        connection = Measured(instance.connect(chosen.protocol), workload, check=False)
        for index in range(20):
            connection.ask(index)
        measurement = runner.run(replace(chosen, arrivals=Closed(1)), [connection], CEILING_S)
        connection.connection.close()
    return measurement.rate_per_s


@click.command("scenarios", epilog="""\b
Example:
  python -m benchmark scenarios
  python -m benchmark scenarios --json -
""")
@json_option
def scenarios(json_path: str | None) -> None:
    """Lists the scenarios that `run` knows by name, with the question each one answers."""
    if json_path:
        write_json(json_path, [each.to_json() for each in scenario.CATALOGUE.values()])
        return
    table = Table(box=None, pad_edge=False)
    for title in ("name", "question", "arrivals", "seconds"):
        table.add_column(title)
    for each in scenario.CATALOGUE.values():
        arrivals = each.to_json()["arrivals"]
        words = " ".join(f"{key}={value}" for key, value in arrivals.items() if key != "kind")
        table.add_row(each.name, each.question, f"{arrivals['kind']} {words}", f"{each.measure_s:g}")
    Console().print(table)
