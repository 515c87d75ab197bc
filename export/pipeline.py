"""Parses "fold_constants(ignore_errors=true) fold_batch_norms ...", runs the steps, checks the graph after each.

    graph, report = run(Graph.from_graph_def(graph_def, inputs, outputs), "default")

If a step fails, `StepError` has the report of the steps before it; with `ignore_errors=true` the step is skipped and
the run continues.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click

import export.transforms  # noqa: F401  (fills the registry)
from commandline import json_option
from export.functions import definitions, to_graph
from export.graph import Graph, GraphError, without_cycle_collection
from export.graph_file import read_graph_def, whole, write_graph_def
from export.transform import Arguments, Record, Transform, TransformError, every_transform, named
from user_error import UserError
from whole_file import refuse_unwritable, write_json

# The steps of the well-known article on optimizing TensorFlow models for serving.
ARTICLE = """remove_nodes(op=Identity) merge_duplicate_nodes strip_unused_nodes
    fold_constants(ignore_errors=true) fold_batch_norms"""
DEFAULT = """inline_partitionedcall strip_unused_nodes
    remove_nodes(op=Identity, op=StopGradient, op=PreventGradient, op=Snapshot) remove_identity_n
    fold_constants(ignore_errors=true) remove_dropout fix_reshapes flatten_matmul sink_reshapes
    fold_batch_norms fold_old_batch_norms fold_affine_through
    fold_constants(ignore_errors=true) merge_duplicate_nodes sink_reshapes fold_transposes
    fold_pads merge_duplicate_nodes strip_unused_nodes sort_by_execution_order"""
# The last steps for a graph that TensorFlow runs, after the default pipeline: in any precision, and in float32.
BLOCKS = "fork_lstm"
FOR_TENSORFLOW = f"{BLOCKS} fork_by_rows"
NAMED = {"article": ARTICLE, "default": DEFAULT}

# How many reasons a step's line of text has.
_MOST_REASONS = 4
_WORD = re.compile(r"[A-Za-z0-9_]+")
_VALUE = re.compile(r"[A-Za-z0-9_./-]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SPACE = re.compile(r"(?:\s|\\\r?\n)*")
_SEPARATOR = re.compile(r"(?:\s|,|\\\r?\n)*")


@dataclass(frozen=True)
class Step:
    transform: Transform
    args: Arguments


@dataclass
class StepReport:
    transform: str
    applied: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    nodes_before: int = 0
    nodes_after: int = 0
    seconds: float = 0.0
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        result = {"transform": self.transform, "applied": self.applied,
                  "skipped": [{"node": node, "reason": reason} for node, reason in self.skipped],
                  "nodes_before": self.nodes_before, "nodes_after": self.nodes_after,
                  "seconds": round(self.seconds, 6)}
        return result | ({"error": self.error} if self.error else {})

    def __str__(self) -> str:
        if self.error:
            return f"{self.transform}: left out: {self.error}"
        text = f"{self.transform}: {self.applied} applied, {self.nodes_before} -> {self.nodes_after} nodes"
        reasons: dict[str, int] = {}
        for _, reason in self.skipped:
            # Equal reasons are counted together, with shortened names; the JSON report has the whole names.
            reason = re.sub(r"'[^']+' \((\w+)\)", r"\1", reason)
            reason = re.sub(r"'(?:[^'/]+/)+([^'/]+/[^'/]+)'", r"'\1'", reason)
            reasons[reason] = reasons.get(reason, 0) + 1
        parts = [f"{count} skipped: {reason}" for reason, count in list(reasons.items())[:_MOST_REASONS]]
        if len(reasons) > _MOST_REASONS:
            parts.append(f"{len(reasons) - _MOST_REASONS} more (--json has all in full)")
        return "; ".join([text, *parts])


@dataclass
class Report:
    """What each step of a run did."""

    steps: list[StepReport] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"steps": [step.to_json() for step in self.steps]}


class StepError(TransformError):
    """A step failed. `report` has the steps before it, and the failed step with its error."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def parse(text: str) -> list[Step]:
    """The steps of a pipeline, in the Graph Transform Tool's syntax, in which a pipeline's name ('default') or '@file'
    may stand for its steps.

    Raises TransformError for text that does not parse, and for unknown transforms and arguments, with similar names.
    """
    if text.strip().startswith("@"):
        path = Path(text.strip()[1:])
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise TransformError(f"--transforms @{path}: {error.strerror}") from None
        return parse(re.sub(r"(?m)^\s*#.*$", "", text))
    steps = []
    at = _skip(_SPACE, text, 0)
    while at < len(text):
        name, at = _take(_WORD, text, at, "a transform's name")
        if name in NAMED:
            steps += parse(NAMED[name])
            at = _skip(_SPACE, text, at)
            continue
        given: dict[str, list[str]] = {}
        if text.startswith("(", at):
            at = _skip(_SEPARATOR, text, at + 1)
            while not text.startswith(")", at):
                key, at = _take(_WORD, text, at, f"an argument of {name}, or ')'")
                at = _skip(_SPACE, text, at)
                _, at = _take(re.compile("="), text, at, f"'=' after '{key}'")
                at = _skip(_SPACE, text, at)
                value, at = _value(text, at, f"the value of {name}'s '{key}'")
                given.setdefault(key, []).append(value)
                at = _skip(_SEPARATOR, text, at)
            at += 1
        transform = named(name)
        steps.append(Step(transform, Arguments(name, transform.args, given)))
        at = _skip(_SPACE, text, at)
    if not steps:
        raise TransformError("no transform is given: name at least one, or a pipeline ('default', 'article', '@file')")
    return steps


