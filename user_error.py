"""What the user can put right. Raised at any depth; `commandline` gives each kind its exit status."""


class UserError(Exception):
    """What was asked could not be done. The message is one line that names the culprit and the next step."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class FailedError(UserError):
    """It was done, and failed: not equal, a wrong answer, a server that refuses or dies."""
