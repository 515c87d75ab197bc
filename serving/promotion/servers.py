"""The servers that host a production root, told and asked by TensorFlow Serving's API alone."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import grpc

from serving.client import answers
from serving.client.grpc import GrpcClient, answered_version, channel, code_name
from serving.client.one_off import OneOffRestClient
from serving.client.protocol import AnswerError, Client, UnreachableError
from serving.promotion.golden import Golden
from serving.promotion.rollout import StageFailedError
from serving.protos import model_management_pb2
from user_error import UserError

POLL_S = 0.05
_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


@dataclass(frozen=True)
class Server:
    """One server: its REST or gRPC address, or both. Without gRPC it learns of changes when it polls the file."""

    rest: str | None = None
    grpc: str | None = None

    @property
    def name(self) -> str:
        return self.rest or self.grpc or ""

    def client(self, model: str, version: int | None = None, label: str | None = None) -> Client:
        if self.grpc is not None:
            return GrpcClient(self.grpc, model, version, label)
        assert self.rest is not None
        return OneOffRestClient(self.rest, model, version, label)

    def reload(self, config: object, answer_s: float, load_s: float) -> None:
        """Sends a ModelServerConfig, again while the server cannot be reached for `answer_s`. It answers once models
        that are new to it are loaded, within `load_s`. Raises StageFailedError if it is refused, or not answered."""
        if self.grpc is None:
            return
        address = self.grpc
        request = model_management_pb2.ReloadConfigRequest(config=config).SerializeToString()

        def send() -> str:
            with closing(channel(address)) as opened:
                try:
                    raw = opened.unary_unary(_RELOAD)(request, timeout=load_s)
                except grpc.RpcError as error:
                    code, words = error.code().name, error.details() or ""
                    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                        return words
                    raise StageFailedError(f"{self.name} refuses the configuration: {code}: {words}") from None
            status = model_management_pb2.ReloadConfigResponse.FromString(raw).status
            if status.error_code:
                raise StageFailedError(f"{self.name} refuses the configuration: {code_name(status.error_code)}: "
                                       f"{status.error_message}")
            return ""
        if last := polled(send, answer_s):
            raise StageFailedError(f"{self.name} does not answer ({last})")

    def states(self, model: str) -> dict[int, str]:
        """{version: its state}; nothing of a model that it does not know. Raises UnreachableError."""
        with closing(self.client(model)) as client:
            try:
                return {one.version: one.state for one in client.status()}
            except AnswerError as error:
                if error.code in ("404", "NOT_FOUND"):
                    return {}
                raise

    def await_available(self, model: str, version: int, timeout_s: float) -> None:
        """Returns once the version is AVAILABLE. Raises StageFailedError if it is not in time, or failed to load."""
        def look() -> str:
            try:
                with closing(self.client(model)) as client:
                    one = next((found for found in client.status() if found.version == version), None)
            except (AnswerError, UnreachableError) as error:
                return str(error)
            if one is None:
                return "it does not know the version"
            if one.code != "OK":
                raise StageFailedError(f"{self.name} cannot load version {version} of {model}: {one.message}")
            return "" if one.state == "AVAILABLE" else f"it is {one.state}"
        if last := polled(look, timeout_s):
            raise StageFailedError(f"{self.name} has no version {version} of {model} within {timeout_s:g} s: {last}")

    def labelled(self, model: str, label: str) -> int | None:
        """The version that a label leads to; None if it leads to none. Raises UnreachableError."""
        with closing(self.client(model, label=label)) as client:
            try:
                return client.metadata().version
            except AnswerError:
                return None

    def await_label(self, model: str, label: str, version: int, timeout_s: float) -> None:
        """Returns once the label leads to the version. Raises StageFailedError if it does not in time."""
        def look() -> str:
            try:
                found = self.labelled(model, label)
            except UnreachableError as error:
                return str(error)
            return "" if found == version else "it leads to " + (f"version {found}" if found else "no version")
        if last := polled(look, timeout_s):
            raise StageFailedError(f"{self.name}: label {label} of {model} does not lead to version {version} within "
                                   f"{timeout_s:g} s: {last}")

    def check(self, model: str, version: int, label: str | None, requests: Sequence[Golden]) -> None:
        """Sends golden requests, and compares the answers. Raises StageFailedError at the first that is wrong."""
        where = f"{self.name}, {model} {f'label {label}' if label else f'version {version}'}"
        with closing(self.client(model, None if label else version, label)) as client:
            for number, one in enumerate(requests, 1):
                try:
                    raw = client.send(client.prepare(one.inputs, one.signature))
                    found = client.decode(raw, one.signature)
                except (AnswerError, UnreachableError) as error:
                    raise StageFailedError(f"{where}: golden request {number}: {error}") from None
                if isinstance(client, GrpcClient) and (by := answered_version(raw)) != version:
                    raise StageFailedError(f"{where}: golden request {number} was answered by version {by}, "
                                           f"not {version}")
                if one.expected is not None and not (seen := answers.compare(one.expected, found)).equal:
                    raise StageFailedError(f"{where}: golden request {number}: {seen.summary()}")


def polled(look: Callable[[], str], timeout_s: float) -> str:
    """Looks again and again, until nothing is missing any more (""), or time is over; what was missing last."""
    deadline = time.monotonic() + timeout_s
    while (missing := look()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return missing


def servers(rest: Sequence[str], grpc_addresses: Sequence[str]) -> list[Server]:
    """The n-th REST and the n-th gRPC address are of the same server. Raises UserError for different numbers."""
    if rest and grpc_addresses and len(rest) != len(grpc_addresses):
        raise UserError(f"{len(rest)} --rest and {len(grpc_addresses)} --grpc: give both addresses of each server, in "
                        "the same order, or only one kind")
    for addresses in (rest, grpc_addresses):
        if twice := sorted({one for one in addresses if addresses.count(one) > 1}):
            raise UserError(f"{twice[0]} is named twice: each server has addresses of its own")
    count = max(len(rest), len(grpc_addresses))
    return [Server(rest[number] if rest else None, grpc_addresses[number] if grpc_addresses else None)
            for number in range(count)]
