"""Converters of engines in this process, for tests of what becomes of their files: a process of its own would import
TensorFlow first, 3 s for each file."""
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from export.engines import conversion, converter
from export.engines.limits import Limits


@contextmanager
def converters_here() -> Iterator[None]:
    with mock.patch.object(conversion, "_run", _here):
        yield


def _here(folder: Path, limits: Limits) -> None:
    converter.main(folder)
    if (folder / "reason.json").exists():
        raise conversion.ConversionError(json.loads((folder / "reason.json").read_text()))
