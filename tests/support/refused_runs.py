"""Runs of `optimize` that are refused: with the right error, in one line, and nothing published."""
import os
from pathlib import Path
from typing import Any

import pytest

import export
from user_error import FailedError, UserError


def refused(kind: type[UserError], words: str, source: Path, to: Path, **options: Any) -> UserError:
    """The error of a run that must not publish anything; its class gives the exit status. `to`: an empty folder."""
    with pytest.raises(UserError) as found:
        export.optimize(source, to=to / "out", **options)
    assert words in str(found.value)
    assert "\n" not in str(found.value)
    assert isinstance(found.value, FailedError) == issubclass(kind, FailedError)
    assert os.listdir(to) == []
    return found.value
