"""TensorFlow's own trace of a signature: time by operation, and the CPU instructions it uses.

    python -m benchmark.in_process.trace VERSION_DIRECTORY --samples inputs.npz --runs 20 --timeline trace.json

Prints one JSON document on its standard output; TensorFlow's and oneDNN's own words go to stderr, where the caller
reads which instructions they name.
"""
import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np


def operations(directory: str, signature_name: str, inputs: dict[str, Any], runs: int, grappler: bool,
               timeline_path: Path | None) -> list[dict[str, Any]]:
    """[{"op", "count", "us"}] per run, summed over nodes of a type as Session.run executed them, slowest first.

    The nodes are those that ran, after TensorFlow's own rewriting: fused ones appear under their fused name.
    """
    import tensorflow as tf
    from tensorflow.python.client import timeline

    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = not grappler
    with tf.compat.v1.Session(graph=tf.Graph(), config=config) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        signature = meta_graph.signature_def[signature_name]
        fetches = [tensor.name for tensor in signature.outputs.values()]
        feed = {signature.inputs[name].name: array for name, array in inputs.items()}
        for _ in range(3):
            session.run(fetches, feed)
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE, output_partition_graphs=True)
        totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        for _ in range(runs):
            metadata = tf.compat.v1.RunMetadata()
            session.run(fetches, feed, options=options, run_metadata=metadata)
            types = {node.name: node.op for graph in metadata.partition_graphs for node in graph.node}
            for device in metadata.step_stats.dev_stats:
                for node in device.node_stats:
                    op = types.get(node.node_name, node.timeline_label.partition(" = ")[2].partition("(")[0] or "other")
                    totals[op][0] += 1
                    totals[op][1] += node.op_end_rel_micros - node.op_start_rel_micros
        if timeline_path is not None:
            timeline_path.write_text(timeline.Timeline(metadata.step_stats).generate_chrome_trace_format())
    ranked = sorted(totals.items(), key=lambda item: -item[1][1])
    return [{"op": op, "count": count / runs, "us": us / runs} for op, (count, us) in ranked]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.in_process.trace")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--samples", type=Path, required=True, help="an .npz with one array for each input")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--grappler", choices=("on", "off"), default="on")
    parser.add_argument("--timeline", type=Path)
    options = parser.parse_args()
    # The document has the real standard output to itself; oneDNN prints its verbose lines to the other one.
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with np.load(options.samples, allow_pickle=True) as file:
        inputs = {name: file[name] for name in file.files}
    found = operations(str(options.directory), options.signature, inputs, options.runs, options.grappler == "on",
                       options.timeline)
    json.dump(found, sink)
    sink.flush()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
