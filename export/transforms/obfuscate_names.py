from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from export.functions import definitions
from export.graph import Graph
from export.transform import Arguments, Record, transform

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@transform("obfuscate_names", bodies=False)
def obfuscate_names(graph: Graph, args: Arguments, record: Record) -> Graph:
    """Gives every node except inputs and outputs a short name: 0, 1, ... Z, 10, ...

    Nodes of function bodies, too, except arguments and nodes that a caller can wait for. Debug information with the old
    names is dropped.

    Safe when: always; all mentions of a node (inputs, colocation constraints) are changed. A node whose name a
      checkpoint or a request uses must be listed as input or output.
    Source: Graph Transform Tool, obfuscate_names (which took the name of an output given as "x:0").
    """
    functions = definitions(graph.library)
    bodies = {name: _obfuscated(body, frozenset(functions[name].control_ret.values()), record)
              for name, body in graph.bodies.items()}
    return _obfuscated(replace(graph, bodies=bodies), frozenset(), record)


def _obfuscated(graph: Graph, waited_for: frozenset[str], record: Record) -> Graph:
    kept = graph.kept | waited_for
    fresh = (name for name in _names() if name not in kept)
    names = {name: next(fresh) for name in graph.nodes if name not in kept}
    record.applied += sum(old != new for old, new in names.items())
    renamed = graph.renamed(names)
    return renamed.with_nodes(replace(item, debug_info=None) for item in renamed.nodes.values())


def _names() -> Iterator[str]:
    for number in count():
        name, rest = "", number
        while rest or not name:
            name, rest = _DIGITS[rest % len(_DIGITS)] + name, rest // len(_DIGITS)
        yield name
