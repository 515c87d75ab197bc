"""SavedModel <-> Graph, signatures, assets and initialisers; the only module that uses tf.saved_model.

Models are read and loaded as by TensorFlow Serving: one MetaGraph, chosen by its tags, in a v1 Session. They are
written node by node, so that the weights are in memory once, and so that older TensorFlow Serving releases can load the
file (attributes at their defaults are left out, and the producer version is the source's).
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import durable
from export import restoring
from export.graph import Graph, producer
from export.graph_file import SIZE_LIMIT, write_graph
from export.publish import find
from export.tensors import Array
from freed_memory import give_back_memory
from user_error import UserError
from version_directory import ASSETS, EXTRA, read_model

MetaGraph = Any  # tensorflow.MetaGraphDef
SERVE = ("serve",)
# Leaves enough bytes below protobuf's limit for everything in the graph other than constants.
GRAPH_LIMIT = SIZE_LIMIT - (256 << 20)  # decision 90
INIT_SIGNATURE = "__saved_model_init_op"
# The collection in which TensorFlow 1 writes what TensorFlow 2 writes into MetaGraphDef.asset_file_def.
ASSETS_COLLECTION = "saved_model_assets"
_SEVERAL = re.compile(r"^\d+ root error\(s\) found\.\s*\(0\) (?:[A-Z_]+: )?([^\n]*)")
_TRACE = re.compile(r"Detected at node |in user code:|<stack traces unavailable>|Node: '")
_CLASS = re.compile(r"^\w+: ")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
INIT_COLLECTIONS = ("saved_model_main_op", "saved_model_init_op", "legacy_init_op")


@dataclass(frozen=True)
class SavedModel:
    """One MetaGraph of a SavedModel on disk. Its GraphDef is shared: never change it in place."""

    path: Path
    meta_graph: MetaGraph

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.meta_graph.meta_info_def.tags)

    @property
    def signatures(self) -> dict[str, Any]:
        """SignatureDefs by key, without the initialiser that TensorFlow 2 stores among them."""
        return {key: value for key, value in self.meta_graph.signature_def.items() if key != INIT_SIGNATURE}

    @property
    def assets(self) -> list[Any]:
        """AssetFileDefs: the files whose paths are fed to the graph at loading."""
        found = list(self.meta_graph.asset_file_def)
        if not found and ASSETS_COLLECTION in self.meta_graph.collection_def:
            from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef
            for packed in self.meta_graph.collection_def[ASSETS_COLLECTION].any_list.value:
                asset = AssetFileDef()
                packed.Unpack(asset)
                found.append(asset)
        return found

    @property
    def init_op(self) -> str | None:
        """The node that initialises tables when the model is loaded."""
        if INIT_SIGNATURE in self.meta_graph.signature_def:
            return producer(self.meta_graph.signature_def[INIT_SIGNATURE].outputs[INIT_SIGNATURE].name)
        for key in INIT_COLLECTIONS:
            names = self.meta_graph.collection_def[key].node_list.value if (
                key in self.meta_graph.collection_def) else ()
            if names:
                return producer(names[0])
        return None


@dataclass(frozen=True)
class Content:
    """The content of a SavedModel that is to be written."""

    graph: Graph
    signatures: Mapping[str, Any]
    tags: Sequence[str] = SERVE
    init_op: str | None = None
    assets: Sequence[Any] = ()  # AssetFileDef
    variables: Mapping[str, Array] = field(default_factory=dict)  # values by identity, of those that stay variables
    graph_limit: int = GRAPH_LIMIT  # bytes of constants; more than that go to the variables file
    like: SavedModel | None = None  # the source of asset files, assets.extra and meta information


def read(path: str | Path, tags: Sequence[str] = SERVE) -> SavedModel:
    """Reads the MetaGraph with exactly these tags. Raises UserError with what is wrong with the file."""
    found = read_all(path)
    for model in found:
        if set(model.tags) == set(tags):
            return model
    there = "; ".join(",".join(model.tags) or "(no tags)" for model in found)
    raise UserError(f"{found[0].path} has no MetaGraph with tags {','.join(tags)}; choose with --tags among: {there}")


def read_all(path: str | Path) -> list[SavedModel]:
    """Reads every MetaGraph. Raises UserError with what is wrong with the file."""
    directory = find(path)
    import_module("export.runtime")  # imports TensorFlow, which has the protos, without its log output
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as SavedModelProto
    proto = SavedModelProto()
    file = read_model(directory, proto)
    if not proto.meta_graphs:
        raise UserError(f"{file} holds no MetaGraph, so it is truncated or corrupted; copy it again")
    return [SavedModel(directory, meta_graph) for meta_graph in proto.meta_graphs]


def chosen(model: SavedModel, names: Sequence[str] | None) -> dict[str, Any]:
    """The signatures called `names`; all of them for None. Raises UserError for one that does not exist."""
    there = model.signatures
    if not there:
        raise UserError(f"{model.path} has no signatures, so there is nothing to serve; export it with some")
    for name in names or ():
        if name not in there:
            raise UserError(f"{model.path} has no signature '{name}'; it has: {', '.join(sorted(there))}")
    return {name: there[name] for name in sorted(there) if not names or name in names}


@contextmanager
def session(model: SavedModel) -> Iterator[Any]:
    """A v1 Session with the model loaded and initialised. Raises UserError if it does not load."""
    from export.runtime import tf
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph, config=config) as running:
        try:
            tf.compat.v1.saved_model.load(running, list(model.tags), str(model.path))
        except (tf.errors.OpError, ValueError, TypeError, KeyError, OSError) as error:
            index = model.path / "variables" / "variables.index"
            why = f"{index} is missing; copy the whole version directory" if (
                model.meta_graph.saver_def.restore_op_name and not index.exists()) else reason(error)
            raise UserError(f"{model.path} does not load: {why}") from error
        yield running
    del running, graph
    give_back_memory()


def reason(error: BaseException) -> str:
    """The message of a TensorFlow or Keras exception, without stack traces and node listings."""
    text = _COLOUR.sub("", str(getattr(error, "message", None) or error)).strip()
    text = _without_trace(text.removeprefix("Graph execution error:").strip())
    # "Exception encountered when calling Dense.call().", an empty line, and what was raised.
    head, _, rest = text.partition("\n\n")
    text = rest.strip() if head.startswith("Exception encountered when calling") and rest.strip() else text
    for mark in ("\n\nOriginal stack trace", "\n\nErrors may have originated", "\nTraceback (most recent call last)",
                 "\n\t [[", "\n [[", "\n\n"):
        text = text.partition(mark)[0]
    several = _SEVERAL.search(text)  # "2 root error(s) found." and the first of them
    text = several.group(1) if several else text
    return text.strip() or type(error).__name__


def _without_trace(text: str) -> str:
    """The text after the lines that say where the failing node was defined, or which code of the user's raised."""
    lines = text.splitlines()
    if not lines or not _TRACE.match(lines[0]):
        return text
    depth = 0  # of the last line that names a file: lines that are indented further quote its code
    for at, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith('File "'):
            depth = indent
        elif line.strip() and not _TRACE.match(line) and not (depth and indent > depth):
            # Only the code of a user has the exception's class before its message.
            rest = "\n".join(lines[at:]).strip()
            return _CLASS.sub("", rest) if lines[0].startswith("in user code") else rest
    return ""


