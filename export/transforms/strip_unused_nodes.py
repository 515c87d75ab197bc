from dataclasses import replace

from export.graph import Graph, Node, make_node
from export.ops import PLACEHOLDERS, is_pure, output_dtypes
from export.tensors import DType, dtype_named
from export.transform import Arg, Arguments, Record, TransformError, transform


@transform(
    "strip_unused_nodes",
    Arg("type", help="type of a fed node that becomes a Placeholder (default: its current type)"),
    Arg("shape", help='its shape, for example "-1,4" (default: unknown)'),
    Arg("name", repeated=True, help="a fed node to which a type_for_name or shape_for_name applies"),
    Arg("type_for_name", repeated=True, help="the type of each name"),
    Arg("shape_for_name", repeated=True, help="the shape of each name"))
def strip_unused_nodes(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Drops every node that no output needs, also the nodes before an input.

    A fed node that is not a placeholder becomes one of the same type. Listed inputs stay even if no output needs them,
    and a PlaceholderWithDefault keeps its default, since a request may leave that input out. In a function's body,
    nodes with an effect stay.

    Safe when: an output is listed, and no node before a fed node is needed otherwise; without outputs nothing is
      dropped.
    Source: Graph Transform Tool, strip_unused_nodes (which made every fed node a float scalar by default).
    """
    types = _by_name(args, "type_for_name")
    shapes = _by_name(args, "shape_for_name")
    if not graph.outputs and not graph.is_body:
        record.skip("", "no output is listed, so every node may be needed")
        return graph
    fed = frozenset() if graph.is_body else frozenset(_wholly_fed(graph))
    roots = set(graph.kept)
    if graph.is_body:
        roots.update(item.name for item in graph.nodes.values() if not is_pure(item))
    stop = frozenset(name for name in fed if graph.nodes[name].op != "PlaceholderWithDefault")
    needed = graph.reachable(roots, stop)
    kept = []
    for item in graph.nodes.values():
        if item.name not in needed:
            continue
        if item.name in fed and item.op not in PLACEHOLDERS:
            item = _placeholder(item, graph, types.get(item.name, args["type"]), shapes.get(item.name, args["shape"]))
            record.applied += 1
        kept.append(item)
    record.applied += len(graph.nodes) - len(kept)
    return graph.with_nodes(kept)


def _wholly_fed(graph: Graph) -> set[str]:
    """The fed nodes whose used outputs are all fed: only those need not be computed."""
    fed_refs = set(graph.inputs)
    used = {ref for item in graph.nodes.values() for ref in item.inputs} | set(graph.outputs)
    by_node: dict[str, bool] = dict.fromkeys(graph.fed, True)
    for ref in used:
        name = ref.removeprefix("^").partition(":")[0]
        if name in by_node and ref[0] != "^" and ref not in fed_refs:
            by_node[name] = False
    # A Placeholder has one output, so a node with several is not replaced.
    return {name for name, whole in by_node.items()
            if whole and name in fed_refs and len(output_dtypes(graph.nodes[name], graph.library) or ("",)) == 1}


def _placeholder(item: Node, graph: Graph, type_text: str | None, shape_text: str | None) -> Node:
    dtypes = output_dtypes(item, graph.library)
    dtype = _dtype(type_text) if type_text else dtypes[0] if dtypes else DType(1)
    attrs = {"shape": _shape(shape_text)} if shape_text is not None else {}
    placeholder = make_node(item.name, "Placeholder", (), item.device, dtype=dtype, **attrs)
    return replace(placeholder, debug_info=item.debug_info)


def _dtype(text: str) -> DType:
    dtype = dtype_named(text)
    if dtype is None:
        raise TransformError(f"strip_unused_nodes: no type '{text}': write it as float, int32, string, ...")
    return dtype


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(",")) if text.strip() else ()
    except ValueError:
        raise TransformError(f'strip_unused_nodes: no shape "{text}": write it as "-1,224,224,3"') from None


def _by_name(args: Arguments, key: str) -> dict[str, str]:
    names, values = args["name"], args[key]
    if values and len(values) != len(names):
        raise TransformError(f"strip_unused_nodes: {len(names)} name but {len(values)} {key}: give one for each name")
    return dict(zip(names, values, strict=True)) if values else {}
