"""An engine of benchmark.targets.in_process.engine: the article's 20 calls of a v1 Session as one request.

The graph's feeds and fetches are compiled once (make_callable), which is the cheapest way to call a Session.
"""
from collections.abc import Callable
from typing import Any

import tensorflow_alone
from benchmark.targets.client_loop import ANSWER, GIVEN, GROWING, PREDICTED, predicted

Run = Callable[[dict[str, Any]], dict[str, Any]]


def load(directory: str, signature_name: str, threads: int) -> tuple[Any, Run]:
    """(SignatureDef grapheme -> phoneme, function that makes the calls). threads: see engine.py."""
    with tensorflow_alone.importing():
        import tensorflow as tf

    tf1 = tf.compat.v1
    config = tf1.ConfigProto(intra_op_parallelism_threads=abs(threads), inter_op_parallelism_threads=threads)
    session = tf1.Session(graph=tf.Graph(), config=config)
    with session.graph.as_default():
        signatures = tf1.saved_model.load(session, ["serve"], directory).signature_def
    if signature_name not in signatures:
        raise SystemExit(f"no signature '{signature_name}': there are {', '.join(sorted(signatures))}")
    called = signatures[signature_name]
    if set(called.inputs) != {GIVEN, GROWING} or set(called.outputs) != {PREDICTED}:
        raise SystemExit(f"{directory}: a client's loop calls a signature {GIVEN}, {GROWING} -> {PREDICTED}; this is "
                         f"{', '.join(sorted(called.inputs))} -> {', '.join(sorted(called.outputs))}")
    call = session.make_callable(called.outputs[PREDICTED].name,
                                 feed_list=[called.inputs[GIVEN].name, called.inputs[GROWING].name])
    signature = type(called)(inputs={GIVEN: called.inputs[GIVEN]}, outputs={ANSWER: called.outputs[PREDICTED]},
                             method_name=called.method_name)
    return signature, lambda inputs: {ANSWER: predicted(call, inputs[GIVEN])}
