"""Every number in a range is within half a step of the number that eight bits stand for."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.precision.encoding import Encoding, encoding_of
from export.tensors import QINT8, QUINT8

_NUMBERS = st.floats(-1e6, 1e6, width=32)


def _stands_for(encoding: Encoding, values: np.ndarray) -> np.ndarray:
    low, high = (-127, 127) if encoding.signed else (0, 255)
    return np.clip(np.round((values + encoding.offset) / encoding.step), low, high) * encoding.step - encoding.offset


@settings(max_examples=300, deadline=None)
@given(_NUMBERS, _NUMBERS, st.booleans())
def test_half_a_step_at_most(a: float, b: float, pads: bool) -> None:
    low, high = sorted((a, b))
    encoding = encoding_of(low, high, pads)
    values = np.linspace(low, high, 301)
    # A range far from 0 is encoded from 0 on if nothing is negative; an offset may cut half a step at an end.
    assert np.abs(_stands_for(encoding, values) - values).max() <= encoding.step * 0.5001 + 1e-9
    assert encoding.step > 0


@settings(max_examples=100, deadline=None)
@given(_NUMBERS, _NUMBERS, st.booleans())
def test_zero_is_exact_where_it_is_padded_or_in_the_range(a: float, b: float, pads: bool) -> None:
    low, high = sorted((a, b))
    if pads or low <= 0 <= high:
        assert _stands_for(encoding_of(low, high, pads), np.zeros(1))[0] == pytest.approx(0, abs=1e-9)


def test_which_type() -> None:
    assert encoding_of(0, 5, pads=True) == Encoding(5)
    assert encoding_of(0, 5, pads=True).dtype == QUINT8
    assert encoding_of(-2, 5, pads=True) == Encoding(5, signed=True)
    assert encoding_of(-2, 5, pads=True).dtype == QINT8
    shifted = encoding_of(-2, 5, pads=False)
    assert not shifted.signed
    assert shifted.offset == pytest.approx(2, abs=shifted.step / 2)
    assert encoding_of(-2, 5, pads=False).step < encoding_of(-2, 5, pads=True).step


def test_a_range_of_one_number() -> None:
    for low, high in ((0.0, 0.0), (3.0, 3.0), (-3.0, -3.0)):
        for pads in (False, True):
            encoding = encoding_of(low, high, pads)
            assert encoding.step > 0
            assert _stands_for(encoding, np.asarray([low]))[0] == pytest.approx(low, abs=encoding.step)
