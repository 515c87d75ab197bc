"""Errors that the user can correct. Any module raises them; `commandline` gives each class its exit status."""


class UserError(Exception):
    """What was asked could not be done. The message is one line that names the culprit and the next step."""

    # Of the command that ends with it.
    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class FailedError(UserError):
    """It was done, and the outcome is a failure: models not equal, a wrong answer, a server that refuses or ends."""

    exit_status = 1
