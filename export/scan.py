"""A SavedModel is a program: which of its operations touch files, the network or Python?

Looked at is what can run: what the signatures and the initialiser reach, in every MetaGraph and every function, and
what restores the variables. A table that is initialised from one of the model's own assets is no finding.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import click

from commandline import json_option
from export import saved_model
from export.functions import called, definitions, reachable
from export.graph import Graph, from_node_def, normal, producer
from export.ops import op_def
from export.options import tags_option
from export.saved_model import SavedModel
from export.served import all_nodes, served_graph
from export.sources import Source, inputs_option, outputs_option
from user_error import FailedError
from whole_file import write_json

_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_FILES = (
    "ReadFile", "WriteFile", "MatchingFiles", "SaveV2", "Save", "SaveSlices", "RestoreV2", "Restore",
    "RestoreSlice", "MergeV2Checkpoints", "WholeFileReader", "WholeFileReaderV2", "TextLineReader",
    "TextLineReaderV2", "TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader",
    "FixedLengthRecordReaderV2", "LMDBReader", "IdentityReader", "IdentityReaderV2", "TextLineDataset",
    "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "CSVDataset",
    "CSVDatasetV2", "LMDBDataset", "SnapshotDataset", "SnapshotDatasetV2", "SaveDataset", "SaveDatasetV2",
    "LoadDataset", "DatasetToTFRecord", "CacheDataset", "CacheDatasetV2", "MatchingFilesDataset",
    "SnapshotDatasetReader", "SnapshotNestedDatasetReader", "SnapshotChunkDataset", "GenerateVocabRemapping",
    "LoadAndRemapMatrix", "CreateSummaryFileWriter", "CreateSummaryDbWriter", "SummaryWriter",
    "InitializeTableFromDataset", "WriteSummary", "WriteScalarSummary", "WriteHistogramSummary",
    "WriteImageSummary", "WriteAudioSummary", "WriteGraphSummary", "WriteRawProtoSummary", "ImportEvent",
    "DecodeProtoV2", "EncodeProto", "LoadLibrary", "ImmutableConst", "SqlDataset")
_NETWORK = (
    "Rpc", "TryRpc", "RpcServer", "RpcClient", "RpcCall", "RemoteCall", "DataServiceDataset", "DataServiceDatasetV2",
    "DataServiceDatasetV3", "DataServiceDatasetV4", "RegisterDataset", "RegisterDatasetV2", "BigtableClient",
    "BigQueryReader", "GcsConfigureCredentials", "GcsConfigureBlockCache", "KafkaDataset", "CloudPubSubClient",
    "ConfigureDistributedTPU", "DebugIdentityV2", "DebugIdentityV3", "DebugNumericSummaryV2",
    "FileSystemSetConfiguration")
_REASONS = {**dict.fromkeys(_PYTHON, "calls Python"), **dict.fromkeys(_FILES, "touches files"),
            **dict.fromkeys(_NETWORK, "uses the network")}
_FROM_TEXT_FILE = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")
_RESTORING = ("RestoreV2", "Restore", "RestoreSlice", "MergeV2Checkpoints", "SaveV2", "Save", "SaveSlices")
_STANDARD_STREAMS = ("stdout", "stderr", "log(info)", "log(warning)", "log(error)")


@dataclass(frozen=True)
class Finding:
    op: str
    node: str
    reason: str
    tags: str


def scan(path: Path) -> list[Finding]:
    """What the SavedModel may do beyond computing. Raises UserError if it cannot be read."""
    found: dict[Finding, None] = {}
    for model in saved_model.read_all(path):
        for op, name, reason in (*_served(model), *_restoring(model), *_assets(model)):
            found[Finding(op, name, reason, ",".join(model.tags))] = None
    return list(found)


def _served(model: SavedModel) -> Iterator[tuple[str, str, str]]:
    graph = served_graph(model)
    assets = {producer(normal(one.tensor_info.name)) for one in model.assets}
    left = definitions(graph.library)
    for name in reachable((one for item in graph.nodes.values() for one in (item.op, *called(item.attrs))), left):
        if name not in graph.bodies:
            for proto in left[name].node_def:
                yield from _judged(from_node_def(proto), left, ())
    for item in all_nodes(graph):
        yield from _judged(item, left, [one for ref in item.data[1:2] for one in _origins(graph, ref) if one in assets])


def _judged(item: Any, functions: Any, assets: Any) -> Iterator[tuple[str, str, str]]:
    if item.op in _FROM_TEXT_FILE:
        if not assets:
            yield item.op, item.name, "reads a file that is none of the model's assets"
    elif item.op in ("DecodeProtoV2", "EncodeProto"):
        if item.get("descriptor_source", "local://") not in ("local://", "") and not str(
                item.get("descriptor_source")).startswith("bytes://"):
            yield item.op, item.name, "touches files"
    elif item.op == "PrintV2":
        if item.get("output_stream", "stderr") not in _STANDARD_STREAMS:
            yield item.op, item.name, "touches files"
    elif item.op in _REASONS:
        yield item.op, item.name, _REASONS[item.op]
    elif op_def(item.op) is None and item.op not in functions:
        yield item.op, item.name, "is no operation of TensorFlow's"


def _origins(graph: Graph, ref: str) -> Iterator[str]:
    item = graph.nodes.get(producer(ref))
    while item is not None and item.op == "Identity":
        item = graph.nodes.get(producer(item.inputs[0]))
    if item is not None:
        yield item.name


def _restoring(model: SavedModel) -> Iterator[tuple[str, str, str]]:
    """What loading runs to restore the variables: reading the model's own checkpoint is its business."""
    names = [producer(name) for name in (model.meta_graph.saver_def.restore_op_name,) if name]
    graph = Graph.from_graph_def(model.meta_graph.graph_def)
    functions = definitions(graph.library)
    nodes = [graph.nodes[name] for name in graph.reachable(name for name in names if name in graph.nodes)]
    there = reachable((one for item in nodes for one in (item.op, *called(item.attrs))), functions)
    bodies = [from_node_def(proto) for name in there for proto in functions[name].node_def]
    for item in (*nodes, *bodies):
        if item.op not in _RESTORING:
            yield from _judged(item, functions, ())


