"""What a version directory is, as TensorFlow Serving sees one, and the names of the files in it.

    models/NAME/VARIANT/            a base path
        VERSION/                    a version: the name of the directory is a number
            saved_model.pb          or saved_model.pbtxt
            variables/  assets/
            model.tflite            the same model for LiteRT
            assets.extra/           files about a version; TensorFlow does not read them to load it
                openvino/           the same model for OpenVINO
                model.onnx          the same model for ONNX Runtime, with which a study compares
                model.keras         the Keras model that it was exported from
"""
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from user_error import UserError

MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
ASSETS = "assets"
EXTRA = "assets.extra"
# The same model for LiteRT, where TensorFlow Serving looks for it.
TFLITE = "model.tflite"
# Where TensorFlow Serving looks for the requests that it runs before it serves a version.
WARMUP = Path(EXTRA, "tf_serving_warmup_requests")
# Real examples, by input key, for measuring and for checking.
SAMPLES = Path(EXTRA, "samples.npz")
# The sources that the version was made from, and the results of its checks.
MANIFEST = Path(EXTRA, "manifest.json")


def signature_path(version: Path) -> Path:
    """Where the signature of a version directory is: beside it, under a name that servers skip."""
    return version.with_name(f".{version.name}.sig")


def statement_path(version: Path) -> Path:
    """Where the statement on what was proven of a version directory is, likewise."""
    return version.with_name(f".{version.name}.intoto")
# The Keras model that a version was exported from, if `build --keras` wrote it.
KERAS = Path(EXTRA, "model.keras")
# The same model for OpenVINO.
OPENVINO = Path(EXTRA, "openvino")
# The same model for ONNX Runtime, with which a study compares.
ONNX = Path(EXTRA, "model.onnx")
# The body of one REST request, to try the model with.
REQUEST = Path(EXTRA, "request.json")

_MAX_VERSION = 2**63 - 1


def number(name: str) -> int | None:  # decision 110
    """The version that a directory name stands for: decimal digits, perhaps with a plus; None for other names."""
    match = re.fullmatch(r"\s*\+?([0-9]+)\s*", name, re.ASCII)
    if match is None or int(match[1]) > _MAX_VERSION:
        return None
    return int(match[1])


def numbered(names: Iterable[str]) -> dict[int, str]:
    """The versions among directory entries, lowest first, each with one entry's name (`1` or `01`)."""
    found: dict[int, str] = {}
    for name in sorted(names):
        version = number(name)
        if version is not None:
            found.setdefault(version, name)
    return dict(sorted(found.items()))


def versions(base: Path) -> dict[int, Path]:
    """The version directories in a base path, lowest first; nothing where there is no such directory."""
    if not base.is_dir():
        return {}
    names = numbered(child.name for child in base.iterdir() if child.is_dir())
    return {version: base / name for version, name in names.items()}


def model_file(directory: Path) -> Path | None:
    """The file that makes a directory a SavedModel; the binary one where both are there, as TensorFlow reads."""
    return next((file for name in MODEL_FILES if (file := directory / name).is_file()), None)


def model_bytes(directory: Path) -> int:
    """Bytes of the files that TensorFlow may read to load a version: not other engines', nor those in assets.extra."""
    return sum(file.stat().st_size for file in directory.rglob("*")
               if file.is_file() and EXTRA not in file.relative_to(directory).parts and file != directory / TFLITE)


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The content of a version's manifest; None if it has no readable one."""
    try:
        found = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


class NoModelError(UserError):
    """A directory that holds neither saved_model.pb nor saved_model.pbtxt."""


class DamagedModelError(UserError):
    """A model file that cannot be parsed. `file` is its path."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} cannot be parsed, so it is truncated or corrupted; copy it again")
        self.file = file


def read_model(directory: Path, message: Any) -> Path:
    """Parses the directory's model file into `message`, an empty SavedModel message, and returns the file's path.

    The caller passes the message, so that this module needs no TensorFlow and works with every SavedModel class.
    Raises NoModelError, DamagedModelError, and OSError for a file that may not be read.
    """
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    file = model_file(directory)
    if file is None:
        raise NoModelError(f"{directory} is no SavedModel: it has no saved_model.pb or saved_model.pbtxt")
    try:
        if file.suffix == ".pb":
            message.ParseFromString(file.read_bytes())
        else:
            text_format.Parse(file.read_text(encoding="utf-8"), message)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise DamagedModelError(file) from error
    return file


def newest(base: Path) -> Path | None:
    """The newest version in a base path that is a SavedModel; None without one."""
    return next((path for path in reversed(versions(base).values()) if model_file(path)), None)
