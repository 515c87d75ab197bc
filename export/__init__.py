"""A trained model -> Graph -> transforms -> versioned SavedModel. From Python: docs/python.md."""
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.equivalence import Report
    from export.optimization import optimize
    from export.outcome import NotEqualError, Optimized, RefusedError
    from export.verification import verify

# decision 152: a name is imported when it is first used, so that importing the package costs nothing.
_HOMES = {"optimize": "export.optimization", "Optimized": "export.outcome",
          "NotEqualError": "export.outcome", "RefusedError": "export.outcome", "verify": "export.verification",
          "Report": "export.equivalence"}
__all__ = ["NotEqualError", "Optimized", "RefusedError", "Report", "optimize", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
