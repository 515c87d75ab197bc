"""A reference model of Keras, written as a SavedModel and perhaps as a .keras file."""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from export.runtime import writing
from version_directory import EXTRA, KERAS


def export(model: keras.Model, version: Path, keeps: bool, answer: Callable[..., dict[str, Any]],
           inputs: Sequence[Any]) -> None:
    """Writes the SavedModel with `answer` as serving_default, and the directory for files about it.

    inputs: a TensorSpec of each argument of `answer`. keeps: also write the model as assets.extra/model.keras.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", answer, input_signature=list(inputs))
    with writing(version):
        archive.write_out(str(version), verbose=False)
        (version / EXTRA).mkdir()
        if keeps:
            # As a new model, which has no optimizer: Adam's state is twice the weights.
            keras.Model(model.input, model.output).save(version / KERAS)
