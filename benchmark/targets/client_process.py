"""A connection in a process of its own, so that two clients can measure at the same time, each on its own core.

    python -m benchmark.targets.client_process SOCKET

In one process they would share Python's lock: each would wait while the other reads its answer.
"""
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from multiprocessing.connection import Listener
from typing import Any

from benchmark.targets.addresses import Access, connect
from benchmark.targets.child import python_module
from benchmark.targets.connections import ClientConnection, Connection
from benchmark.targets.socket_child import SocketChild
from benchmark.targets.turns import Turn
from serving.client.payloads import Array, Arrays
from serving.client.protocol import Signature
from user_error import FailedError, UserError

_START_S = 60.0


class ClientProcess:
    """As the connection that it is made from, but for where its requests are sent from."""

    def __init__(self, here: Connection, protocol: str, address: str, model: str, access: Access | None,
                 signature_name: str) -> None:
        """here: a connection to the same server, which decodes the answers; it is closed with this one."""
        self._here = here
        self.measured_by = f"{here.measured_by}, in a process of its own"
        self._child = SocketChild(f"client of {address}", python_module("benchmark.targets.client_process", "{socket}"))
        try:
            self._child.wait_until(self._child.loaded, _START_S, "while it was started")
            self._channel = self._child.open()
            self._call("connect", (protocol, address, model, access, signature_name))
        except BaseException:
            self._child.stop()
            raise

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def signature(self) -> Signature:
        return self._here.signature()

    def prepare(self, inputs: Arrays) -> int:
        return int(self._call("prepare", dict(inputs)))

    def timed(self, request: int) -> tuple[float, Any]:
        found = self.turn([request], 0, 1, 0.0)
        return found.seconds[0], found.answers[0]

    def turn(self, requests: Sequence[int], first: int, count: int, lead_s: float) -> Turn:
        found: Turn = self._call("turn", (requests, first, count, lead_s))
        return found

    def decode(self, raw: Any) -> dict[str, Array]:
        return self._here.decode(raw)

    def close(self) -> None:
        self._channel.close()
        self._child.stop()
        self._here.close()

    def _call(self, command: str, value: Any) -> Any:
        try:
            self._channel.send((command, value))
            found = self._channel.recv()
        except (EOFError, OSError):
            self._child.await_death("during a request", 5.0)
            raise FailedError(f"the {self._child.title} closed its connection") from None
        if isinstance(found, Exception):
            raise found
        return found


def _answer(channel: Any) -> None:
    """Answers the commands of a ClientProcess until its end of the channel is closed."""
    prepared: list[Any] = []
    connection: ClientConnection | None = None
    while True:
        try:
            command, value = channel.recv()
        except (EOFError, OSError):
            return
        try:
            if command == "connect":
                *where, signature_name = value
                connection = ClientConnection(connect(*where), signature_name)
                channel.send(None)
                continue
            assert connection is not None
            if command == "prepare":
                prepared.append(connection.prepare(value))
                channel.send(len(prepared) - 1)
            else:
                numbers, *rest = value
                channel.send(connection.turn([prepared[number] for number in numbers], *rest))
        except UserError as error:
            channel.send(error)


def _accept(listener: Listener) -> None:
    while True:
        with closing(listener.accept()) as channel:
            _answer(channel)


def main() -> None:
    with Listener(sys.argv[1], "AF_UNIX") as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
