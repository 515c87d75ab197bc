"""What became of one contraction: the precision it runs in now, and why not a lower one."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Precision = Literal["float32", "bfloat16", "int8"]
FULL: Precision = "float32"


@dataclass(frozen=True)
class Layer:
    """`node`: the contraction's name in the float32 graph. `reason`: why it stays in a higher precision than asked; or,
    of one that does not, why the addition after it does."""

    node: str
    op: str
    precision: Precision
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"node": self.node, "op": self.op, "precision": self.precision,
                **({"reason": self.reason} if self.reason else {})}


def counted(layers: Sequence[Layer]) -> dict[str, int]:
    """How many layers run in each precision, for a line such as "52 int8, 1 float32"."""
    return dict(Counter(layer.precision for layer in layers))
