"""Sends one recorded gRPC case, and lists how the answer differs from the recorded one."""
import base64
import re
from dataclasses import dataclass
from typing import Any

import grpc
from contract_servers import ContractServer
from google.protobuf import text_format
from google.protobuf.message import Message

from serving.protos import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

_MESSAGES: dict[str, tuple[type[Message], type[Message]]] = {
    "PredictionService/Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "PredictionService/Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
    "PredictionService/Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "PredictionService/MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "PredictionService/GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest,
                                           get_model_metadata_pb2.GetModelMetadataResponse),
    "ModelService/GetModelStatus": (get_model_status_pb2.GetModelStatusRequest,
                                    get_model_status_pb2.GetModelStatusResponse),
    "ModelService/HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest,
                                               model_management_pb2.ReloadConfigResponse),
}


@dataclass(frozen=True)
class Outcome:
    """How a call ended: its status, its error message, and the answer in text form."""

    code: str
    message: str
    text: str = ""


def call(case: dict[str, Any], server: ContractServer, channel: grpc.Channel) -> Outcome:
    """The answer to a case. Messages of unknown methods, and requests given as `request_b64`, are sent as bytes."""
    known = _MESSAGES.get(case["rpc"])
    if "request_b64" in case or known is None:
        request = base64.b64decode(case.get("request_b64") or "")
    else:
        request = text_format.Parse(server.fill(case["request_textproto"]), known[0]()).SerializeToString()
    method = f"/tensorflow.serving.{case['rpc']}" if known else f"/{case['rpc']}"
    try:
        answer = channel.unary_unary(method)(request, timeout=case.get("timeout_s", 60))
    except grpc.RpcError as error:
        return Outcome(error.code().name, server.mark(error.details() or ""))
    if known is None:
        return Outcome("OK", "", answer.hex())
    return Outcome("OK", "", server.mark(text_format.MessageToString(known[1].FromString(answer), as_utf8=False)))


def differences(expect: dict[str, Any], outcome: Outcome) -> list[str]:
    """Descriptions of what is not as recorded."""
    found = []
    if outcome.code != expect["code"]:
        found.append(f"code {outcome.code} ({outcome.message}) instead of {expect['code']}")
    if "message_regex" in expect:
        if not re.search(expect["message_regex"], outcome.message, re.S):
            found.append(f"message {outcome.message!r} does not match {expect['message_regex']!r}")
    elif without_debug_mark(outcome.message) != without_debug_mark(expect["message"]):
        found.append(f"message {outcome.message!r} instead of {expect['message']!r}")
    if outcome.text != (expect.get("response_textproto") or ""):
        found.append(f"answer {outcome.text!r} instead of {expect.get('response_textproto')!r}")
    return found


def without_debug_mark(text: str) -> str:
    """`text` without the mark that protobuf puts before a message's debug string: it differs in every process."""
    return re.sub(r"goo\.gle/debug\w*[ \t]*\n?", "", text)
