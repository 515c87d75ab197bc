"""What an operation does other than compute: use files, the network or Python, or end the process.

    effects.of_node(node, find) == "touches files"

The table covers TensorFlow 2.21's op registry: tests/export/test_effects.py searches all of it for operations whose
arguments name files or addresses.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from export.node import Node, from_node_def

FILES, NETWORK, PYTHON, ENDS = "touches files", "uses the network", "calls Python", "ends the process"

_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_FILE_OPS = (
    "ReadFile", "WriteFile", "MatchingFiles", "SaveV2", "Save", "SaveSlices", "RestoreV2", "Restore",
    "RestoreSlice", "MergeV2Checkpoints", "DTensorRestoreV2", "WholeFileReader", "WholeFileReaderV2", "TextLineReader",
    "TextLineReaderV2", "TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader",
    "FixedLengthRecordReaderV2", "LMDBReader", "IdentityReader", "IdentityReaderV2", "TextLineDataset",
    "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "CSVDataset",
    "CSVDatasetV2", "LMDBDataset", "SnapshotDataset", "SnapshotDatasetV2", "SaveDataset", "SaveDatasetV2",
    "LoadDataset", "DatasetToTFRecord", "MatchingFilesDataset", "ListSnapshotChunksDataset",
    "SnapshotDatasetReader", "SnapshotNestedDatasetReader", "SnapshotChunkDataset", "GenerateVocabRemapping",
    "LoadAndRemapMatrix", "CreateSummaryFileWriter", "CreateSummaryDbWriter", "SummaryWriter",
    "InitializeTableFromDataset", "WriteSummary", "WriteScalarSummary", "WriteHistogramSummary",
    "WriteImageSummary", "WriteAudioSummary", "WriteGraphSummary", "WriteRawProtoSummary", "ImportEvent",
    "StatsAggregatorSetSummaryWriter", "ImmutableConst", "SqlDataset", "RecordInput", "Skipgram",
    "DumpTensor",
    "CalibrationStatisticsSaver", "ExperimentalCSVDataset", "ExperimentalLMDBDataset", "ExperimentalSqlDataset",
    "ExperimentalMatchingFilesDataset", "ExperimentalDatasetToTFRecord", "DebugIdentity", "DebugIdentityV2",
    "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary", "DebugNumericSummaryV2")
_NETWORK_OPS = (
    "RpcServer", "RpcServerStart", "RpcServerRegister", "RpcClient", "RpcCall", "RpcCheckStatus", "RpcGetValue",
    "RemoteCall", "DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4",
    "RegisterDataset", "RegisterDatasetV2", "DistributedSave", "ConfigureDistributedTPU", "FileSystemSetConfiguration",
    "WorkerHeartbeat", "Send", "Recv", "_Send", "_Recv", "_HostSend", "_HostRecv", "CollectiveAllToAllV2",
    "CollectiveAllToAllV3", "CollectiveAssignGroupV2", "CollectiveBcastRecv", "CollectiveBcastRecvV2",
    "CollectiveBcastSend", "CollectiveBcastSendV2", "CollectiveGather", "CollectiveGatherV2",
    "CollectiveInitializeCommunicator", "CollectiveReduce", "CollectiveReduceScatterV2", "CollectiveReduceV2",
    "CollectiveReduceV3")
# With any attributes and inputs: these are not run on random inputs.
# decision 120
ALWAYS = {**dict.fromkeys(_PYTHON_OPS, PYTHON), **dict.fromkeys(_FILE_OPS, FILES),
          **dict.fromkeys(_NETWORK_OPS, NETWORK), "Abort": ENDS}
FROM_TEXT_FILE = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")
_STANDARD_STREAMS = ("stdout", "stderr", "log(info)", "log(warning)", "log(error)")

Find = Callable[[str], Node | None]


def _descriptor(item: Node, _find: Find) -> bool:
    source = str(item.get("descriptor_source", ""))
    return source not in ("local://", "") and not source.startswith("bytes://")


def _cached(item: Node, find: Find) -> bool:
    """A cache without a file name stays in memory."""
    name = find(item.data[1])
    return not (name is not None and name.op == "Const" and name.value.item() in (b"", ""))


def _in_serialized_graph(item: Node, find: Find) -> bool:
    """Whether the graph that a DatasetFromGraph runs may touch files: one that is an input may do anything."""
    source = find(item.data[0])
    if source is None or source.op != "Const":
        return True
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.graph_pb2 import GraphDef
    try:
        graph_def = GraphDef.FromString(source.value.item())
    except (DecodeError, ValueError, TypeError):
        return True
    for protos in (graph_def.node, *(one.node_def for one in graph_def.library.function)):
        nodes = {proto.name: from_node_def(proto) for proto in protos}
        if any(of_node(one, partial(_named, nodes)) for one in nodes.values()):
            return True
    return False


def _named(nodes: Mapping[str, Node], ref: str) -> Node | None:
    return nodes.get(ref.split(":")[0])


# These touch files only if the predicate is true.
_SOMETIMES: dict[str, Callable[[Node, Find], bool]] = {
    "DecodeProtoV2": _descriptor, "EncodeProto": _descriptor,
    "PrintV2": lambda item, _: str(item.get("output_stream", "stderr")) not in _STANDARD_STREAMS,
    "FixedUnigramCandidateSampler": lambda item, _: bool(item.get("vocab_file", "")),
    "DatasetFromGraph": _in_serialized_graph, "CacheDataset": _cached, "CacheDatasetV2": _cached}
NAMES = frozenset((*ALWAYS, *_SOMETIMES, *FROM_TEXT_FILE))


@dataclass(frozen=True)
class Effect:
    op: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op} '{self.node}', which {self.reason}"


def of_node(item: Node, find: Find) -> str | None:
    """What one node does, as text; None if it only computes. `find` returns the node that makes one of its inputs."""
    if item.op in _SOMETIMES:
        return FILES if _SOMETIMES[item.op](item, find) else None
    return ALWAYS.get(item.op)


def functions_of(attrs: Mapping[str, Any]) -> Iterator[str]:
    """The functions that attributes name, including those in the attributes of a function."""
    for value in attrs.values():
        kind = value.WhichOneof("value")
        for func in [value.func] if kind == "func" else value.list.func if kind == "list" else ():
            yield func.name
            yield from functions_of(func.attr)
