"""Why production was not changed, each with the exit status of the command that ends with it."""
from typing import Any

from user_error import UserError


class PromotionError(UserError):
    """It could not be run: wrong names, a root that is none, a disk that is full. `facts`: what --json says besides."""

    exit_status = 1

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = facts


class GateFailedError(PromotionError):
    """The version was refused before production saw it."""

    exit_status = 3


class LockedError(PromotionError):
    """Another process changes this root."""

    exit_status = 4


class ServerUnreachableError(PromotionError):
    """A server does not answer, or does not do what it was told."""

    exit_status = 5


class RolledBackError(PromotionError):
    """The version was in production, and was taken back."""

    exit_status = 6
