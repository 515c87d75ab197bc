"""Keras' own way: keras.Model.predict of VERSION/assets.extra/model.keras, as most people measure a model."""
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.targets.in_process import signatures
from user_error import UserError
from version_directory import KERAS

Run = Callable[[dict[str, Any]], dict[str, Any]]


def load(directory: str, signature_name: str, threads: int) -> tuple[Any, Run]:
    """(SignatureDef of the version, a function that predicts a whole request as one batch, by signature key).

    threads: TensorFlow's, of one operation and between operations; 0: its default. Raises SystemExit with the reason
    in one line.
    """
    try:
        return _loaded(Path(directory), signature_name, threads)
    except UserError as error:
        raise SystemExit(str(error)) from None


def _loaded(version: Path, signature_name: str, threads: int) -> tuple[Any, Run]:
    signature = signatures.read(version, signature_name)
    file = version / KERAS
    if not file.is_file():
        raise UserError(f"{version} has no {KERAS}, which Keras runs: save the same model there with "
                         f"model.save('{file}')")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    try:
        model = keras.models.load_model(file, compile=False)
    except Exception as error:  # noqa: BLE001 - Keras raises whatever its layers raise
        why = " ".join(str(error).split())
        raise UserError(f"Keras does not load {KERAS}: {why[:200]}; save it again with this version of Keras") from None
    feeds = _fed(sorted(signature.inputs), [tensor.name for tensor in model.inputs], file)
    keys = sorted(signature.outputs, key=_in_order)

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        # predict takes no numpy array of strings.
        fed = {name: tf.constant(value) if (value := inputs[key]).dtype.kind in "OSU" else value
               for key, name in feeds.items()}
        size = len(next(iter(fed.values())))
        (single, *others) = fed.values()
        return _answers(model.predict(fed if others else single, batch_size=size, verbose=0), keys, file)
    return signature, run


def _fed(keys: Sequence[str], names: Sequence[str], file: Path) -> Mapping[str, str]:
    """The model's input for each key of the signature; a single one may have another name."""
    if len(keys) == len(names) == 1:
        return {keys[0]: names[0]}
    signatures.refuse_missing("input", keys, names, file, "give the model's inputs the names of the signature's")
    return {key: key for key in keys}


def _answers(found: Any, keys: Sequence[str], file: Path) -> dict[str, Any]:
    """By signature key, what predict returns: an array, a list of arrays, or a dictionary of them."""
    values = found if isinstance(found, dict) else list(found) if isinstance(found, list | tuple) else [found]
    if len(values) != len(keys):
        raise ValueError(f"{file} has {len(values)} outputs, the signature {len(keys)}: save the model of this version")
    if not isinstance(values, dict):
        return dict(zip(keys, values, strict=True))
    if len(keys) == 1:
        return {keys[0]: next(iter(values.values()))}
    if missing := sorted(set(keys) - values.keys()):
        raise ValueError(f"{file} has no output '{missing[0]}', only {', '.join(sorted(values))}: save the model of "
                         "this version")
    return {key: values[key] for key in keys}


def _in_order(key: str) -> tuple[str, int]:
    """output_2 before output_10: Keras' export numbers the outputs of a list."""
    stem, digits = re.fullmatch(r"(.*?)(\d*)", key, re.DOTALL).groups()  # type: ignore[union-attr]
    return stem, int(digits or 0)
