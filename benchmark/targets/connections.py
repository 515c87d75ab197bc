"""Connections to one process of a target: each times its requests and returns answers that are checked later."""
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from benchmark.targets.turns import Turn, turn
from benchmark.verdicts.block import Block
from serving.client import answers
from serving.client.payloads import Array, Arrays
from serving.client.protocol import Client, Signature

MOST_KEPT = 8  # right answers remembered for each request
# Answers that wait for their check: the requests of a block whose answers are larger are sent in several turns.
MOST_WAITING_BYTES = 256 << 20


class Connection(Protocol):
    """One connection to one process of a target."""

    measured_by: str

    def signature(self) -> Signature:
        """The inputs and outputs of the signature that requests use, from the server's metadata."""

    def prepare(self, inputs: Arrays) -> Any:
        """Serialises a request; not part of any measured time."""

    def timed(self, request: Any) -> tuple[float, Any]:
        """Sends a prepared request; returns (seconds, raw answer). The time does not include decoding."""

    def turn(self, requests: Sequence[Any], first: int, count: int, lead_s: float) -> Turn:
        """Sends prepared requests back to back; see turns.turn."""

    def decode(self, raw: Any) -> dict[str, Array]: ...

    def close(self) -> None: ...


class ClientConnection:
    """A connection through one of the project's clients (REST or gRPC)."""

    def __init__(self, client: Client, signature_name: str) -> None:
        self._client = client
        self._signature = signature_name
        self.measured_by = client.measured_by

    def signature(self) -> Signature:
        return self._client.metadata().signature(self._signature)

    def prepare(self, inputs: Arrays) -> Any:
        return self._client.prepare(inputs, self._signature)

    def timed(self, request: Any) -> tuple[float, Any]:
        began = perf_counter()
        raw = self._client.send(request)
        return perf_counter() - began, raw

    def turn(self, requests: Sequence[Any], first: int, count: int, lead_s: float) -> Turn:
        return turn(self.timed, requests, first, count, lead_s)

    def decode(self, raw: Any) -> dict[str, Array]:
        return self._client.decode(raw, self._signature)

    def close(self) -> None:
        self._client.close()


@dataclass
class Workload:
    """Requests of one batch size, and the answers that a target must give: the first target's, within a budget."""

    batch: int
    inputs: Sequence[Arrays]
    expected: list[dict[str, Array]] = field(default_factory=list)
    budget: answers.Budget | None = None


class Checker:
    """Compares raw answers with the expected ones. An answer whose bytes were right before is not decoded again."""

    def __init__(self, connection: Connection, workload: Workload) -> None:
        self._connection = connection
        self._workload = workload
        # Limited to MOST_KEPT: of a model whose answers never repeat, all answers would be kept.
        self._right: list[set[bytes]] = [set() for _ in workload.inputs]
        self.first_wrong: str | None = None
        self.seen: answers.Comparison | None = None

    def right(self, index: int, raw: Any) -> bool:
        if isinstance(raw, bytes) and raw in self._right[index]:
            return True
        answer = self._connection.decode(raw)
        comparison = answers.compare(self._workload.expected[index], answer, self._workload.budget)
        self.seen = answers.combine([self.seen, comparison] if self.seen else [comparison])
        if comparison.equal and isinstance(raw, bytes) and len(self._right[index]) < MOST_KEPT:
            self._right[index].add(raw)
        if not comparison.equal and self.first_wrong is None:
            self.first_wrong = comparison.summary()
        return bool(comparison.equal)


class PreparedConnection:
    """A connection with its prepared requests. A block begins with the request after the last of the previous block."""

    def __init__(self, connection: Connection, workload: Workload, check: bool = True) -> None:
        self.connection = connection
        self.workload = workload
        self._check = check
        self.checker = Checker(connection, workload)
        self.sent = 0  # requests of blocks, the unmeasured too
        self._requests = [connection.prepare(inputs) for inputs in workload.inputs]
        self._next = 0
        self._answer_bytes = max((sum(array.nbytes for array in answer.values()) for answer in workload.expected),
                                 default=0) or 1

    def send(self, index: int) -> tuple[float, Any]:
        """Sends request `index` (modulo the number of requests); returns (seconds, raw answer)."""
        return self.connection.timed(self._requests[index % len(self._requests)])

    def right(self, index: int, raw: Any) -> bool:
        """Whether `raw` is the expected answer to request `index`; always true for a connection without checks."""
        return not self._check or self.checker.right(index % len(self._requests), raw)

    def block(self, count: int, lead_s: float = 0.0, **labels: Any) -> Block:
        """Sends `count` requests back to back; the answers are decoded and compared after the measured time.

        lead_s: for so many seconds it sends requests before; their answers are compared, their time is not measured.
        """
        latencies: list[float] = []
        wall, cpu, wrong = 0.0, 0.0, 0
        most = max(1, MOST_WAITING_BYTES // self._answer_bytes)
        while len(latencies) < count:
            first, size = self._next, len(self._requests)
            taken = self.connection.turn(self._requests, first, min(most, count - len(latencies)), lead_s)
            raws = [*taken.led, *taken.answers]
            self._next = (first + len(raws)) % size
            self.sent += len(raws)
            wrong += sum(not self.checker.right((first + number) % size, raw) for number, raw in enumerate(raws))
            latencies += taken.seconds
            wall, cpu = wall + taken.wall_s, cpu + taken.cpu_s
        return Block(latencies=tuple(latencies), wall_s=wall, cpu_s=cpu, wrong=wrong,
                     batch=self.workload.batch, **labels)
