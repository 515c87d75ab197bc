"""python -m benchmark profile: where a server and its model spend their time, and which CPU instructions they use."""
import json
from pathlib import Path

import click

import cpu_class
from benchmark import report
from benchmark.issuing.progress import duration
from benchmark.issuing.sampling import instructions, sampled, traced
from benchmark.options import announce, protocol_option, source_options
from benchmark.reports import flame
from benchmark.reports.head import head
from benchmark.reports.profile import ProfileResult, Sampled
from benchmark.targets.source import Source, distinct, protocol_for
from benchmark.verdicts.arrivals import Closed
from benchmark.verdicts.scenario import Scenario
from commandline import json_option, step
from user_error import FailedError, UserError
from whole_file import write_text

# Roughly the seconds to start a variant under py-spy and write its stacks, and to start TensorFlow for the trace.
OTHER_S = 20.0


@click.command(epilog="""\b
Examples:
  python -m benchmark profile original
  python -m benchmark profile original optimized --batch 100 --out reports/profile
\b
py-spy starts the server as its child, since attaching to a process needs privileges on most machines, and samples
native frames too. It sees threads that Python knows, which wait in Session.run while TensorFlow's own threads work:
below Session.run the flame graph has the operations that TensorFlow traced, by scope. In a container it needs
--cap-add SYS_PTRACE.
""")
@click.argument("variants", nargs=-1, required=True, metavar="VARIANT [CANDIDATE]")
@source_options(addresses=False)
@protocol_option
@click.option("--batch", type=click.IntRange(1), default=100, show_default=True, help="Examples per request.")
@click.option("--seconds", type=click.FloatRange(1), default=12.0, show_default=True, help="How long to sample.")
@click.option("--repeat", type=click.IntRange(1), default=20, show_default=True, help="Traced runs of the model.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("reports/profile"),
              show_default=True, help="Folder for the page, the stacks and TensorFlow's timelines.")
@json_option
def command(variants: tuple[str, ...], source: Source, protocol: str | None, batch: int, seconds: float, repeat: int,
            out: Path, json_path: str | None) -> None:
    """Profiles VARIANT (and CANDIDATE, for comparison): flame graph, time by operation, CPU instructions."""
    # Not source.targets, which would refuse --grappler: here it applies to the trace, which runs in process.
    found = distinct([source.target(text) for text in variants])
    if any(target.backend != "embedded" for target in found):
        raise UserError("profile starts the embedded server: name a variant without a backend; in a container started "
                        "with --cap-add SYS_PTRACE, run 'py-spy record --native --pid 1' yourself")
    if other := next((target for target in found if not target.by_tensorflow), None):
        raise UserError(f"profile shows TensorFlow's operations, and {other.name} has others: name a variant without "
                        "an engine, or use 'python -m benchmark split', which measures the parts of a request")
    out.mkdir(parents=True, exist_ok=True)
    began, samples = head("profile", found, source.inputs.seed), list[Sampled]()
    chosen = Scenario("profile", protocol=protocol_for(found, protocol, "grpc"), batch=batch, arrivals=Closed(2),
                      measure_s=seconds, warmup_s=1)
    announce(f"{seconds:g} s of samples per variant, about {duration(OTHER_S)} to start it and write its stacks, "
             f"{repeat} traced runs: about {duration((seconds + OTHER_S) * len(found) + OTHER_S)}")
    trees = []
    for target in found:
        stacks = out / f"{target.name}.stacks.txt"
        lines, inputs, began["inputs"] = sampled(chosen, target, source.inputs, stacks)
        tree = flame.tree(lines)
        if not tree.samples:
            raise FailedError(f"py-spy sampled no request of {target.name}: sample longer, --seconds {2 * seconds:g}")
        trees.append(tree)
        samples.append({"target": target.name, "stacks": str(stacks), "hottest": flame.hottest(tree), "flame": ""})
    with step(f"TensorFlow's trace of {repeat} runs of {' and '.join(target.name for target in found)}"):
        traces, log = traced(found, source.inputs.signature, inputs, repeat, source.grappler, out)
    for tree, trace, sample in zip(trees, traces, samples, strict=True):
        flame.with_operations(tree, trace["scopes"])
        sample["flame"] = flame.svg(tree)
    result: ProfileResult = {
        **began, "batch": batch, "instructions": instructions(log, cpu_class.flags()),
        "profiles": [{**sample, "operations": trace["operations"]}
                     for sample, trace in zip(samples, traces, strict=True)]}
    report.deliver(result, str(out / "profile.html"), json_path)
    write_text(out / "profile.json", json.dumps(result, indent=1))
