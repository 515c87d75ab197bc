"""A process that runs a model without a server.

    python -m benchmark.targets.in_process.engine KIND VERSION_DIRECTORY SOCKET [--signature NAME] [--grappler on|off]
        [--threads N]

    session     a v1 Session with the graph's feeds and fetches compiled once: what TensorFlow Serving does per request
    predictor   the signature as a Python function (tf.saved_model.load), as the old tf.contrib.predictor offered it
    litert      the embedded server's own class for model.tflite, with the threads that the server would give it;
    openvino    the same for assets.extra/openvino/. Neither imports TensorFlow
    client-loop, onnxruntime, keras
                for studies; see the modules of LOADERS

--threads: of one operation (of what TensorFlow and LOADERS run, between operations, too); 0: what the engine chooses;
-1: none but the one that asks, which only a Session can do.

Listens on the Unix socket SOCKET. Each connection has its own thread, so that one loaded model answers connections in
parallel (see connection.py). The process ends when its standard input is closed.
"""
import argparse
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from time import perf_counter
from typing import Any

import tensorflow_alone
from benchmark.targets import engines
from benchmark.targets.turns import turn
from other_engines import OTHER_ENGINES

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

Run = Callable[[dict[str, Any]], dict[str, Any]]
# {kind: a module with load(directory, signature name, threads) -> (SignatureDef, Run)}
LOADERS = {"client-loop": "client_loop", "onnxruntime": "onnx_runtime", "keras": "keras_predict"}

# Lines of a TensorFlow error that say where its graph was made, and not what is wrong.
_WHERE = re.compile(r"(Graph execution error|Detected at node|Node: |File \"|<stack traces? |Original stack trace|"
                    r"\d+ root error|\[\[\{\{node)")


def session(directory: str, signature_name: str, grappler: bool, threads: int = 0) -> tuple[Any, Run]:
    """(SignatureDef, function that runs it) in a v1 Session."""
    with tensorflow_alone.importing():
        import tensorflow as tf

    # A Session runs in the thread that asks where the threads between operations are -1.
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=abs(threads), inter_op_parallelism_threads=threads)
    config.graph_options.rewrite_options.disable_meta_optimizer = not grappler
    run_session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    with run_session.graph.as_default():
        meta_graph = tf.compat.v1.saved_model.load(run_session, ["serve"], directory)
    signature = _signature(meta_graph.signature_def, signature_name)
    names, fetches = sorted(signature.inputs), sorted(signature.outputs)
    call = run_session.make_callable([signature.outputs[name].name for name in fetches],
                                     feed_list=[signature.inputs[name].name for name in names])
    return signature, lambda inputs: dict(zip(fetches, call(*(inputs[name] for name in names)), strict=True))


def predictor(directory: str, signature_name: str, grappler: bool, threads: int = 0) -> tuple[Any, Run]:
    """(SignatureDef, function that runs it) with the loaded SavedModel's signature function."""
    import tensorflow as tf
    from tensorflow.python.saved_model import loader_impl

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not grappler})
    tf.config.threading.set_intra_op_parallelism_threads(abs(threads))
    tf.config.threading.set_inter_op_parallelism_threads(abs(threads))
    loaded = tf.saved_model.load(directory)
    saved = loader_impl.parse_saved_model(directory)
    served = next(graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags)
    signature = _signature(served.signature_def, signature_name)
    function = loaded.signatures[signature_name]
    dtypes = {name: tf.as_dtype(tensor.dtype) for name, tensor in signature.inputs.items()}

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        fed = {name: tf.constant(array, dtypes[name]) for name, array in inputs.items()}
        return {name: tensor.numpy() for name, tensor in function(**fed).items()}
    return signature, run


