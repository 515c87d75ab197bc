"""Models in other forms, converted to SavedModels: .keras and .h5 files, checkpoints, frozen graphs, remote paths."""
from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from export import keras_errors, manifest, publish, saved_model, signatures
from export.graph import Graph, normal, producer
from export.graph_file import read_graph_def
from export.node import from_node_def
from export.ops import PLACEHOLDERS, output_dtypes
from export.saved_model import Content
from export.variables import is_variable
from user_error import UserError
from version_directory import MODEL_FILES, model_file, newest, numbered

_KERAS = (".keras", ".h5", ".hdf5")
_GRAPHS = (".pb", ".pbtxt")
# The value of --from-checkpoint if it is given without a value: then SRC is the checkpoint.
_SOURCE_IS_CHECKPOINT = "SRC"

source_argument = click.argument("source", metavar="SRC", required=False)
checkpoint_option = click.option(
    "--from-checkpoint", "checkpoint", is_flag=False, flag_value=_SOURCE_IS_CHECKPOINT, metavar="[PREFIX]",
    help="SRC (or PREFIX) is a TensorFlow 1 checkpoint with its .meta file; give --inputs and --outputs.")
inputs_option = click.option(
    "--inputs", metavar="KEY=TENSOR,...", help="For a frozen graph or a checkpoint: the inputs of serving_default.")
outputs_option = click.option(
    "--outputs", metavar="KEY=TENSOR,...", help="For a frozen graph or a checkpoint: its outputs.")


@dataclass(frozen=True)
class Source:
    """A model in any form that can be made a SavedModel. `name` is the path as the user gave it."""

    name: str
    checkpoint: bool = False
    inputs: str | None = None
    outputs: str | None = None

    @staticmethod
    def of(source: str | None, checkpoint: str | None, inputs: str | None, outputs: str | None) -> Source:
        """The source that a command's options name. Raises click.UsageError if there is none, or more than one."""
        named = None if checkpoint in (None, _SOURCE_IS_CHECKPOINT) else checkpoint
        if (source is None) == (named is None):
            raise click.UsageError("give one source: SRC, or --from-checkpoint PREFIX")
        name = source or named or ""
        if not name:
            raise UserError("the path of a model is empty")
        name = name if "://" in name else os.path.expanduser(name)
        return Source.found(name, inputs, outputs) if checkpoint is None else Source(name, True, inputs, outputs)

    @staticmethod
    def found(source: str, inputs: str | None = None, outputs: str | None = None) -> Source:
        """The source at a path. It is a checkpoint if a .meta file lies beside it, or a directory of checkpoints."""
        path = Path(source)
        prefix = path.with_suffix("") if path.suffix in (".meta", ".index") else path
        if "://" in source:
            checkpoint = False
        elif path.is_dir():
            checkpoint = (path / "checkpoint").is_file() and not model_file(path) and not newest(path)
        else:
            checkpoint = Path(f"{prefix}.meta").is_file()
        return Source(str(prefix) if checkpoint else source, checkpoint, inputs, outputs)

    def digest(self) -> str:
        """A digest of its files; for a remote path, whose files are not read twice, its name."""
        if "://" in self.name:
            return f"remote:{self.name}"
        path = Path(self.name)
        if self.checkpoint:
            files = path.iterdir() if path.is_dir() else path.parent.glob(f"{path.name}.*")
            return "; ".join(manifest.digest(file) for file in sorted(files) if file.is_file())
        return manifest.digest(path if path.is_file() else _find(path))

    @contextmanager
    def saved_model(self, tags: tuple[str, ...]) -> Iterator[Path]:
        """A context with the directory of a SavedModel: the source itself, or a temporary conversion."""
        path = Path(self.name)
        if "://" not in self.name and not self.checkpoint and path.is_dir():
            yield _find(path)
            return
        with tempfile.TemporaryDirectory(prefix="export-source-") as folder:
            made = Path(folder, "model")
            if "://" in self.name:
                copied = _copy_remote(self.name, Path(folder, "remote"), self.checkpoint)
                with Source(str(copied), self.checkpoint, self.inputs, self.outputs).saved_model(tags) as local:
                    yield local
                return
            if self.checkpoint:
                _from_checkpoint(path, made, tags, *self._ends())
            elif not path.exists():
                raise UserError(f"{path}: no such file or directory")
            elif path.name in MODEL_FILES:
                yield path.parent
                return
            elif path.suffix in _KERAS:
                _from_keras(path, made)
            elif path.suffix in _GRAPHS:
                _from_graph(path, made, tags, *self._ends())
            else:
                raise UserError(f"{path} is no SavedModel directory, .keras, .h5, .pb or .pbtxt file")
            yield made

    def _ends(self) -> tuple[dict[str, str], dict[str, str]]:
        return (signatures.pairs("--inputs", self.inputs) if self.inputs else {},
                signatures.pairs("--outputs", self.outputs) if self.outputs else {})


