"""python -m benchmark split: measures each part of a request's time, for REST and gRPC."""
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import click

from benchmark.issuing.stages import MONITORING, split, timing_client
from benchmark.options import Output, output_options, positive_list, source_options
from benchmark.reports.head import head
from benchmark.reports.split import SplitResult
from benchmark.targets.first_answers import first_answers
from benchmark.targets.source import Source
from benchmark.targets.starting import alive, start_all
from benchmark.targets.target import IN_PROCESS
from commandline import step
from user_error import UserError


@click.command(epilog="""\b
Examples:
  python -m benchmark split original --batch 1,100
  python -m benchmark split optimized --repeat 500 --html reports/split.html
  python -m benchmark split optimized@litert                        # run by another engine
  python -m benchmark split --url http://127.0.0.1:8501 --grpc 127.0.0.1:8500
\b
Each request asks the server to report its timing (header x-server-timing). If a server does not (TensorFlow Serving
itself does not), its metrics are used instead: these are means over all requests, with fewer parts.
""")
@click.argument("variant", required=False)
@source_options(grappler=False)
@click.option("--batch", "batches", type=positive_list, default="1,100", show_default=True,
              help="Examples per request, comma-separated.")
@click.option("--repeat", type=click.IntRange(2), default=200, show_default=True,
              help="Requests per protocol and batch size.")
@output_options
def command(variant: str | None, source: Source, batches: tuple[int, ...], repeat: int, output: Output) -> None:
    """Splits the time of a request to VARIANT (default: original) or to a server that runs already."""
    if len(source.running) + (variant is not None) > 1:
        raise UserError("a split is of one server: name a variant, or one --url and its --grpc")
    (target,) = source.targets([variant] if variant else [])
    if target.backend in IN_PROCESS:
        raise UserError("split measures requests to a server: name a variant, not an in-process target")
    version = target.version_directory
    result: SplitResult = {**head("split", [target], source.inputs.seed), "target": target.name, "requests": repeat,
                           "splits": []}
    with ExitStack() as stack:
        if not source.running:
            monitoring = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".config"))
            monitoring.write(MONITORING)
            monitoring.flush()
            target = replace(target, flags=(*target.flags, f"--monitoring_config_file={monitoring.name}"))
        with step(f"Start {target.name}"):
            instance = stack.enter_context(start_all([target], 1))[target.name][0]
        for batch in batches:
            with alive(instance, "while it was measured"), step(f"Batch {batch}"):
                signature = source.inputs.signature
                connect = partial(instance.connect, target.protocols[0], signature)
                first = first_answers(source.inputs, instance, connect, batch, version)
                first.connection.close()
                result["inputs"] = first.inputs
                clients = {protocol: stack.enter_context(timing_client(instance, protocol))
                           for protocol in target.protocols}
                result["splits"] += [{"protocol": protocol, "batch": batch, **parts} for protocol, parts in
                                     split(instance, clients, signature, first.batches, repeat).items()]
    output.deliver(result)