def engine(flags: Sequence[str], directory: str, signature_name: str) -> tuple[Any, Run]:  # decision 209
    """(SignatureDef, function that runs it) as the embedded server with these flags runs the version."""
    from serving.config import parse_flags
    from serving.engines.choice import Engines
    from serving.errors import ServingError
    from serving.memory import MemoryLimit

    path = Path(directory)
    try:
        loaded = Engines(parse_flags(flags), MemoryLimit(-1)).load(path.parent.parent.name, int(path.name), path)
    except ServingError as error:
        raise SystemExit(f"{error.code.name}: {error.message} {error.advice}".rstrip()) from None
    signature = _signature(loaded.metadata.signature_def, signature_name)
    names, fetches = sorted(signature.inputs), sorted(signature.outputs)
    feeds = [signature.inputs[name].name for name in names]
    tensors = [signature.outputs[name].name for name in fetches]
    return signature, lambda inputs: dict(
        zip(fetches, loaded.run(feeds, [inputs[name] for name in names], tensors), strict=True))


def _signature(signatures: Any, name: str) -> Any:
    if name not in signatures:
        raise SystemExit(f"no signature '{name}': there are {', '.join(sorted(signatures))}")
    return signatures[name]


def reason(error: Exception) -> str:
    """What a run raised, in one line."""
    lines = [line.split("[[{{node")[0].strip() for line in str(error).splitlines() if not _WHERE.match(line.strip())]
    return " ".join(filter(None, lines)) or type(error).__name__


def answer(connection: "Connection[Any, Any]", signature: Any, run: Run) -> None:
    """Answers one connection until it closes: a turn of runs with their seconds and outputs, or with why one failed.

    Times are taken here, around the run alone.
    """
    prepared: list[dict[str, Any]] = []

    def timed(inputs: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        began = perf_counter()
        outputs = run(inputs)
        return perf_counter() - began, outputs

    while True:
        try:
            command, value = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        if command == "signature":
            connection.send(signature.SerializeToString())
        elif command == "prepare":
            prepared.append(value)
            connection.send(len(prepared) - 1)
        else:
            numbers, first, count, lead_s = value
            try:
                found = turn(timed, [prepared[number] for number in numbers], first, count, lead_s)
            except Exception as error:  # noqa: BLE001 - the client decides what a refused request means
                connection.send(reason(error))
            else:
                # The CPU time is the model's here, and not the client's.
                connection.send(replace(found, cpu_s=0.0))
                del found


def accept(listener: Listener, signature: Any, run: Run) -> None:
    """Starts a thread for each connection. What it raises ends the process: its reason is the last line printed."""
    while True:
        connection = listener.accept()
        threading.Thread(target=_or_die, args=(connection, signature, run), daemon=True).start()


def _or_die(*arguments: Any) -> None:
    try:
        answer(*arguments)
    except BaseException as error:  # noqa: BLE001 - an engine that fails must not leave its client waiting
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.targets.in_process.engine")
    parser.add_argument("kind", choices=("session", "predictor", *OTHER_ENGINES, *LOADERS))
    parser.add_argument("directory", type=Path)
    parser.add_argument("socket")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--grappler", choices=("on", "off"), default="on")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    tensorflow_alone.own_process = True
    if options.kind in OTHER_ENGINES:
        if options.threads < 0:
            parser.error(f"--threads {options.threads}: only a Session runs in the thread that asks")
        flags = [*engines.flags(options.kind),
                 *([f"--tensorflow_intra_op_parallelism={options.threads}"] if options.threads > 0 else [])]
        signature, run = engine(flags, str(options.directory), options.signature)
    elif options.kind in LOADERS:
        module = importlib.import_module(f"benchmark.targets.in_process.{LOADERS[options.kind]}")
        signature, run = module.load(str(options.directory), options.signature, options.threads)
    else:
        load = {"session": session, "predictor": predictor}[options.kind]
        signature, run = load(str(options.directory), options.signature, options.grappler == "on", options.threads)
    with Listener(options.socket, "AF_UNIX", backlog=64) as listener:
        threading.Thread(target=accept, args=(listener, signature, run), daemon=True).start()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
