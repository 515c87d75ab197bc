"""What a converter may take."""
from dataclasses import dataclass

MAX_S = 1800.0


@dataclass(frozen=True)
class Limits:
    """max_s: seconds; most_bytes: resident memory of its process, None: most of what is free."""

    max_s: float = MAX_S
    most_bytes: int | None = None
