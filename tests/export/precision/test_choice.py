"""Which candidate is chosen, from made-up measurements."""
import pytest

from export.precision.choice import FLOAT32, ORIGINAL, Ratio, choose, mean, not_faster


def ratio(value: float, verdict: str = "", width: float = 0.02, floor: float = 0.01, why: str = "") -> Ratio:
    low, high = value * (1 - width), value * (1 + width)
    found = "faster" if low > 1 + floor else "slower" if high < 1 - floor else "cannot tell"
    return Ratio(value, low, high, floor, verdict or found, why)  # type: ignore[arg-type]


FAST, SLOW, UNKNOWN = ratio(2.0), ratio(0.5), ratio(1.005)


def test_the_fastest_by_the_geometric_mean_is_chosen_and_the_others_say_why_not() -> None:
    found = choose({
        FLOAT32: {1: ratio(1.2), 100: ratio(1.1)},
        "bfloat16": {1: ratio(1.5), 100: ratio(3.0)},  # 2.12
        "int8": {1: ratio(4.0), 100: ratio(1.2)},  # 2.19
    })
    assert found.name == "int8"
    assert found.why == "int8 is the fastest: 4.00 [3.92-4.08] at batch 1, 1.20 [1.18-1.22] at batch 100"
    assert found.lost == {
        FLOAT32: "slower than int8: in the geometric mean of its ratios 1.15, not 2.19",
        "bfloat16": "slower than int8: in the geometric mean of its ratios 2.12, not 2.19"}


def test_one_batch_size_at_which_it_is_not_faster_is_enough_to_lose() -> None:
    found = choose({FLOAT32: {1: ratio(1.1), 100: ratio(1.1)}, "int8": {1: ratio(0.9), 100: ratio(5.0)}})
    assert found.name == FLOAT32
    assert found.lost["int8"] == ("not proven faster than the original: 0.90 [0.88-0.92] at batch 1, noise floor ±1.0%")


@pytest.mark.parametrize("bad", [
    ratio(1.5, "cannot tell", floor=0.6),  # the whole interval is above 1, but within the noise of equal processes
    Ratio(1.5, 0.9, 2.5, 0.01, "faster"),  # a verdict that its interval does not bear out
    ratio(1.5, "cannot tell", why="A/A differs: two equal processes of session:int8 are 40.0% apart"),
])
def test_what_may_be_noise_is_not_faster(bad: Ratio) -> None:
    found = choose({FLOAT32: {1: ratio(1.0)}, "int8": {1: bad}})
    assert found.name == FLOAT32
    assert bad.why_invalid in found.lost["int8"]


def test_without_a_faster_candidate_float32_is_chosen_if_it_is_not_slower() -> None:
    for own in (UNKNOWN, ratio(0.999)):
        found = choose({FLOAT32: {1: own, 8: UNKNOWN}, "int8": {1: SLOW, 8: FAST}})
        assert found.name == FLOAT32
        assert found.why == "no candidate is faster than the original at every batch size: float32 is not slower"


def test_the_original_is_chosen_if_float32_is_slower_too() -> None:
    found = choose({FLOAT32: {1: FAST, 8: SLOW}, "int8": {1: SLOW, 8: SLOW}})
    assert found.name == ORIGINAL
    assert "float32 is slower: 2.00 [1.96-2.04] at batch 1, 0.50 [0.49-0.51] at batch 8" in found.why
    assert "the original is published unchanged" in found.why
    assert found.lost.keys() == {FLOAT32, "int8"}


def test_the_original_is_chosen_if_there_is_no_candidate() -> None:
    assert choose({}).name == ORIGINAL
    assert choose({"int8": {1: SLOW}}).name == ORIGINAL


def test_the_mean_is_geometric() -> None:
    assert mean({1: ratio(2.0), 100: ratio(0.5)}) == pytest.approx(1.0)


def test_a_figure_and_its_interval_are_named_for_the_first_batch_size_that_is_not_faster() -> None:
    assert not_faster({1: FAST, 8: FAST}) == ""
    assert not_faster({1: FAST, 8: UNKNOWN, 32: SLOW}) == "1.00 [0.98-1.03] at batch 8, noise floor ±1.0%"
