"""Measures which of several variants of a model is faster. Use from Python: docs/python.md."""
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.measured import Measured
    from benchmark.side_by_side import compare

# decision 152: a name is imported when it is first used, so that importing the package costs nothing.
_HOMES = {"compare": "benchmark.side_by_side", "Measured": "benchmark.measured"}
__all__ = ["Measured", "compare"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
