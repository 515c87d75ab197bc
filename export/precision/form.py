"""What an int8 graph is made for: batch sizes, and the CPU's instructions."""
from __future__ import annotations

from dataclasses import dataclass

from cpu_class import CpuClass

_EIGHT_BITS, _SEVEN_BITS = 127, 63


@dataclass(frozen=True)
class Form:
    """`rows`: convolutions of one pixel are products of rows, which is faster for single images and not for many.

    `largest_weight`: what a channel's largest weight becomes. Without VNNI the kernels add two products of eight bits
    in 16 bits, where 2 * 255 * 127 overflows and 2 * 255 * 63 does not.  # decision 194
    """

    rows: bool = False
    largest_weight: int = _EIGHT_BITS


def form_for(cpu: CpuClass, rows: bool = False) -> Form:
    """The form for a class of CPU."""
    return Form(rows, _EIGHT_BITS if cpu.has_int8 else _SEVEN_BITS)
