"""OpenVINO, imported without the part of it that reports its use, and what it says in words of this project."""
import re
import sys
from functools import cache
from typing import Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402

__all__ = ["core", "openvino", "reason_of", "shape_of"]
_SOURCE_LINE = re.compile(r" failed at \S+:\d+:")
_LONGEST_REASON = 300


@cache
def core() -> Any:
    """OpenVINO's devices, once for the process."""
    return openvino.Core()


def shape_of(port: Any) -> tuple[int, ...] | None:
    """The shape of an input or output of a graph; -1: any size; None: any rank."""
    shape = port.get_partial_shape()
    return None if shape.rank.is_dynamic else tuple(-1 if size.is_dynamic else size.get_length() for size in shape)


def reason_of(error: Exception) -> str:
    """What OpenVINO says, in one line, without its source files."""
    lines = [_SOURCE_LINE.sub("", line).strip() for line in str(error).splitlines()]
    said = ": ".join(line for line in lines if line and not line.startswith(("Exception from ", "Caught exception: ")))
    return said[:_LONGEST_REASON]
