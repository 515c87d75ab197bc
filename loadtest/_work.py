"""The requests that users send, and the check of the answers: made once per process and protocol."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from _options import Settings
from serving import recording
from serving.client import answers, payloads
from serving.client.payloads import Array
from serving.client.protocol import Client, Metadata
from user_error import UserError

REMEMBERED = 64
MOST_RECORDED = 1000


class NotSentError(Exception):
    """In the statistics: requests of an open loop that were due while too many were unanswered."""

    def __init__(self) -> None:
        super().__init__("not sent: too many requests unanswered")


@dataclass
class Work:
    """Prepared requests, which users send cyclically, and the expected answers."""
    model: str
    version: int
    batch: int
    decode: Callable[[bytes, str], dict[str, Array]]
    version_of: Callable[[bytes], int | None]
    requests: list[Any] = field(default_factory=list)
    _signatures: list[str] = field(default_factory=list)
    _expected: list[dict[str, Array]] = field(default_factory=list)
    # Per request: the bytes of answers found equal, with their version. Most answers repeat byte for byte.
    _right: list[dict[bytes, int | None]] = field(default_factory=list)

    def add(self, request: Any, signature_name: str, expected: dict[str, Array]) -> None:
        self.requests.append(request)
        self._signatures.append(signature_name)
        self._expected.append(expected)
        self._right.append({})

    def name(self, version: int | None = None) -> str:
        """What Locust shows: the model, the version that answered (variant/version if given), the batch."""
        return f"{self.model}/{version or self.version} batch {self.batch}"

    def follow(self, client: Client) -> None:
        """Sets `version` to the newest version on the server; does nothing while the server cannot be reached."""
        try:
            self.version = max((found.version for found in client.status() if found.state == "AVAILABLE"),
                               default=self.version)
        except UserError:
            return

    def check(self, index: int, raw: bytes) -> tuple[int | None, str | None]:
        """The version that gave the answer (None if unknown), and why the answer is wrong (None if it is right)."""
        right = self._right[index]
        if raw in right:
            return right[raw], None
        try:
            version = self.version_of(raw)
            comparison = answers.compare(self._expected[index], self.decode(raw, self._signatures[index]))
        except (UserError, ValueError) as error:
            return None, f"not decodable: {error}"
        if not comparison.equal:
            return version, f"wrong answer: {comparison.summary()}"
        if len(right) < REMEMBERED:
            right[raw] = version
        return version, None


def make(client: Client, settings: Settings, version_of: Callable[[bytes], int | None] = lambda raw: None) -> Work:
    """Reads the model's metadata, prepares the requests and sends each once. Raises UserError if one fails."""
    metadata = client.metadata()
    shown = f"{settings.model}/{settings.variant}" if settings.variant else settings.model
    work = Work(shown, metadata.version, settings.batch, client.decode, version_of)
    for example in _examples(settings, metadata):
        try:
            request = client.prepare(example.inputs, example.signature_name)
        except ValueError as error:
            raise UserError(str(error)) from None
        raw = client.send(request)
        work.add(request, example.signature_name,
                 dict(example.outputs) or client.decode(raw, example.signature_name))
        _, wrong = work.check(len(work.requests) - 1, raw)
        if wrong:
            raise UserError(f"request {len(work.requests)} before any load: {wrong}")
    if not work.requests:
        raise UserError(f"{settings.recorded}: holds no predict request")
    if settings.recorded:
        work.batch = max((len(array) for array in example.inputs.values() if array.ndim), default=1)
    return work


def _examples(settings: Settings, metadata: Metadata) -> Iterator[recording.Predicted]:
    if settings.recorded:
        yield from islice(recording.read(settings.recorded), MOST_RECORDED)
        return
    specs = metadata.signature(settings.signature).inputs
    samples = payloads.load_samples(settings.samples) if settings.samples else None
    for number in range(settings.payloads):
        yield recording.Predicted(
            settings.model, payloads.make(specs, settings.batch, settings.seed + number) if samples is None
            else payloads.pick(samples, specs, settings.batch, number * settings.batch), settings.signature)
