"""Calls of the project's own code, whose instructions are counted: python tests/support/counted_calls.py NAME COUNT."""
import gc
import sys
from collections.abc import Callable

import numpy as np

from serving import tensor_proto
from serving.client import json_codec, payloads
from serving.json import answer
from serving.json.tensor import PredictBody
from serving.protos import predict_pb2
from serving.servable import TensorSpec

FLOAT = 1
IMAGES = np.random.default_rng(0).random((100, 28, 28, 1)).astype(np.float32)
ROWS = np.random.default_rng(1).random((100, 10)).astype(np.float32)
REST_REQUEST = json_codec.request_body({"image": IMAGES})
REST_ANSWER = answer.predictions({"softmax": ROWS}, True)
TAKES = {"image": TensorSpec("image:0", FLOAT, (-1, 28, 28, 1))}
GIVES = {"softmax": payloads.TensorSpec(np.dtype(np.float32), (-1, 10))}


def grpc_request() -> bytes:
    return bytes(predict_pb2.PredictRequest(inputs={"image": tensor_proto.to_proto(IMAGES)}).SerializeToString())


def grpc_answer() -> bytes:
    return bytes(predict_pb2.PredictResponse(outputs={"softmax": tensor_proto.to_proto(ROWS)}).SerializeToString())


GRPC_REQUEST, GRPC_ANSWER = grpc_request(), grpc_answer()
# Of 100 images of 28 x 28, and of 100 rows of 10 values. Each with how often it must be called to take some 2 billion
# instructions: the start of a process takes millions more or fewer from run to run.
CALLS: dict[str, tuple[Callable[[], object], int]] = {
    "REST request written by the client": (lambda: json_codec.request_body({"image": IMAGES}), 40),
    "REST request read by the server": (lambda: PredictBody(REST_REQUEST).inputs(TAKES), 40),
    "REST answer written by the server": (lambda: answer.predictions({"softmax": ROWS}, True), 700),
    "REST answer read by the client": (lambda: json_codec.outputs(REST_ANSWER, GIVES), 3000),
    "gRPC request written by the client": (grpc_request, 1500),
    "gRPC request read by the server": (lambda: tensor_proto.to_ndarray(
        predict_pb2.PredictRequest.FromString(GRPC_REQUEST).inputs["image"]), 4000),
    "gRPC answer written by the server": (grpc_answer, 40_000),
    "gRPC answer read by the client": (lambda: tensor_proto.to_ndarray(
        predict_pb2.PredictResponse.FromString(GRPC_ANSWER).outputs["softmax"]), 40_000)}

if __name__ == "__main__":
    gc.disable()  # when it runs depends on what was imported
    for _ in range(int(sys.argv[2])):
        CALLS[sys.argv[1]][0]()
