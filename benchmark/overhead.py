"""python -m benchmark overhead: what the embedded server adds to Session.run, and what other servers add."""
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import click

from benchmark.issuing.plan import Plan
from benchmark.issuing.rounds import measure
from benchmark.options import Output, comma_list, output_options, source_options
from benchmark.reports import compare
from benchmark.reports.head import FORMAT, head
from benchmark.reports.overhead import Finding, GoalRecord, OverheadResult
from benchmark.targets import baselines
from benchmark.targets.inputs import Inputs
from benchmark.targets.source import Source
from benchmark.targets.target import Target
from benchmark.verdicts.comparison import RULES, Rules
from user_error import FailedError, UserError

PARTS = ("loop", "empty", "instead")
GENUINE = "tensorflow_model_server"
# Valid even if the client is always busy: part empty compares two rates that both include the client's time.
ANY_CLIENT_CPU = Rules(max_generator_cpu=1.0)


@dataclass(frozen=True)
class Goal:
    """Bounds on candidate time over baseline time, and the requests/s to reach; None: no bound."""

    least: float | None = None
    most: float | None = None
    rate: float | None = None

    def to_json(self) -> GoalRecord:
        return {"least": self.least, "most": self.most, "rate": self.rate}


@dataclass(frozen=True)
class Part:
    """One interleaved measurement, and its goals by (protocol, batch)."""

    plan: Plan
    goals: dict[tuple[str, int], Goal]
    metric: str
    rules: Rules = RULES


@click.command(epilog="""\b
Examples:
  python -m benchmark overhead original
  python -m benchmark overhead optimized --part loop,empty --json reports/overhead.json --html reports/overhead.html
\b
loop     batches of 100 over gRPC and REST, compared with a bare Session.run loop on the same SavedModel
empty    batches of 1 to a model that does nothing, compared with empty handlers on the same gRPC and HTTP layers
instead  batches of 1 and 100 over REST, compared with FastAPI around Keras (and tensorflow_model_server if on PATH)
\b
One client on one connection sends each request after the previous answer. Nothing overlaps, so the figures contain
all time of server and client. Every part is one interleaved run, and every answer is checked.
""")
@click.argument("variant", default="original")
@source_options(addresses=False)
@click.option("--part", "parts", type=comma_list(PARTS), default=",".join(PARTS), show_default=True,
              help="Parts to measure.")
@click.option("--repeat", type=click.IntRange(4), default=200, show_default=True,
              help="Requests per target and protocol in part loop; 25 times as many in part empty, half in instead.")
@click.option("--processes", type=click.IntRange(1, 2), default=2, show_default=True,
              help="Processes per target in parts loop and empty; 2 show how far equal processes are apart.")
