"""assets.extra/openvino/ -> Servable: a version run by OpenVINO, with the signatures of its saved_model.pb.

A version has one graph for each different set of inputs and outputs among its signatures. What no graph can answer is
run by TensorFlow, which is loaded beside only if there is such a signature.
"""
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from other_engines import OPENVINO
from serving.engines.damage import again, damaged
from serving.engines.openvino_files import read_openvino_files
from serving.engines.openvino_graph import Graph, Resources
from serving.engines.signatures import map_of, signatures_of
from serving.engines.trial import Zeros, run_zeros
from serving.errors import ServingError, invalid, timed_out
from serving.saved_model_file import read_meta_graph
from serving.servable import DEFAULT_SIGNATURE, Array, Signature
from serving.tensor_proto import data_type, data_type_name

log = logging.getLogger("serving")
# Clients choose which outputs they want, and many outputs have very many combinations.
_MOST_PLANS = 1000


class OpenVINOModel:  # decision 201
    """A Servable whose requests are run by OpenVINO's graphs."""

    engine = OPENVINO.name

    def __init__(self, name: str, version: int, metadata: Any, graphs: Sequence[Graph]) -> None:
        """`metadata`: the SignatureDefMap of saved_model.pb."""
        self.name = name
        self.version = version
        self.metadata = metadata
        self.signatures: Mapping[str, Signature] = signatures_of(metadata)
        self.answers = True
        self.beside: Any = None  # the same version, loaded by TensorFlow
        self._graphs = graphs
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...]], list[_Part]] = {}

    def left(self) -> list[str]:
        """The signatures that no graph answers."""
        return [key for key, one in self.signatures.items() if self._planned(*_tensors(one)) is None]

    def try_out(self) -> None:
        """One run with zeros (a batch of 1); then `answers` says whether this version can answer at all."""
        run_zeros(self, self._zeros)
        if self.beside is not None:
            self.beside.try_out()
            self.answers = self.answers and self.beside.answers

    def _zeros(self) -> Zeros | None:
        signature = self.signatures.get(DEFAULT_SIGNATURE) or next(iter(self.signatures.values()), None)
        plan = self._planned(*_tensors(signature)) if signature is not None else None
        graph = plan[0].graph if plan else self._graphs[0]
        values = graph.zeros()
        return None if values is None else (
            [one.name for one in graph.inputs], values, [one.name for one in graph.outputs])

    def run(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
            timeout_s: float | None = None, started: Callable[[], None] | None = None) -> list[Array]:
        """See Servable.run."""
        key = (tuple(feeds), tuple(fetches))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._planned(*key)
            if plan is None:
                return self._run_beside(feeds, values, fetches, timeout_s, started)
            if len(self._plans) < _MOST_PLANS:
                self._plans[key] = plan
        if timeout_s == 0 and len(plan) > 1:
            raise timed_out()
        ends = timeout_s and perf_counter() + timeout_s
        found: dict[int, Array] = {}
        for part in plan:
            left = ends and max(ends - perf_counter(), 1e-9)
            results = part.graph.run([values[place] for place in part.feeds], part.outputs, left, started)
            found.update(zip(part.fetches, results, strict=True))
        self.answers = True
        return [found[place] for place in range(len(fetches))]

    def close(self) -> None:
        """Frees the graphs. No request is running."""
        self._plans.clear()
        for graph in self._graphs:
            graph.close()
        if self.beside is not None:
            self.beside.close()

    def _planned(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> list["_Part"] | None:
        """Which graphs give these tensors; None: they do not give all."""
        parts, missing = [], list(range(len(fetches)))
        for graph in self._graphs:
            inputs, outputs = [one.name for one in graph.inputs], [one.name for one in graph.outputs]
            places = [place for place in missing if fetches[place] in outputs]
            if sorted(inputs) == sorted(feeds) and places:
                parts.append(_Part(graph, [feeds.index(name) for name in inputs], places,
                                   [outputs.index(fetches[place]) for place in places]))
                missing = [place for place in missing if place not in places]
        return None if missing or not parts else parts

    def _run_beside(self, feeds: Sequence[str], values: Sequence[Array], fetches: Sequence[str],
                    timeout_s: float | None, started: Callable[[], None] | None) -> list[Array]:
        if self.beside is not None:
            results: list[Array] = self.beside.run(feeds, values, fetches, timeout_s, started)
            self.answers = True
            return results
        known = {one.name for graph in self._graphs for one in (*graph.inputs, *graph.outputs)}
        name = next((one for one in (*feeds, *fetches) if one not in known), None)
        raise invalid(f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph"
                      if name else f"No graph of {OPENVINO.file.parent} takes {', '.join(feeds)} and gives "
                      f"{', '.join(fetches)}", "" if name else again(OPENVINO.name))


@dataclass(frozen=True, slots=True)
class _Part:
    """One graph of a request: where its inputs are among the fed tensors, and which fetched tensors it gives.

    `outputs` are the numbers of the graph's outputs, for the same places as `fetches`.
    """

    graph: Graph
    feeds: Sequence[int]
    fetches: Sequence[int]
    outputs: Sequence[int]


def load(name: str, version: int, path: Path, tags: Sequence[str], resources: Resources,
         with_tensorflow: Callable[[str, int, Path], Any]) -> OpenVINOModel:
    """Loads a version; `with_tensorflow` loads it for the signatures that no graph answers. Raises ServingError."""
    metadata = map_of(read_meta_graph(path, tags))
    files = read_openvino_files(path)
    graphs: list[Graph] = []
    try:
        for each in files.graphs:
            graphs.append(Graph(each, files.precision, resources))
        _check_types(path, metadata, graphs)
        model = OpenVINOModel(name, version, metadata, graphs)
        if left := model.left():
            log.info("version %s of model %s: TensorFlow runs %s", version, name, "; ".join(
                f"{key} ({files.left[key]})" if key in files.left else key for key in left))
            model.beside = with_tensorflow(name, version, path)
    except ServingError:
        for graph in graphs:
            graph.close()
        raise
    return model


def _check_types(path: Path, metadata: Any, graphs: Sequence[Graph]) -> None:
    """Refuses graphs whose tensors have other types than the signatures say: clients would get other types."""
    types = {info.name: info.dtype for message in metadata.signature_def.values()
             for info in (*message.inputs.values(), *message.outputs.values())}
    for graph in graphs:
        for tensor in (*graph.inputs, *graph.outputs):
            wanted = types.get(tensor.name)
            if wanted is None or data_type(tensor.dtype) != wanted:
                known = ("in no signature of saved_model.pb" if wanted is None else
                         f"{data_type_name(data_type(tensor.dtype))}, and {data_type_name(wanted)} in saved_model.pb")
                raise damaged(path / OPENVINO.file, f"its tensor '{tensor.name}' is {known}", OPENVINO.name)


def _tensors(signature: Signature) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (tuple(spec.name for spec in signature.inputs.values()),
            tuple(spec.name for spec in signature.outputs.values()))
