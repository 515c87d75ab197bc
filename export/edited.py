"""An edited copy of a model: placeholders replaced by values, or random operations with fixed seeds.

    with edited.fixed(path, tags, {"keep_prob": "1.0"}) as path: ...

The copy is a directory of links with a new saved_model.pb; the source is not changed.
"""
from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from export import saved_model
from export.graph import make_const, nearest, normal, producer
from export.node import into_node_def
from export.ops import op_def
from export.tensors import STRING, DType, numpy_dtype
from user_error import UserError

_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")
_SEED, _SEED2 = 87654321, 42  # decision 122


def fix_option(command: Any) -> Any:
    return click.option(
        "--fix", "fixed", multiple=True, metavar="NAME=VALUE", callback=_pairs,
        help="Replace a placeholder by a constant, such as --fix keep_prob=1.0 (JSON; may be repeated).")(command)


def _pairs(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name or not value:
            raise click.BadParameter(f"'{one}' is not NAME=VALUE, such as keep_prob=1.0")
        found[name.removesuffix(":0")] = value
    return found


@contextmanager
def fixed(path: Path, tags: Collection[str], values: Mapping[str, str]) -> Iterator[Path]:
    """A copy with these placeholders as constants; the model itself if `values` is empty. Raises UserError for an
    unknown name."""
    if not values:
        yield path
        return
    with _copy(path, lambda proto: _fix(path, proto, tags, values)) as made:
        yield made


@contextmanager
def seeded(path: Path) -> Iterator[Path]:
    """A copy in which all operations that draw random numbers have the same seed. Only the signatures that may draw
    are compared in it."""
    with _copy(path, _seed) as made:
        yield made


@contextmanager
def _copy(path: Path, edit: Callable[[Any], None]) -> Iterator[Path]:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    proto = SavedModel()
    for model in saved_model.read_all(path):
        proto.meta_graphs.add().CopyFrom(model.meta_graph)
    proto.saved_model_schema_version = 1
    edit(proto)
    with tempfile.TemporaryDirectory(prefix="export-edited-") as folder:
        made = Path(folder, path.name)
        made.mkdir()
        for child in path.iterdir():
            if not child.name.startswith(("saved_model.", "fingerprint.")):
                (made / child.name).symlink_to(child.absolute())
        (made / "saved_model.pb").write_bytes(proto.SerializeToString())
        yield made


def _fix(path: Path, proto: Any, tags: Collection[str], values: Mapping[str, str]) -> None:
    meta_graph = next((one for one in proto.meta_graphs if set(one.meta_info_def.tags) == set(tags)), None)
    if meta_graph is None:
        raise UserError(f"{path} has no MetaGraph with tags {','.join(tags)}")
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    there = [name for name, node in nodes.items() if node.op in _PLACEHOLDERS]
    for name, text in values.items():
        listed = {producer(normal(one.inputs[name].name)) for one in meta_graph.signature_def.values()
                  if name in one.inputs}
        node = nodes.get(name if name in there else next(iter(listed), name))
        if node is None or node.op not in _PLACEHOLDERS:
            raise UserError(f"--fix {name}={text}: {path} has no such placeholder{nearest(name, there)}; it has: "
                            f"{', '.join(there[:8]) or 'none'}")
        dtype = DType(node.attr["dtype"].type)
        constant = make_const(node.name, _value(name, text, dtype), dtype=dtype)
        node.Clear()
        into_node_def(constant, node)
        for signature in meta_graph.signature_def.values():
            for key in [key for key, info in signature.inputs.items()
                        if info.name and producer(normal(info.name)) == node.name]:
                del signature.inputs[key]


def _value(name: str, text: str, dtype: DType) -> Any:
    try:
        plain = json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        plain = text
    try:
        if dtype == STRING:
            array = np.asarray(plain if isinstance(plain, str | list) else text)
            made = np.empty(array.size, object)
            made[:] = [str(one).encode() for one in array.ravel().tolist()]
            return made.reshape(array.shape)
        return np.asarray(plain).astype(numpy_dtype(dtype), casting="unsafe")
    except (ValueError, TypeError):
        raise UserError(f"--fix {name}={text}: that is no {np.dtype(numpy_dtype(dtype)).name}") from None


def _seed(proto: Any) -> None:
    for meta_graph in proto.meta_graphs:
        library = meta_graph.graph_def.library
        for node in (*meta_graph.graph_def.node, *(one for function in library.function for one in function.node_def)):
            definition = op_def(node.op)
            if definition is not None and {"seed", "seed2"} <= {one.name for one in definition.attr}:
                node.attr["seed"].i, node.attr["seed2"].i = _SEED, _SEED2