def write(directory: Path, content: Content) -> None:
    """Fills an empty directory with a SavedModel that a v1 Session loads."""
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    from export.runtime import tf
    meta_graph = MetaGraphDef()
    if content.like:
        meta_graph.meta_info_def.CopyFrom(content.like.meta_graph.meta_info_def)
    meta_graph.meta_info_def.ClearField("tags")
    meta_graph.meta_info_def.ClearField("stripped_op_list")
    meta_graph.meta_info_def.tags.extend(content.tags)
    meta_graph.meta_info_def.stripped_default_attrs = True
    meta_graph.meta_info_def.tensorflow_version = tf.version.VERSION
    meta_graph.meta_info_def.tensorflow_git_version = tf.version.GIT_VERSION
    for key, signature in content.signatures.items():
        meta_graph.signature_def[key].CopyFrom(signature)
    meta_graph.asset_file_def.extend(content.assets)
    for asset in content.assets:
        meta_graph.collection_def[ASSETS_COLLECTION].any_list.value.add().Pack(asset)
    if content.init_op:
        meta_graph.collection_def[INIT_COLLECTIONS[0]].node_list.value.append(content.init_op)
        if content.like and INIT_SIGNATURE in content.like.meta_graph.signature_def:
            there = meta_graph.signature_def[INIT_SIGNATURE]
            there.CopyFrom(content.like.meta_graph.signature_def[INIT_SIGNATURE])
            there.outputs[INIT_SIGNATURE].name = content.init_op
    graph, moved = restoring.outside(content.graph, content.graph_limit)
    values = {**content.variables, **moved}
    if values:
        graph = restoring.with_saver(graph, values, meta_graph)
        restoring.save(directory / "variables" / "variables", values)
    write_graph(directory / "saved_model.pb", graph, meta_graph)
    if content.like:
        _copy_files(content.like.path, directory)


def _copy_files(source: Path, directory: Path) -> None:
    """Copies all files in assets and assets.extra, also those the graph does not read, since other programs may."""
    for folder in (ASSETS, EXTRA):
        if (source / folder).is_dir():
            durable.copy_tree(source / folder, directory / folder)