def _find(path: Path) -> Path:
    """See publish.find; for a directory of model files in other forms the error names them."""
    if path.is_dir() and not model_file(path) and not newest(path):
        there = sorted(file.name for file in path.iterdir() if file.suffix in (*_KERAS, *_GRAPHS))
        if there:
            raise UserError(
                f"{path} is no SavedModel, but holds {', '.join(there[:8])}: give a file, {path / there[0]}")
    return publish.find(path)


def _copy_remote(name: str, into: Path, checkpoint: bool) -> Path:
    """Copies a remote file, checkpoint, SavedModel or newest version of a base path, by tf.io.gfile."""
    from export.runtime import tf
    gfile = tf.io.gfile
    try:
        if checkpoint:
            files = gfile.glob(f"{name}.*")
        elif gfile.isdir(name):
            name = _newest_remote(name.rstrip("/"), gfile)
            files = [f"{folder}/{file}" for folder, _, there in gfile.walk(name) for file in there]
        else:
            files = [name] if gfile.exists(name) else []
        if not files:
            raise UserError(f"{name}: no such file or directory")
        root = name if gfile.isdir(name) else name.rpartition("/")[0]
        for file in files:
            target = into / file.removeprefix(root).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            gfile.copy(file, str(target))
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read: {saved_model.reason(error)}") from error
    return into if root == name else into / name.rpartition("/")[2]


def _newest_remote(name: str, gfile: Any) -> str:
    """The directory of a SavedModel, as publish.find returns it for a local path; `name` if there is none."""
    there = numbered(entry.rstrip("/") for entry in gfile.listdir(name))
    candidates = [name, *(f"{name}/{entry}" for entry in reversed(there.values()))]
    return next((folder for folder in candidates if any(gfile.exists(f"{folder}/{file}") for file in MODEL_FILES)),
                name)


def _from_keras(path: Path, made: Path) -> None:
    from export.runtime import tf, writing
    keras = tf.keras
    try:
        model = keras.models.load_model(path, compile=False)
        with writing(made):
            model.export(str(made), verbose=False)
    except Exception as error:  # Keras raises what its layers, h5py and zipfile raise
        if isinstance(error, OSError) and error.filename == str(made) and error.errno != errno.EIO:
            raise
        raise UserError(f"{path} cannot be loaded as a Keras model: {keras_errors.reason(error)}") from error
    finally:
        keras.backend.clear_session()


def _from_graph(path: Path, made: Path, tags: tuple[str, ...], inputs: Mapping[str, str],
                outputs: Mapping[str, str]) -> None:
    graph = Graph.from_graph_def(read_graph_def(path))
    variable = next((item.name for item in graph.nodes.values() if is_variable(item)), None)
    if variable:
        raise UserError(f"{path} is not frozen: '{variable}' is a variable, whose value a GraphDef does not hold")
    if not inputs or not outputs:
        raise _without_signature(path, graph)
    signature = signatures.signature(graph, inputs, outputs)
    made.mkdir()
    saved_model.write(made, Content(graph, {"serving_default": signature}, tags))