def _assets(model: SavedModel) -> Iterator[tuple[str, str, str]]:
    for asset in model.assets:
        path = PurePosixPath(asset.filename)
        if path.is_absolute() or ".." in path.parts:
            yield "asset", asset.filename, "lies outside the model's assets directory"


@click.command()
@click.argument("path")
@click.option("--allow", metavar="OP,...", default="", help="Operations that this model may hold.")
@tags_option
@inputs_option
@outputs_option
@json_option
def command(path: str, allow: str, tags: tuple[str, ...], inputs: str | None, outputs: str | None,
            json_path: str | None) -> None:
    """List the operations of the model PATH that touch files, network or Python; exit 1 if one is not allowed.

    PATH is a SavedModel, a Keras file, a checkpoint or a frozen graph, as `optimize` takes them.

    \b
    Examples:
      python -m export scan models/mnist/optimized
      python -m export scan models/captions/3 --allow ReadFile --json -
    """
    allowed = {name.strip() for name in allow.split(",")}
    with Source.found(path, inputs, outputs).saved_model(tags) as directory:
        found = scan(directory)
    refused = [one for one in found if one.op not in allowed]
    if json_path != "-":
        for one in found:
            click.echo(f"{one.op} '{one.node}' {one.reason}{' (allowed)' if one.op in allowed else ''}")
        if not found:
            click.echo(f"{path}: nothing touches files, network or Python")
    if json_path:
        write_json(json_path, {"path": str(path), "safe": not refused, "found": [
            {**asdict(one), "allowed": one.op in allowed} for one in found]})
    if refused:
        raise FailedError(f"{path} holds {len(refused)} operations that are not allowed, first {refused[0].op} "
                        f"'{refused[0].node}', which {refused[0].reason}; allow them with --allow, or do not serve it")

