"""The original Graph Transform Tool, for comparison: the C++ code that is still in the TensorFlow wheel.

It runs in a child process, since it aborts the process on some graphs (CHECK failures). The call then raises
`ToolAborted`, and the next call starts a new process. For tests only.

    transformed = ORACLE.transform(graph_def, ["x"], ["y"], "fold_constants")
"""
import atexit
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

_HEADER = 8


class ToolError(Exception):
    """The tool returned an error."""


class ToolAborted(Exception):  # noqa: N818 (the tool aborted without reporting an error)
    """The tool aborted its process."""


class Oracle:
    """One child process, started at the first call."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def transform(self, graph_def: Any, inputs: Sequence[str], outputs: Sequence[str], transforms: str) -> Any:
        """The tool's GraphDef. Raises ToolError or ToolAborted."""
        if self._child is None:
            self._child = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                           stderr=subprocess.DEVNULL)
            atexit.register(self.close)
        request = pickle.dumps((graph_def.SerializeToString(), ",".join(inputs), ",".join(outputs), transforms))
        assert self._child.stdin
        assert self._child.stdout
        try:
            self._child.stdin.write(len(request).to_bytes(_HEADER, "big") + request)
            self._child.stdin.flush()
            header = self._child.stdout.read(_HEADER)
        except BrokenPipeError:
            header = b""
        if len(header) < _HEADER:
            self.close()
            raise ToolAborted(transforms)
        error, content = pickle.loads(self._child.stdout.read(int.from_bytes(header, "big")))
        if error:
            raise ToolError(error)
        return type(graph_def).FromString(content)

    def close(self) -> None:
        if self._child is not None:
            child, self._child = self._child, None
            child.kill()
            for stream in (child.stdin, child.stdout):
                assert stream
                # Closing flushes the buffer, but the process that would read it has ended.
                with suppress(BrokenPipeError):
                    stream.close()
            child.wait()


ORACLE = Oracle()


def _serve() -> None:
    replies = os.fdopen(os.dup(1), "wb")
    # The tool and TensorFlow may print to stdout: that must not mix with the replies.
    os.dup2(2, 1)
    import tensorflow  # noqa: F401  (registers the ops)
    from tensorflow.python.util import _pywrap_transform_graph
    while header := sys.stdin.buffer.read(_HEADER):
        request = pickle.loads(sys.stdin.buffer.read(int.from_bytes(header, "big")))
        try:
            reply = ("", _pywrap_transform_graph.TransformGraphWithStringInputs(*request))
        except Exception as error:  # noqa: BLE001 (any error of the tool is returned to the caller)
            reply = (str(error) or type(error).__name__, b"")
        content = pickle.dumps(reply)
        replies.write(len(content).to_bytes(_HEADER, "big") + content)
        replies.flush()


if __name__ == "__main__":
    _serve()
