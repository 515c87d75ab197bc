"""python -m benchmark tune: finds a server's fastest settings for a load, and measures their gain over the defaults."""
import json
from pathlib import Path
from typing import Any

import click

from benchmark.issuing.progress import duration
from benchmark.issuing.trials import Checkpoint, Trials, seconds_needed
from benchmark.options import (
    Output,
    announce,
    batch_option,
    output_options,
    protocol_option,
    slo_option,
    source_options,
)
from benchmark.reports.head import head
from benchmark.reports.tune import TuneResult
from benchmark.targets.configuration import Configuration, candidates
from benchmark.targets.source import Source, protocol_for
from benchmark.verdicts import scenario
from benchmark.verdicts.arrivals import Closed
from benchmark.verdicts.records import GainRecord
from benchmark.verdicts.scenario import Scenario
from cores import cpu_quota
from user_error import UserError
from whole_file import write_text


@click.command(epilog="""\b
Examples:
  python -m benchmark tune optimized --model mnist --slo p99=50ms
  python -m benchmark tune original --slo p90=20ms --clients 8 --batch 4 --candidates 32
  ./tfserving.sh optimized -- $(cat reports/tuned/server.flags)
\b
If it is stopped and started again with the same arguments, it continues where it stopped. It never gives a thread pool
more threads than the CPU quota of its cgroup.
""")
@click.argument("variant", default="original")
@source_options(addresses=False, grappler=False)
@slo_option
@protocol_option
@batch_option
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True, help="Simultaneous clients.")
@click.option("--candidates", "count", type=click.IntRange(2), default=16, show_default=True,
              help="Number of settings to try, including the defaults.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True,
              help="Seconds of the first, shortest measurement of each.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("reports/tuned"),
              show_default=True, help="Folder for server.flags, batching_parameters.txt, and what was measured.")
@output_options
def command(variant: str, source: Source, slo: str | None, protocol: str | None, batch: int, clients: int, count: int,
            seconds: float, out: Path, output: Output) -> None:
    """Tunes threads, oneDNN, batching and front-end threads of the server of VARIANT by successive halving."""
    target = source.target(variant)
    if target.backend != "embedded":
        raise UserError("tune starts embedded servers: name a variant without a backend")
    if not target.by_tensorflow:
        raise UserError(f"tune tries settings of TensorFlow, which do nothing for {target.name}: name a variant "
                        "without an engine")
    objective = scenario.parse_percentile_slo(slo)
    chosen = Scenario("tune", protocol=protocol_for([target], protocol, "grpc"), batch=batch, slo=objective,
                      percentile=objective.percentile if objective else 50, arrivals=Closed(clients), warmup_s=1)
    out.mkdir(parents=True, exist_ok=True)
    trials = Trials(target, chosen, source.inputs, out)
    began = head("tune", [target], source.inputs.seed)
    conditions = began["environment"]
    checkpoint = Checkpoint(out / "measured.json", [*trials.question(), conditions["models"], count, seconds])
    announce(f"{count} settings, about {duration(seconds_needed(count, seconds))} (--candidates, --seconds)")
    arms = candidates(cpu_quota(), count, source.inputs.seed)
    best = trials.best(arms, seconds, checkpoint)
    gain: GainRecord = checkpoint.get("gain") if best != Configuration() else {"verdict": "the defaults were best"}
    if not gain:
        gain = trials.gain(best, source.inputs.seed)
        checkpoint.put("gain", gain)
    kept = best if gain["verdict"] == "faster" else Configuration()
    written = write_settings(kept, variant, out)
    began["inputs"] = checkpoint.get("inputs") or ""
    result: TuneResult = {
        **began, "variant": variant, "scenario": chosen.to_json(), "cpus": conditions["cpu_quota"],
        "settings": len(arms), "best": best.name, "kept": kept.name, "gain": gain, "files": written,
        "measured": {key: value for key, value in checkpoint.values.items() if key not in ("gain", "inputs")}}
    output.deliver(result)


def write_settings(settings: Configuration, variant: str, out: Path) -> list[str]:
    """server.flags and server.env for tfserving.sh, batching_parameters.txt, an override for docker-compose."""
    batching = out / "batching_parameters.txt"
    written = {out / "server.flags": "\n".join(settings.flags(batching.resolve())),
               out / "server.env": "\n".join(f"{name}={value}" for name, value in settings.environment())}
    if settings.batching:
        written[batching] = settings.batching.text().rstrip()
    inside = "/tuned/batching_parameters.txt"
    service: dict[str, Any] = {"command": list(settings.flags(inside)),
                               "environment": dict(settings.environment()),
                               "volumes": [f"{out.resolve()}:/tuned:ro"]}
    # JSON is valid YAML. For: docker-compose -f docker-compose.yml -f docker-compose.tuned.yml up
    written[out / "docker-compose.tuned.yml"] = json.dumps({"services": {variant: service}}, indent=2)
    for path, text in written.items():
        write_text(path, text + "\n")
    return [str(path) for path in written]
