"""Errors about files of an engine that are not as they were made."""
import hashlib
from pathlib import Path

from serving.errors import Code, ServingError


def damaged(file: Path, reason: str, engine: str) -> ServingError:
    """The error for a file that an engine cannot use."""
    return ServingError(Code.DATA_LOSS, f"{file} cannot be used: {reason}", again(engine))


def again(engine: str) -> str:
    """The advice about files of an engine that are missing or damaged."""
    return f"Copy the whole version again, or make it again: python -m export optimize ... --engine {engine}."


def check_digest(file: Path, content: bytes, digest: object, listed_in: str, engine: str) -> None:
    """Raises ServingError if the content of `file` is not what `digest` (SHA-256 in hexadecimal) was made of."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise damaged(file, f"it was cut or altered (its SHA-256 is not the one in {listed_in})", engine)
