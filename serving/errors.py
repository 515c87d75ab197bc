"""What can go wrong while a request is answered: one exception, with the canonical status codes.

The codes are gRPC's (and absl's); each transport maps them once. Messages are TensorFlow Serving's, word for word,
because people search for them and programs match them.
"""
from enum import Enum

# Advice for a file or directory that the system does not let the server read.
UNREADABLE = "Make it readable for the user that the server runs as."
SIGNING_PACKAGES = "pip install -e '.[signing]' installs what signatures need."


class Code(Enum):
    """Canonical status codes, with their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """A request that cannot be answered.

    The message may have several lines (TensorFlow's often do) and is sent to the client unchanged. `advice` is not
    sent: it is a sentence for the server's operator, given if the cause is known.
    """

    def __init__(self, code: Code, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.advice = advice

    def __repr__(self) -> str:
        return f"ServingError({self.code.name}, {self.message!r})"


def invalid(message: str, advice: str = "") -> ServingError:
    """INVALID_ARGUMENT, the most frequent error: the request itself is wrong."""
    return ServingError(Code.INVALID_ARGUMENT, message, advice)


def timed_out() -> ServingError:
    """DEADLINE_EXCEEDED: the request's time is over."""
    return ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")


def not_found(message: str, advice: str = "") -> ServingError:
    """NOT_FOUND: there is no such model, version or label."""
    return ServingError(Code.NOT_FOUND, message, advice)
