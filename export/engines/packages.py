"""The packages that engines need: which are installed, and what to do about one that is not."""
from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version

# By engine: what runs it, by the names of the distribution and of the module; and what makes its int8.
_NEEDED = {"litert": {"ai-edge-litert": "ai_edge_litert"}, "openvino": {"openvino": "openvino"}}
_FOR_INT8 = {"litert": {}, "openvino": {"nncf": "nncf"}}


def of(engine: str | None, all_engines: bool = False) -> list[str]:
    """The distributions on which the result depends."""
    engines = list(_NEEDED) if all_engines else [engine] if engine else []
    return [name for one in engines for name in (*_NEEDED[one], *_FOR_INT8[one])]


def why_missing(engine: str, precision: str) -> str:
    """Which package is missing and how to install it, in one sentence; "" if all are there. Imports nothing."""
    needed = {**_NEEDED[engine], **(_FOR_INT8[engine] if precision == "int8" else {})}
    for name, module in needed.items():
        if importlib.util.find_spec(module) is None:
            return f"the package {name} is not installed; install it with: pip install -e '.[{engine}]'"
    return ""


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
