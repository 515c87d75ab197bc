"""SavedModels run in turns by v1 Sessions of one process, also with the runtime's own mixed precision.

    python tests/support/session_turns.py BATCH RUNS SAMPLES.npz NAME=VERSION ... [NAME=VERSION,mixed ...]

Prints a JSON line: for each the seconds to load, the median milliseconds of a run, and the median of its paired ratios
to the first with a 95 % interval (bootstrap over the turns). "mixed": Grappler makes a bfloat16 graph when the Session
is created, which is what TensorFlow Serving's --mixed_precision=bfloat16 does.
"""
import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf

_KEY = "serving_default"
_WARM = 4


def loaded(version: str, mixed: bool) -> tuple[Any, list[str], float]:
    """(a function of the inputs in order, their keys, seconds to load)."""
    config = tf.compat.v1.ConfigProto()
    if mixed:
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    began = perf_counter()
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    with session.graph.as_default():
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], version)
    seconds = perf_counter() - began
    signature = meta_graph.signature_def[_KEY]
    keys = sorted(signature.inputs)
    return session.make_callable([info.name for info in signature.outputs.values()],
                                 feed_list=[signature.inputs[key].name for key in keys]), keys, seconds


def measured(batch: int, runs: int, samples: Path, versions: dict[str, str]) -> dict[str, Any]:
    with np.load(samples) as arrays:
        examples = {key: arrays[key] for key in arrays.files}
    calls, figures = {}, {}
    for name, version in versions.items():
        path, _, mixed = version.partition(",")
        call, keys, seconds = loaded(path, mixed == "mixed")
        inputs = [examples[key][np.arange(batch) % len(examples[key])] for key in keys]
        for _ in range(_WARM):
            call(*inputs)
        calls[name] = (call, inputs)
        figures[name] = {"load_s": round(seconds, 3)}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(runs):
        for name in (list(calls) if turn % 2 == 0 else list(calls)[::-1]):
            call, inputs = calls[name]
            began = perf_counter()
            call(*inputs)
            taken[name].append(perf_counter() - began)
    first, random = np.array(next(iter(taken.values()))), np.random.default_rng(0)
    for name, seconds_each in taken.items():
        ratios = first / np.array(seconds_each)
        again = np.median(random.choice(ratios, (2000, len(ratios))), axis=1)
        figures[name] |= {"ms": round(float(np.median(seconds_each)) * 1e3, 3),
                          "ratio": round(float(np.median(ratios)), 3),
                          "ci95": [round(float(limit), 3) for limit in np.quantile(again, (0.025, 0.975))]}
    return figures


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]),
                              dict(each.split("=", 1) for each in sys.argv[4:]))))
