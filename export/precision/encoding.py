"""How eight bits stand for real numbers: real = q * step - offset."""
from __future__ import annotations

from dataclasses import dataclass

from export.tensors import QINT8, QUINT8, DType

# Below this a range is widened: the kernels divide by it, and nothing that small changes an answer.
_LEAST_TOP = 1e-5


@dataclass(frozen=True)
class Encoding:  # decision 190
    """quint8 with q in 0..255, or (`signed`) qint8 with q in -127..127; the largest q stands for `top` - `offset`.

    `offset` is for unsigned numbers only. It makes room for negative values, and is taken back in the bias of the next
    contraction, which must not pad: a padded 0 would stand for -offset.
    """

    top: float
    signed: bool = False
    offset: float = 0.0

    @property
    def dtype(self) -> DType:
        return QINT8 if self.signed else QUINT8

    @property
    def bottom(self) -> float:
        """What the kernels are told as the minimum."""
        return -self.top if self.signed else 0.0

    @property
    def step(self) -> float:
        return self.top / (127 if self.signed else 255)


def encoding_of(low: float, high: float, pads: bool) -> Encoding:
    """The finest encoding of values from `low` to `high`. `pads`: zeros are put beside them, so 0 must be q = 0."""
    if low >= 0:
        return Encoding(max(high, _LEAST_TOP))
    if pads:
        return Encoding(max(-low, high, _LEAST_TOP), signed=True)
    # A whole number of steps, as the matrix products round it; 0 is then a number of its own too.
    high = max(high, 0)  # QuantizeV2's ranges always hold 0
    step = max(high - low, _LEAST_TOP) / 255
    return Encoding(255 * step, offset=round(-low / step) * step)
