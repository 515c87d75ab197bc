"""What a SavedModel or a GraphDef contains: signatures, operations, sizes; for one model, or two side by side."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from commandline import json_option
from export import saved_model
from export.graph import Graph, Node, producer
from export.graph_file import read_graph_def
from export.options import tags_option
from export.served import all_nodes, served_graph
from export.sources import Source, inputs_option, outputs_option
from export.tensors import dtype_name
from export.variables import identity, is_variable
from serving.client.payloads import shape_of
from user_error import UserError
from version_directory import MODEL_FILES, read_manifest
from whole_file import write_json, write_text

_GRAPH_FILES = (".pb", ".pbtxt")
_IDENTITIES = ("Identity", "IdentityN")
_QUANTIZATION = ("Quantize", "Dequantize", "Requantize", "FakeQuant")


@dataclass
class Description:
    """`nodes` are those that serve requests: functions inlined, the body of each loop and branch once. Sizes: bytes."""

    path: Path
    signatures: dict[str, Any]
    nodes: list[Node]
    inputs: list[str]
    outputs: list[str]
    unused: list[str]
    variables: int
    nodes_in_file: int
    functions: int
    # By the manifest: the precision that the version was made in, and the class of CPU that it was chosen on.
    precision: str | None = None
    cpu_class: str | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def ops(self) -> dict[str, int]:
        return dict(Counter(item.op for item in self.nodes).most_common())

    def to_json(self) -> dict[str, Any]:
        return {"path": str(self.path), "signatures": self.signatures, "nodes": len(self.nodes), "ops": self.ops,
                "variables": self.variables, "bytes": sum(self.sizes.values()), "sizes": self.sizes,
                "inputs": self.inputs, "outputs": self.outputs, "unused": self.unused,
                "nodes_in_file": self.nodes_in_file, "functions": self.functions,
                "precision": self.precision, "cpu_class": self.cpu_class}

    def rows(self) -> list[tuple[str, str]]:
        """The figures as (label, text), in the order in which they are shown."""
        ops = self.ops
        quantized = sum(count for op, count in ops.items()
                        if op.lstrip("_").startswith(_QUANTIZATION) or "Quantized" in op)
        return [
            ("inputs", ", ".join(self.inputs)), ("outputs", ", ".join(self.outputs)),
            ("unused nodes", str(len(self.unused))), ("quantization nodes", str(quantized)),
            ("constants", str(ops.get("Const", 0))), ("variables", str(self.variables)),
            ("identities", str(sum(ops.get(op, 0) for op in _IDENTITIES))), ("total nodes", str(len(self.nodes))),
            ("nodes in the file", f"{self.nodes_in_file} and {self.functions} functions"),
            *([("precision", self.precision)] if self.precision else []),
            *([("chosen on", self.cpu_class)] if self.cpu_class else []),
            *((f"{name} size", f"{size / 1e6:.2f} MB") for name, size in self.sizes.items()),
            ("total size", f"{sum(self.sizes.values()) / 1e6:.2f} MB")]


def describe(path: Path, tags: tuple[str, ...] = saved_model.SERVE) -> Description:
    """Describes a SavedModel (a version, or the newest in a base path) or a GraphDef file. Raises UserError."""
    if path.is_file() and path.name not in MODEL_FILES:
        if path.suffix not in _GRAPH_FILES:
            raise UserError(f"{path} is neither a SavedModel nor a .pb or .pbtxt graph")
        return _describe_graph(path)
    model = saved_model.read(path.parent if path.is_file() else path, tags)
    graph = served_graph(model)
    there = model.meta_graph.graph_def
    init_op = model.init_op
    stated = read_manifest(model.path) or {}
    return Description(
        path=model.path, signatures={key: _signature(one) for key, one in model.signatures.items()},
        nodes=list(all_nodes(graph)), inputs=list(graph.inputs),
        outputs=[ref for ref in graph.outputs if producer(ref) != init_op],
        unused=_unused(model), variables=len({identity(item) for item in all_nodes(graph) if is_variable(item)}),
        nodes_in_file=len(there.node), functions=len(there.library.function), precision=stated.get("precision"),
        cpu_class=stated.get("cpu_class"), sizes=_sizes(model.path))


def _described(path: str, tags: tuple[str, ...], inputs: str | None, outputs: str | None) -> Description:
    if Path(path).suffix in _GRAPH_FILES and Path(path).name not in MODEL_FILES and not inputs:
        return describe(Path(path), tags)
    with Source.found(path, inputs, outputs).saved_model(tags) as directory:
        made = describe(directory, tags)
    return made if made.path.is_dir() else replace(made, path=Path(path))


def _describe_graph(path: Path) -> Description:
    graph = Graph.from_graph_def(read_graph_def(path))
    functions = graph.library.function if graph.library is not None else ()
    nodes = list(graph.nodes.values())
    ends = [item.name for item in nodes if not graph.consumers.get(item.name)]
    return Description(
        path=path, signatures={}, nodes=nodes,
        inputs=[item.name for item in nodes if item.op.startswith("Placeholder")],
        outputs=ends, unused=[name for name in ends if graph.nodes[name].op in ("Const", "Placeholder")],
        variables=len({identity(item) for item in nodes if is_variable(item)}), nodes_in_file=len(nodes),
        functions=len(functions), sizes={"graph": path.stat().st_size})


def _unused(model: saved_model.SavedModel) -> list[str]:
    """The nodes in the file that neither a signature nor the initialiser needs."""
    graph = Graph.from_graph_def(model.meta_graph.graph_def)
    roots = [producer(info.name) for one in model.signatures.values()
             for info in (*one.inputs.values(), *one.outputs.values()) if info.name]
    roots += [model.init_op] if model.init_op else []
    needed = graph.reachable(name for name in roots if name in graph.nodes)
    return [name for name in graph.nodes if name not in needed]


def _signature(signature: Any) -> dict[str, Any]:
    def side(infos: Any) -> dict[str, Any]:
        return {key: {"dtype": dtype_name(info.dtype), "tensor": info.name,
                      "shape": _listed(shape_of(info))} for key, info in sorted(infos.items())}
    return {"method": signature.method_name, "inputs": side(signature.inputs), "outputs": side(signature.outputs)}


def _listed(shape: tuple[int, ...] | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _sizes(path: Path) -> dict[str, int]:
    """Bytes of the parts that are loaded, so without assets.extra."""
    def total(folder: str) -> int:
        return sum(file.stat().st_size for file in (path / folder).rglob("*") if file.is_file())
    graph = sum(file.stat().st_size for file in path.glob("saved_model.*"))
    return {"graph": graph, "variables": total("variables"), "assets": total("assets")}


@click.command()
@click.argument("paths", metavar="PATH [AFTER]", nargs=-1, required=True)
@click.option("--nodes", is_flag=True, help="List every node by operation.")
@click.option("--html", metavar="FILE", help="Write a bar chart of the operations as one HTML file.")
@click.option("--tensorboard", metavar="DIR", type=click.Path(path_type=Path),
              help="Write the graph (without big constants) as an event file that TensorBoard shows.")
@click.option("--folds", is_flag=True, help="List what the default pipeline does not fold, and why.")
@tags_option
@inputs_option
@outputs_option
@json_option
def command(paths: tuple[str, ...], nodes: bool, html: str | None, tensorboard: Path | None, folds: bool,
            tags: tuple[str, ...], inputs: str | None, outputs: str | None, json_path: str | None) -> None:
    """Describe the model or GraphDef PATH, or two of them side by side.

    A model is a SavedModel, or a Keras file or checkpoint as `optimize` takes them.

    Only nodes that serve requests are counted: functions inlined, the body of each loop and branch once.

    \b
    Examples:
      python -m export describe models/mnist/original
      python -m export describe models/mnist/original models/mnist/optimized --html ops.html
      python -m export describe models/mnist/original --json -
    """
    if len(paths) > 2:
        raise click.UsageError("describe takes one path, or two to compare")
    found = [_described(path, tags, inputs, outputs) for path in paths]
    if json_path != "-":
        _show(found, nodes)
    if folds:
        for path in paths:
            with Source.found(path, inputs, outputs).saved_model(tags) as directory:
                _show_folds(directory, tags)
    if html:
        from export.charts import page
        write_text(html, page([(str(one.path), one.ops, one.rows()) for one in found]))
    if tensorboard:
        from export.charts import write_event_file
        for path, one in zip(paths, found, strict=True):
            name = f"{len(found)}-{Path(path).name}"
            write_event_file(tensorboard / name if len(found) > 1 else tensorboard, one.nodes)
    if json_path:
        write_json(json_path, found[0].to_json() if len(found) == 1 else {
            "before": found[0].to_json(), "after": found[1].to_json()})


def _show(found: list[Description], nodes: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    figures, ops = Table("", *(str(one.path) for one in found)), Table("operation")
    for name in dict.fromkeys(name for one in found for name, _ in one.rows()):
        figures.add_row(name, *(dict(one.rows()).get(name, "-") for one in found))
    for _ in found:
        ops.add_column("nodes", justify="right")
    for op in dict.fromkeys(op for one in found for op in one.ops):
        ops.add_row(op, *(str(one.ops.get(op, 0)) for one in found))
    for one in found[:1]:
        for key, signature in one.signatures.items():
            sides = (", ".join(f"{name} {info['dtype']} {info['shape'] if info['shape'] is not None else 'any shape'}"
                               for name, info in signature[side].items()) for side in ("inputs", "outputs"))
            console.print(f"[bold]{key}[/bold] ({signature['method']}): {' -> '.join(sides)}", soft_wrap=True)
    console.print(figures)
    console.print(ops)
    if nodes:
        for one in found:
            by_op: dict[str, list[str]] = {}
            for item in one.nodes:
                by_op.setdefault(item.op, []).append(item.name)
            for op in one.ops:
                console.print(f"[bold]{op}[/bold] ({one.path})")
                for name in by_op[op]:
                    console.print(f"  {name}", markup=False, soft_wrap=True)


def _show_folds(path: Path, tags: tuple[str, ...]) -> None:
    from export import pipeline
    from export.freeze import freeze
    frozen = freeze(saved_model.read(path, tags))
    _, report = pipeline.run(frozen.graph, "default")
    for name, reason in frozen.kept.items():
        click.echo(f"{name}: stays a variable, since {reason} may assign it")
    skipped = [f"{name}: {reason} ({entry.transform})" for entry in report.steps for name, reason in entry.skipped]
    click.echo("\n".join(dict.fromkeys(skipped)) or "the default pipeline leaves nothing alone")
