"""What users send and how its answers are checked: made once per process and protocol."""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from _options import Settings
from commandline import UserError
from serving.client import answers, payloads
from serving.client.payloads import Array
from serving.client.protocol import Client

REMEMBERED = 64


class NotSentError(Exception):
    """In the statistics: requests of an open loop that were due while too many were unanswered."""

    def __init__(self) -> None:
        super().__init__("not sent: too many requests unanswered")


@dataclass
class Work:
    """Prepared requests, sent in turn, and the answers that the server gave to them before the load."""
    model: str
    version: int
    batch: int
    requests: list[Any]
    expected: list[dict[str, Array]]
    decode: Callable[[bytes], dict[str, Array]]
    version_of: Callable[[bytes], int | None]
    # Per request: the bytes of answers found equal, with their version. Most answers repeat byte for byte.
    _right: list[dict[bytes, int | None]] = field(default_factory=list)

    def name(self, version: int | None = None) -> str:
        """What Locust shows: the model, the version that answered (variant/version if given), the batch."""
        return f"{self.model}/{version or self.version} batch {self.batch}"

    def follow(self, client: Client) -> None:
        """Takes the newest version that the server now has; keeps the last one while it cannot be asked."""
        try:
            self.version = max((one.version for one in client.status() if one.state == "AVAILABLE"),
                               default=self.version)
        except UserError:
            return

    def check(self, index: int, raw: bytes) -> tuple[int | None, str | None]:
        """The version that answered if the answer tells, and why the answer is wrong, or None."""
        right = self._right[index]
        if raw in right:
            return right[raw], None
        try:
            version = self.version_of(raw)
            comparison = answers.compare(self.expected[index], self.decode(raw))
        except (UserError, ValueError) as error:
            return None, f"not decodable: {error}"
        if not comparison.equal:
            return version, f"wrong answer: {comparison.summary()}"
        if len(right) < REMEMBERED:
            right[raw] = version
        return version, None


def make(client: Client, settings: Settings, version_of: Callable[[bytes], int | None] = lambda raw: None) -> Work:
    """Asks the server what it takes, and once for every answer. Raises UserError when that fails or proves nothing."""
    metadata = client.metadata()
    specs = metadata.signature(settings.signature).inputs
    samples = payloads.load_samples(settings.samples) if settings.samples else None
    requests: list[Any] = []
    expected: list[dict[str, Array]] = []
    right: list[dict[bytes, int | None]] = []
    for number in range(settings.payloads):
        inputs = (payloads.make(specs, settings.batch, settings.seed + number) if samples is None
                  else payloads.pick(samples, specs, settings.batch, number * settings.batch))
        try:
            requests.append(client.prepare(inputs, settings.signature))
        except ValueError as error:
            raise UserError(str(error)) from None
        raw = client.send(requests[-1])
        expected.append(client.decode(raw, settings.signature))
        right.append({raw: version_of(raw)})
    shown = f"{settings.model}/{settings.variant}" if settings.variant else settings.model
    return Work(shown, metadata.version, settings.batch, requests, expected,
                lambda raw: client.decode(raw, settings.signature), version_of, right)
