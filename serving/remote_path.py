"""Paths with a scheme (gs://bucket/model, ram://model): read through TensorFlow's file systems, as the original does.

TensorFlow is imported at the first read of such a path. Plain paths and file:// are read without it.
"""
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PosixPath
from typing import Any
from urllib.parse import urlsplit

from commandline import quiet
from serving.errors import Code

_SCHEME = re.compile(r"([a-zA-Z][0-9a-zA-Z.]*)://")  # TensorFlow's io::ParseURI
# pathlib would make one slash of several; no path has a NUL.
_SLASHES = ":\0\0"
# What another look at the same storage does not change.
_LASTING = (Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED)


def is_uri(text: str) -> bool:
    """Whether TensorFlow reads `text` as a URI."""
    return _SCHEME.match(text) is not None


def path_of(text: str) -> Path:
    """A path as TensorFlow reads it: of a file:// URI the path (the host is ignored); RemotePath for other schemes."""
    found = _SCHEME.match(text)
    if found is None:
        return Path(text)
    if found[1] == "file":
        # Not unquoted: TensorFlow uses the path of a URI unchanged.
        return Path("/" + urlsplit(text, allow_fragments=False).path.lstrip("/"))
    return RemotePath(text.replace("://", _SLASHES, 1))


def is_away(code: Code) -> bool:
    """Whether a storage that answers so may answer otherwise later: it cannot be reached, or is overloaded."""
    return code not in _LASTING


class StorageError(OSError):
    """A storage does not give what was asked for. `code` and `strerror` are TensorFlow's."""

    def __init__(self, code: Code, message: str, path: "RemotePath") -> None:
        super().__init__(None, " ".join(message.split()) or "no such file or directory", str(path))
        self.code = code

    @property
    def advice(self) -> str:
        """What to do about it."""
        scheme = str(self.filename).partition("://")[0]
        if self.code is Code.UNIMPLEMENTED:
            known = sorted(name for name in _gfile().get_registered_schemes() if name)
            return (f"The installed TensorFlow reads {', '.join(known)}; s3 and hdfs come with the package "
                    "tensorflow-io, which this server does not load. Mount or copy the files, and give their "
                    "directory.")
        if self.code in (Code.PERMISSION_DENIED, Code.UNAUTHENTICATED):
            return (f"Give the server credentials that may list and read {scheme}:// there (for gs: "
                    "GOOGLE_APPLICATION_CREDENTIALS).")
        if is_away(self.code):
            return f"See whether this machine reaches the storage of {scheme}://."
        return ""


class RemotePath(PosixPath):  # decision 143
    """The methods of Path that read, for a path on a file system of TensorFlow. They raise StorageError."""

    def __str__(self) -> str:
        return super().__str__().replace("\0", "/")

    def __fspath__(self) -> str:
        return str(self)

    def exists(self, **_: Any) -> bool:
        with self._reading() as files:
            return bool(files.exists(str(self)))

    def is_dir(self, **_: Any) -> bool:
        with self._reading() as files:
            return bool(files.isdir(str(self)))

    def is_file(self, **_: Any) -> bool:
        return self.exists() and not self.is_dir()

    def iterdir(self) -> Iterator[Path]:  # type: ignore[override]
        # Asked first, since some storages list a missing directory as empty.
        if not self.exists():
            raise StorageError(Code.NOT_FOUND, "", self)
        with self._reading() as files:
            # Object stores list directories with a slash, and may list what is in them too.
            names = dict.fromkeys(name.partition("/")[0] for name in files.listdir(str(self)))
        return iter([self / name for name in names])

    def read_bytes(self) -> bytes:
        with self._reading() as files, files.GFile(str(self), "rb") as file:
            content: bytes = file.read()
            return content

    def read_text(self, encoding: str | None = None, errors: str | None = None, *_: Any, **__: Any) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """The whole content; only mode "rb"."""
        assert mode == "rb"
        return io.BytesIO(self.read_bytes())

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        files = _gfile()
        from tensorflow.errors import OpError
        try:
            yield files
        except OpError as error:
            raise StorageError(Code(error.error_code), error.message, self) from None


@cache
def _gfile() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import tensorflow as tf
    return tf.io.gfile