@output_options
def command(variant: str, source: Source, parts: tuple[str, ...], repeat: int, processes: int, output: Output) -> None:
    """Measures what the server adds to VARIANT's Session.run, compared with empty servers and a web application."""
    refuse_without_effect(source, parts, processes)
    server = source.target(variant)
    if server.backend != "embedded" or server.version_directory is None:
        raise UserError("overhead measures the embedded server: name a variant, such as original")
    if not server.by_tensorflow:
        raise UserError(f"overhead compares with Session.run, and {server.name} has none: to compare the server with "
                        f"the engine alone: python -m benchmark compare session:{variant} {variant} --protocol grpc")
    loop = replace(source, server_flags=()).target(f"session:{variant}")
    if "instead" in parts and not (find_spec("fastapi") and find_spec("uvicorn")):
        raise UserError("part instead needs FastAPI and uvicorn: pip install '.[measure]', or --part loop,empty")
    result: OverheadResult = {**head("overhead", [server], source.inputs.seed), "target": variant, "repeat": repeat,
                              "notes": [], "parts": {}, "findings": []}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in parts:
                if name == "loop":
                    part = _loop(loop, server, repeat, source.inputs)
                elif name == "empty":
                    part = _empty(baselines.trivial(Path(folder)), source, repeat * 25)
                else:
                    genuine = _genuine(variant, source)
                    result["notes"] += [] if genuine else [f"{GENUINE} is not on PATH, and so not in the table"]
                    part = _instead(server, genuine, max(4, repeat // 2), source.inputs)
                _measure(name, replace(part, plan=replace(part.plan, processes=min(
                    processes, part.plan.processes))), result)
    finally:
        # Measured parts are kept if a later part fails or is interrupted.
        if result["parts"]:
            result["inputs"] = next(iter(result["parts"].values()))["inputs"]
            output.deliver(result)


def refuse_without_effect(source: Source, parts: Sequence[str], processes: int) -> None:
    """Raises UserError for an option that has no effect on any of the parts."""
    reached = (("--grappler", not source.grappler, ("loop",)), ("--processes", processes == 1, ("loop", "empty")),
               ("--samples", source.inputs.samples, ("loop", "instead")),
               ("--signature", source.inputs.signature, ("loop", "instead")))
    for option, given, those in reached:
        if given and not set(those) & set(parts):
            raise UserError(f"{option} is for part {' and '.join(those)}, which --part leaves out")


def _measure(name: str, part: Part, result: OverheadResult) -> None:
    """Measures one part, and adds it to the result."""
    outcome = measure(part.plan)
    if outcome.first_wrong:
        raise FailedError(f"wrong answers while measuring: {outcome.first_wrong}")
    names = [target.name for target in part.plan.targets]
    made: compare.Part = {"kind": "compare", "format": FORMAT, **outcome.about(), "metric": part.metric,
                          **compare.compared(names, outcome.blocks, part.rules, part.plan.inputs.seed)}
    result["parts"][name] = made
    result["findings"] += findings(name, made, part.goals)


def _loop(loop: Target, server: Target, repeat: int, inputs: Inputs) -> Part:
    goals = {("grpc", 100): Goal(most=1.05), ("rest", 100): Goal(most=1.25)}
    return Part(Plan((loop, server), ("grpc", "rest"), (100,), repeat, inputs=inputs), goals, "mean")


def _empty(base: Path, source: Source, repeat: int) -> Part:
    server = Target("trivial model", baselines.TRIVIAL, base_path=base, flags=source.server_flags)
    goals = {("grpc", 1): Goal(least=0.6, rate=2000), ("rest", 1): Goal(least=0.6, rate=1500)}
    plan = Plan((server, baselines.empty(base)), ("grpc", "rest"), (1,), repeat, warmup=100,
                inputs=Inputs(seed=source.inputs.seed))
    return Part(plan, goals, "throughput", ANY_CLIENT_CPU)


def _instead(server: Target, genuine: Target | None, repeat: int, inputs: Inputs) -> Part:
    others = [baselines.web_app("predict", "FastAPI + model.predict", server),
              baselines.web_app("function", "FastAPI + tf.function", server)]
    chosen = (server, *others, *([genuine] if genuine else []))
    return Part(Plan(chosen, ("rest",), (1, 100), repeat, inputs=inputs, processes=1), {}, "mean")


def _genuine(variant: str, source: Source) -> Target | None:
    return replace(source, server_flags=()).target(f"binary:{variant}") if shutil.which(GENUINE) else None


def findings(name: str, made: compare.Part, goals: dict[tuple[str, int], Goal]) -> list[Finding]:
    """A row for each comparison: candidate time over baseline time with its interval, and whether the goal is met."""
    rows: list[Finding] = []
    for c in made["comparisons"]:
        if c["metric"] != made["metric"]:
            continue
        group = (c["protocol"], c["batch"])
        summaries = {s["target"]: s for s in made["summaries"] if (s["protocol"], s["batch"]) == group}
        ours, other = summaries[c["baseline"]], summaries[c["candidate"]]
        low, high = (1 / bound if bound else None for bound in reversed(c["ci95"]))
        goal = goals.get(group, Goal())
        rows.append({
            "part": name, "protocol": c["protocol"], "batch": c["batch"], "baseline": c["baseline"],
            "candidate": c["candidate"], "times": 1 / c["ratio"], "ci95": [low, high], "valid": c["valid"],
            "reasons": c["reasons"], "baseline_ms": ours["mean_ms"], "candidate_ms": other["mean_ms"],
            "baseline_per_s": ours["requests"] / ours["total_s"],
            "candidate_per_s": other["requests"] / other["total_s"],
            "goal": goal.to_json(), "verdict": verdict(low, high, goal) if group in goals else ""})
    return rows


def verdict(low: float | None, high: float | None, goal: Goal) -> str:
    """"met" if the whole interval is within the goal's bounds, "missed" if all of it is outside, else "cannot tell"."""
    if low is None or high is None:
        return "cannot tell"
    least, most = goal.least or 0.0, goal.most or float("inf")
    if least <= low and high <= most:
        return "met"
    return "missed" if high < least or low > most else "cannot tell"
