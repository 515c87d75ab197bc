from collections.abc import Iterable

import numpy as np

from export import saved_model
from export.graph import Graph, Node, make_const, make_node, producer
from export.ops import IDENTITIES, attribute
from export.pattern import Skip
from export.tensors import DOUBLE, FLOAT, INT32, INT64, DType
from export.transform import Arg, Arguments, Draft, Record, TransformError, transform
from export.variables import REFERENCES


@transform(
    "sparsify_gather",
    Arg("group_init_node", default="group_deps", help="the NoOp that initialises the tables"),
    Arg("input_checkpoint", help="the prefix of a checkpoint that holds the values of variables"),
    bodies=False)
def sparsify_gather(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Gather(W [N, 1], ids) -> ExpandDims(LookupTableFindV2(table of W's non-zero rows, ids, 0), -1).

    W is a constant or, with `input_checkpoint`, a variable (Variable, VariableV2) with its value in the checkpoint.

    A lookup initialises its table if that has not been done; the node `group_deps` (or group_init_node) initialises all
    tables beforehand. For an id outside of 0..N-1, which Gather refuses, the result is 0.

    Safe when: W is read directly or through Identity; it is float or double, finite, with one column, and without
      control inputs (a table cannot be inside a v1 loop); the gather is over axis 0 without batch dimensions.
    Source: Graph Transform Tool, sparsify_gather (which took weights below 1e-5 for zero, failed on int32 ids and on
      any other shape, and removed weights that other nodes read). Tables are HashTableV2, since the tool's HashTable
      does not use resources.
    """
    draft = Draft(graph)
    checkpoint = _Checkpoint(args["input_checkpoint"]) if args["input_checkpoint"] else None
    initialisers = []
    for item in graph.nodes.values():
        if item.op in ("Gather", "GatherV2"):
            try:
                initialisers.append(_sparsify(draft, item, checkpoint))
                record.applied += 1
            except Skip as skip:
                record.skip(item.name, skip.reason)
    if initialisers:
        _group(draft, args["group_init_node"], initialisers)
    return draft.result()


class _Checkpoint:
    """The values of a checkpoint's variables, by name. Raises TransformError if it is not a checkpoint."""

    def __init__(self, prefix: str) -> None:
        from export.runtime import tf
        try:
            self._reader = tf.train.load_checkpoint(prefix)
        except (tf.errors.OpError, ValueError) as error:
            raise TransformError(f"sparsify_gather: input_checkpoint {prefix} cannot be read: "
                                 f"{saved_model.reason(error)}") from error
        self._prefix = prefix

    def constant(self, variable: Node) -> Node:
        """The variable as a constant of the same name. Raises Skip if the checkpoint does not have that name."""
        if not self._reader.has_tensor(variable.name):
            raise Skip(f"{self._prefix} holds no variable '{variable.name}'")
        return make_const(variable.name, self._reader.get_tensor(variable.name), variable.controls, variable.device)


def _sparsify(draft: Draft, gather: Node, checkpoint: _Checkpoint | None) -> str:
    """Replaces a gather by a lookup; returns the name of the node that initialises its table."""
    weights, between = _weights(draft, gather, checkpoint)
    keys = np.flatnonzero(weights.value)
    # A table cannot be empty.
    keys = keys if len(keys) else np.zeros(1, keys.dtype)
    dtype = DType(weights.get("dtype"))
    name = weights.name
    table = make_node(draft.unused_name(f"{name}/HashTable"), "HashTableV2", (), weights.device, key_dtype=INT64,
                 value_dtype=dtype)
    indices = make_const(draft.unused_name(f"{name}/indices"), keys.astype(np.int64), (), weights.device)
    values = make_const(draft.unused_name(f"{name}/values"), weights.value[keys, 0], (), weights.device)
    fill = make_node(draft.unused_name(f"{name}/InitializeTable"), "InitializeTableV2",
                (table.name, indices.name, values.name), weights.device, Tkey=INT64, Tval=dtype)
    for item in (table, indices, values, fill, *_lookup(draft, gather, table, fill, dtype, between)):
        draft.put(item)
    draft.drop_unused([producer(gather.data[0])])
    return fill.name


def _lookup(draft: Draft, gather: Node, table: Node, fill: Node, dtype: DType,
            between: tuple[str, ...]) -> Iterable[Node]:
    name, device = gather.name, gather.device
    ids = gather.data[1]
    # This control input keeps the constants in the same frame as the ids.
    anchor = (f"^{producer(ids)}",)
    if attribute(gather, "Tindices") != INT64:
        cast = make_node(draft.unused_name(f"{name}/ids"), "Cast", (ids,), device, SrcT=INT32, DstT=INT64)
        yield cast
        ids = cast.name
    default = make_const(draft.unused_name(f"{name}/Const"), np.zeros((), np.float32 if dtype == FLOAT else np.float64),
                    anchor, device)
    axis = make_const(draft.unused_name(f"{name}/ExpandDims/Const"), np.asarray(-1, np.int32), anchor, device)
    find = make_node(draft.unused_name(f"{name}/LookupTableFind"), "LookupTableFindV2",
                (table.name, ids, default.name, f"^{fill.name}", *between), device, Tin=INT64, Tout=dtype)
    yield from (default, axis, find)
    yield make_node(name, "ExpandDims", (find.name, axis.name, *gather.controls), device, T=dtype, Tdim=INT32)


def _weights(draft: Draft, gather: Node, checkpoint: _Checkpoint | None) -> tuple[Node, tuple[str, ...]]:
    """The constant that is gathered from, and the control inputs of the nodes between the two."""
    if gather.name in draft.graph.fed:
        raise Skip("it is fed from outside")
    if gather.op == "GatherV2":
        axis = draft.nodes[producer(gather.data[2])]
        if axis.op != "Const" or axis.value != 0 or attribute(gather, "batch_dims"):
            raise Skip("it gathers over another axis than the first, or in batches")
    made = draft.nodes[producer(gather.data[0])]
    between: tuple[str, ...] = ()
    while made.op in IDENTITIES and made.name not in draft.graph.fed:
        between += made.controls
        made = draft.nodes[producer(made.data[0])]
    if checkpoint is not None and made.op in REFERENCES and made.name not in draft.graph.fed:
        made = checkpoint.constant(made)
    if made.op != "Const" or made.name in draft.graph.fed:
        raise Skip("it does not gather from a constant")
    if made.get("dtype") not in (FLOAT, DOUBLE):
        raise Skip(f"there are no tables of {made.get('dtype')!r}")
    if len(made.shape) != 2 or made.shape[1] != 1 or not made.shape[0]:
        raise Skip("its weights are not one column")
    if made.controls:
        raise Skip("its weights wait for another node, perhaps in a loop")
    if not np.isfinite(made.value).all():
        raise Skip("its weights hold NaN or infinity")
    return made, between


def _group(draft: Draft, name: str, initialisers: list[str]) -> None:  # decision 18
    before = draft.nodes.get(name)
    if before is not None and before.op != "NoOp":
        raise TransformError(f"sparsify_gather: '{name}' is {before.op}, not NoOp: name another group_init_node")
    group = before or make_node(name, "NoOp")
    controls = dict.fromkeys((*group.inputs, *(f"^{initialiser}" for initialiser in initialisers)))
    draft.put(group.with_inputs(controls))