def _value(text: str, at: int, what: str) -> tuple[str, int]:
    quoted = _QUOTED.match(text, at)
    if quoted:
        value, at = quoted[1], quoted.end()
    else:
        value, at = _take(_VALUE, text, at, what)
    # Like the Graph Transform Tool, ignores a stray quote after a value, which shell quoting often leaves.
    return value, at + len(re.compile("\"?'?").match(text, at)[0])  # type: ignore[index]


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _take(pattern: re.Pattern[str], text: str, at: int, what: str) -> tuple[str, int]:
    found = pattern.match(text, at)
    if not found:
        rest = text[at:at + 30] or "the end"
        raise TransformError(f"--transforms: looking for {what}, but found '{rest}'")
    return found[0], found.end()


def has_default(text: str) -> bool:
    """Whether a pipeline has all steps of the default one, one after the other."""
    names, wanted = ([step.transform.name for step in parse(one)] for one in (text, DEFAULT))
    return any(names[at:at + len(wanted)] == wanted for at in range(len(names)))


def run(graph: Graph, transforms: str) -> tuple[Graph, Report]:
    """The graph after all steps, and what they did. Raises TransformError; StepError if a step fails."""
    steps = parse(transforms)
    with without_cycle_collection():
        return _run(graph, steps)


def _run(graph: Graph, steps: list[Step]) -> tuple[Graph, Report]:
    graph, unreadable = _with_bodies(graph)
    report = Report()
    for step in steps:
        entry = StepReport(step.transform.name, nodes_before=len(graph.nodes))
        report.steps.append(entry)
        began = perf_counter()
        try:
            graph = _apply(step, graph, entry)
        except Exception as error:
            entry.error = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, UserError):
                entry.error = f"{type(error).__name__}: {entry.error}"
            if not step.args["ignore_errors"]:
                raise StepError(f"{step.transform.name}: {entry.error}".replace(f"{step.transform.name}: " * 2,
                                f"{step.transform.name}: "), report) from error
        finally:
            entry.nodes_after = len(graph.nodes)
            entry.seconds = perf_counter() - began
        if step.transform.bodies:
            entry.skipped += [(name, f"function left as it is: {reason}") for name, reason in unreadable.items()]
    return graph, report


def _apply(step: Step, graph: Graph, entry: StepReport) -> Graph:
    def one(part: Graph, prefix: str = "") -> Graph:
        record = Record()
        result = step.transform.run(part, step.args, record)
        result = result.without_dangling_colocation().validate(step.transform.name)
        entry.applied += record.applied
        entry.skipped += [(prefix + node, reason) for node, reason in record.skipped]
        return result

    if step.transform.bodies and graph.bodies:
        graph = replace(graph, bodies={name: one(body, f"{name}/") for name, body in graph.bodies.items()})
    return one(graph)


def _with_bodies(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The graph with its functions read as graphs, and the reason for each that could not be."""
    functions = definitions(graph.library)
    bodies: dict[str, Graph] = dict(graph.bodies)
    reasons: dict[str, str] = {}
    for name, function in functions.items():
        if name in bodies:
            continue
        try:
            bodies[name] = replace(to_graph(function, functions), is_body=True)
        except GraphError as error:
            reasons[name] = str(error)
    return replace(graph, bodies=bodies), reasons


@click.command()
@click.option("--in_graph", required=True, metavar="PATH", help="The GraphDef to read, as text if it ends in .pbtxt.")
@click.option("--out_graph", required=True, metavar="PATH", help="Where to write the result; .pbtxt makes it text.")
@click.option("--inputs", default="", help="Tensors or nodes that are fed, separated by commas.")
@click.option("--outputs", default="", help="Tensors or nodes that are fetched, separated by commas.")
@click.option("--transforms", required=True, help="The steps, or the name of a pipeline: default, article, @FILE.")
@click.option("--output_as_text", is_flag=True, help="Write text whatever the ending of --out_graph.")
@json_option
def command(in_graph: str, out_graph: str, inputs: str, outputs: str, transforms: str, output_as_text: bool,
            json_path: str | None) -> None:
    """Transforms a GraphDef, with the flags of the Graph Transform Tool's own binary.

    \b
    Examples:
      python -m export transform --in_graph frozen.pb --out_graph out.pb --inputs x --outputs y --transforms default
      python -m export transform --in_graph in.pb --out_graph out.pb --inputs a,b --outputs y,z \\
        --transforms 'fold_constants(ignore_errors=true) remove_nodes(op=Identity, op=CheckNumerics)'

    For every step the output shows how often it applied, and what it did not change and why (--json: in full). After an
    error there is no output file; the report shows which step failed.
    """
    parse(transforms)
    refuse_unwritable(Path(out_graph).expanduser())
    graph = Graph.from_graph_def(read_graph_def(Path(in_graph).expanduser()), _names(inputs), _names(outputs))
    try:
        graph, report = run(graph, transforms)
    except StepError as error:
        if json_path:
            write_json(json_path, error.report.to_json())
        raise
    write_graph_def(Path(out_graph).expanduser(), whole(graph), as_text=output_as_text)
    if json_path:
        write_json(json_path, report.to_json())
    if json_path != "-":
        for step in report.steps:
            click.echo(str(step))


@click.command()
@click.argument("name", required=False)
@json_option
def transforms_command(name: str | None, json_path: str | None) -> None:
    """Lists the transforms, or explains the one called NAME: its pattern, when it is safe, its arguments.

    \b
    Examples:
      python -m export transforms
      python -m export transforms fold_batch_norms
    """
    chosen = [named(name)] if name else every_transform()
    if json_path:
        write_json(json_path, [item.to_json() for item in chosen])
    elif name:
        click.echo(chosen[0].explained())
    else:
        width = max(len(item.name) for item in chosen)
        for item in chosen:
            click.echo(f"{item.name:<{width}}  {item.summary}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