def _without_signature(path: Path, graph: Graph, saver: str = "save/") -> UserError:
    nodes = [node for node in graph.nodes.values() if not node.name.startswith(saver)]
    fed = [node.name for node in nodes if node.op.startswith("Placeholder")]
    ends = [node.name for node in nodes if not graph.consumers.get(node.name) and output_dtypes(node)
            and node.op not in ("VarIsInitializedOp", "IsVariableInitialized")]
    return UserError(f"{path}: name the tensors of its signature with --inputs KEY=TENSOR,... and --outputs; it has "
                     f"the placeholders {', '.join(fed[:8]) or '(none)'}, and nothing reads {', '.join(ends[:8])}")


def _from_checkpoint(prefix: Path, made: Path, tags: tuple[str, ...], inputs: Mapping[str, str],
                     outputs: Mapping[str, str]) -> None:
    from export.runtime import tf, writing
    v1 = tf.compat.v1
    if prefix.is_dir():
        prefix = Path(tf.train.latest_checkpoint(str(prefix)) or prefix)
    prefix = prefix.with_suffix("") if prefix.suffix in (".meta", ".index") else prefix
    if not Path(f"{prefix}.meta").is_file():
        raise UserError(f"{prefix}.meta: no such file; a checkpoint needs its MetaGraph to become a model")
    with v1.Graph().as_default() as graph, v1.Session(config=v1.ConfigProto(allow_soft_placement=True)) as session:
        try:
            saver = v1.train.import_meta_graph(f"{prefix}.meta", clear_devices=True)
            if saver is None:
                raise UserError(f"{prefix}.meta has no Saver, so its checkpoint cannot be restored")
            saver.restore(session, str(prefix))
        except (tf.errors.OpError, ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{prefix}: the checkpoint does not load: {saved_model.reason(error)}") from error
        if not inputs or not outputs:
            scope = saver.saver_def.filename_tensor_name.rpartition("/")[0]
            raise _without_signature(prefix, Graph.from_graph_def(graph.as_graph_def()), f"{scope}/")
        made_of = {"serving_default": signatures.signature(
            Graph.from_graph_def(graph.as_graph_def()), inputs, outputs)}
        known = {info.name: graph.get_tensor_by_name(info.name).shape
                 for info in made_of["serving_default"].inputs.values()}
        builder = v1.saved_model.Builder(str(made))
        builder.add_meta_graph_and_variables(
            session, list(tags), made_of,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS) or None,
            main_op=tf.group(v1.tables_initializer(), v1.local_variables_initializer()))
        with writing(made):
            builder.save()
    _of_any_batch(made, known)


def _of_any_batch(made: Path, known: Mapping[str, Any]) -> None:
    """Makes each tensor that a training pipeline would have filled a placeholder.

    It has the shape known in the graph, but any batch size: the training's batch size is not part of the model.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    from export.node import into_node_def, make_node
    file = made / "saved_model.pb"
    proto = SavedModel.FromString(file.read_bytes())
    meta_graph = proto.meta_graphs[0]
    infos = {producer(normal(info.name)): info for info in meta_graph.signature_def["serving_default"].inputs.values()
             if normal(info.name) == producer(normal(info.name))}
    for node in meta_graph.graph_def.node:
        info = infos.get(node.name)
        if info is None or node.op in PLACEHOLDERS or len(output_dtypes(from_node_def(node)) or ()) != 1:
            continue
        shape = known[info.name]
        if shape.rank:
            info.tensor_shape.CopyFrom(type(shape)([None, *shape.as_list()[1:]]).as_proto())
        made_node = make_node(node.name, "Placeholder", dtype=info.dtype)
        node.Clear()
        into_node_def(made_node, node)
        node.attr["dtype"].type = info.dtype
        node.attr["shape"].shape.CopyFrom(info.tensor_shape)
    file.write_bytes(proto.SerializeToString())
