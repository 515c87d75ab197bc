"""A common alternative to a model server: a FastAPI application around a Keras model, served by uvicorn.

    python -m benchmark.targets.in_process.web_app KIND VERSION_DIRECTORY --model NAME --port PORT

    predict    keras.Model.predict on each request
    function   the model as a tf.function, called with a tensor

Reads and writes TensorFlow Serving's JSON (rows of one input), so that the same client can measure both.
"""
import argparse
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

AVAILABLE = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


class Rows(BaseModel):
    instances: list[Any]


def model_of(directory: str, signature_name: str) -> keras.Model:
    """A SavedModel's signature as a Keras model. Raises SystemExit unless it has one input and one output."""
    layer = keras.layers.TFSMLayer(directory, call_endpoint=signature_name)
    signature = tf.saved_model.load(directory).signatures[signature_name]
    specs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(specs) != 1 or len(outputs) != 1:
        raise SystemExit(f"the application needs a model with one input and one output; {directory} has {len(specs)} "
                         f"and {len(outputs)}")
    (spec,) = specs.values()
    rows = keras.Input(spec.shape[1:], dtype=spec.dtype)
    return keras.Model(rows, layer(rows))


def predict(model: keras.Model) -> Callable[[Any], Any]:
    return lambda rows: model.predict(rows, verbose=0)


def function(model: keras.Model) -> Callable[[Any], Any]:
    call = tf.function(lambda rows: model(rows, training=False), reduce_retracing=True)
    return lambda rows: {name: value.numpy() for name, value in call(tf.constant(rows)).items()}


def application(model_name: str, dtype: Any, run: Callable[[Any], Any]) -> FastAPI:
    app = FastAPI()

    @app.get(f"/v1/models/{model_name}")
    def status() -> dict[str, Any]:
        return {"model_version_status": [AVAILABLE]}

    @app.post(f"/v1/models/{model_name}:predict")
    def answer(body: Rows) -> dict[str, Any]:
        (values,) = run(np.array(body.instances, dtype)).values()
        return {"predictions": values.tolist()}
    return app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.targets.in_process.web_app")
    parser.add_argument("kind", choices=("predict", "function"))
    parser.add_argument("directory")
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--signature", default="serving_default")
    options = parser.parse_args()
    model = model_of(options.directory, options.signature)
    run = {"predict": predict, "function": function}[options.kind](model)
    app = application(options.model, model.input.dtype, run)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
