"""TensorFlow's own trace of a signature: time by operation, and the CPU instructions it uses.

    python -m benchmark.targets.in_process.trace VERSION_DIRECTORY ... --samples inputs.npz --runs 20 \\
        --timeline trace.json ...

Prints one JSON document on its standard output, {"operations", "scopes"} for each directory; TensorFlow's and
oneDNN's own words go to stderr, where the caller reads which instructions they name.
"""
import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import tensorflow_alone


class Traced:
    """A signature in its own v1 Session, and the times of its traced runs."""

    def __init__(self, directory: str, signature_name: str, inputs: dict[str, Any], grappler: bool) -> None:
        with tensorflow_alone.importing():
            import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = not grappler
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        with self._session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], directory)
        signature = meta_graph.signature_def[signature_name]
        self._fetches = [tensor.name for tensor in signature.outputs.values()]
        self._feed = {signature.inputs[name].name: array for name, array in inputs.items()}
        self._options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE,
                                                output_partition_graphs=True)
        self._runs: list[dict[str, tuple[int, float]]] = []
        self._scopes: Counter[str] = Counter()
        for _ in range(3):
            self._session.run(self._fetches, self._feed)

    def run(self) -> Any:
        """Does one traced run; returns its step_stats."""
        import tensorflow as tf

        metadata = tf.compat.v1.RunMetadata()
        self._session.run(self._fetches, self._feed, options=self._options, run_metadata=metadata)
        types = {node.name: node.op for graph in metadata.partition_graphs for node in graph.node}
        totals: dict[str, tuple[int, float]] = {}
        for device in metadata.step_stats.dev_stats:
            for node in device.node_stats:
                op = types.get(node.node_name, node.timeline_label.partition(" = ")[2].partition("(")[0] or "other")
                count, us = totals.get(op, (0, 0.0))
                took = node.op_end_rel_micros - node.op_start_rel_micros
                totals[op] = count + 1, us + took
                self._scopes[";".join([*node.node_name.split("/"), op])] += took
        self._runs.append(totals)
        return metadata.step_stats

    def operations(self) -> list[dict[str, Any]]:
        """[{"op", "count", "us"}], slowest first: for each type of operation the sum over its nodes, median over runs.

        The nodes are those that ran, after TensorFlow's graph optimizations: fused nodes have the fused op's name.
        """
        names = {op for totals in self._runs for op in totals}
        medians = {op: np.median([totals.get(op, (0, 0.0)) for totals in self._runs], axis=0).tolist() for op in names}
        ranked = sorted(medians.items(), key=lambda item: -item[1][1])
        return [{"op": op, "count": count, "us": us} for op, (count, us) in ranked]

    def scopes(self) -> dict[str, float]:
        """Collapsed stacks, "scope;node;operation": the mean microseconds of a run."""
        return {stack: us / len(self._runs) for stack, us in self._scopes.items() if us}


def traced(directories: list[str], signature_name: str, inputs: dict[str, Any], runs: int, grappler: bool,
           timelines: list[Path]) -> list[dict[str, Any]]:
    """The operations and scopes of each directory, their runs in turns: what slows one down slows down the others."""
    from tensorflow.python.client import timeline

    models = [Traced(directory, signature_name, inputs, grappler) for directory in directories]
    for _ in range(runs):
        stats = [model.run() for model in models]
    for path, each in zip(timelines, stats, strict=True):
        path.write_text(timeline.Timeline(each).generate_chrome_trace_format())
    return [{"operations": model.operations(), "scopes": model.scopes()} for model in models]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.targets.in_process.trace")
    parser.add_argument("directories", nargs="+")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--samples", type=Path, required=True, help="an .npz with one array for each input")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--grappler", choices=("on", "off"), default="on")
    parser.add_argument("--timeline", type=Path, nargs="+", required=True, help="a file for each directory")
    options = parser.parse_args()
    tensorflow_alone.own_process = True
    # oneDNN prints its verbose lines to file descriptor 1: point it at standard error, and keep a duplicate of the real
    # standard output for the JSON document.
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with np.load(options.samples, allow_pickle=True) as file:
        inputs = {name: file[name] for name in file.files}
    found = traced(options.directories, options.signature, inputs, options.runs, options.grappler == "on",
                   options.timeline)
    json.dump(found, sink)
    sink.flush()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
