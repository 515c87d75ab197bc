"""ONNX Runtime: runs VERSION/assets.extra/model.onnx, which `benchmark.studies.conversions` makes. No TensorFlow.

The file's inputs and outputs have the names of the version's tensors ("x:0"), as tf2onnx gives them.
"""
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.targets.in_process import signatures
from serving.engines.cpus import cpus
from user_error import UserError
from version_directory import ONNX

Run = Callable[[dict[str, Any]], dict[str, Any]]
_AGAIN = "convert the version again"


def load(directory: str, signature_name: str, threads: int) -> tuple[Any, Run]:
    """(SignatureDef, function that runs it by signature key).

    threads: of one operation; 0: as many as there are CPUs, as TensorFlow has. Operations run one after the other,
    which is ONNX Runtime's default. Raises SystemExit with the reason in one line.
    """
    try:
        return _loaded(Path(directory), signature_name, threads)
    except UserError as error:
        raise SystemExit(str(error)) from None


def _loaded(version: Path, signature_name: str, threads: int) -> tuple[Any, Run]:
    if importlib.util.find_spec("onnxruntime") is None:
        raise UserError("the package onnxruntime is not installed; install it with: pip install -e '.[engines]'")
    import onnxruntime

    signature = signatures.read(version, signature_name)
    file = version / ONNX
    if not file.is_file():
        raise UserError(f"{version} has no {ONNX}, which ONNX Runtime runs: make a version that has it with "
                         "benchmark.studies.conversions.to_onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cpus()
    options.log_severity_level = 3  # errors; they are raised, too
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its exceptions have no base class of their own
        raise UserError(f"ONNX Runtime does not take {ONNX}: {' '.join(str(error).split())}; {_AGAIN}") from None
    # tf2onnx leaves out an input that nothing reads.
    fed = {one.name for one in session.get_inputs()}
    feeds = {key: tensor.name for key, tensor in signature.inputs.items() if tensor.name in fed}
    fetched = {key: tensor.name for key, tensor in signature.outputs.items()}
    signatures.refuse_missing("output", fetched.values(), [one.name for one in session.get_outputs()], file, _AGAIN)
    if strange := sorted(fed - set(feeds.values())):
        raise UserError(f"{file} needs an input '{strange[0]}' that signature '{signature_name}' has not: {_AGAIN}")
    names = list(dict.fromkeys(fetched.values()))

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        found = session.run(names, {name: inputs[key] for key, name in feeds.items()})
        values = dict(zip(names, found, strict=True))
        return {key: values[name] for key, name in fetched.items()}
    return signature, run
