"""The judge: equal canaries pass, worse ones are refused soon, and without evidence nothing is said."""
import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from canaries import Canary, recordings, trials
from hypothesis import given
from hypothesis import strategies as st

from serving.promotion import settings
from serving.promotion.judge import Again, Bench, Judgement, Trial, Verdict, judge
from serving.promotion.settings import DEFAULTS

LIMITS = settings.read(DEFAULTS.parent).bake
RECORDED = recordings()
EACH, LONGEST = 4, 2500
NEVER = 10**6


def _judged(canary: Canary, each: int = EACH, longest: int = LONGEST) -> list[Judgement]:
    """Of each recording so many."""
    return [judge(trials(recorded, canary, longest, seed), LIMITS)
            for recorded in RECORDED.values() for seed in range(each)]


def _stopped(found: list[Judgement]) -> float:
    """The median of the requests until it was refused."""
    return statistics.median(one.figures["requests"] if one.verdict is Verdict.ABORT else NEVER for one in found)


@pytest.mark.parametrize("canary", [
    Canary(), Canary(process=1.3), Canary(fresh=1.15), Canary(tail="fresh"), Canary(slower=0.7), Canary(all_fail=0.001),
    Canary(all_fail=0.02), Canary(all_fail=0.2), Canary(all_differ=0.02), Canary(all_differ=0.02, controlled=False),
    Canary(controlled=False), Canary(no_control=0.5), Canary(no_control=1.0)], ids=str)
def test_what_differs_between_equals_is_no_reason(canary: Canary) -> None:
    assert Counter(one.verdict for one in _judged(canary))[Verdict.ABORT] == 0


def test_an_equal_canary_often_passes_before_the_time_is_over() -> None:
    verdicts = Counter(one.verdict for one in _judged(Canary()))
    assert verdicts[Verdict.PROMOTE] >= EACH * len(RECORDED) // 2


@pytest.mark.parametrize(("canary", "most", "words"), [
    (Canary(slower=1.1), 1500, "is slower: ratio 0.9"), (Canary(slower=1.1, process=1.3), 1500, "is slower"),
    (Canary(slower=1.1, controlled=False), 1500, "is slower"), (Canary(tail="wide"), 1500, "99th percentile"),
    (Canary(tail="top"), 1500, "99th percentile"), (Canary(tail="share"), 2500, "99th percentile"),
    (Canary(fails=0.01), 400, "fails requests"), (Canary(fails=0.2), 25, "fails requests"),
    (Canary(differs=0.02), 400, "answers otherwise")], ids=str)
def test_a_worse_canary_is_refused_soon(canary: Canary, most: int, words: str) -> None:
    found = _judged(canary)
    assert _stopped(found) <= most
    assert any(words in one.words for one in found)
    assert not any(one.verdict is Verdict.PROMOTE and not canary.tail for one in found)


def test_a_canary_that_is_slower_by_less_than_allowed_is_not_refused() -> None:
    assert not any(one.verdict is Verdict.ABORT for one in _judged(Canary(slower=1.03)))


NOTHING = Trial(None, None, (0.001, 0.001), None)


@pytest.mark.parametrize(("seen", "words"), [
    ([], "there was no traffic"), ([NOTHING] * 50, "the canary answered none of 50"),
    ([Trial(0.001, None, agrees=None)] * 2, "the canary answered none of 2")])
def test_without_traffic_nothing_passes_by_silence(seen: list[Trial], words: str) -> None:
    found = judge(seen, LIMITS)
    assert (found.verdict, found.doubtful) == (Verdict.LOOK, True)
    assert words in found.words
    assert not found.figures


def test_requests_that_stable_does_not_answer_either_say_nothing() -> None:
    found = judge([NOTHING] * 500 + [Trial(0.001, 0.001, (0.001, 0.001))], LIMITS)
    assert found.verdict is Verdict.LOOK
    assert (found.figures["failed_alone"], found.doubtful) == (0, False)


GOOD, BAD, OTHER = Trial(0.001, 0.001), Trial(0.001, None, agrees=None), Trial(0.001, 0.001, agrees=False)


@pytest.mark.parametrize(("seen", "doubtful"), [
    ([GOOD] * 50 + [BAD], False), ([GOOD] * 50 + [BAD] * 2, True), ([GOOD] * 50 + [OTHER] * 2, True)])
def test_a_canary_that_failed_alone_is_not_trusted_when_nothing_is_certain(seen: list[Trial], doubtful: bool) -> None:
    found = judge(seen, LIMITS)
    assert (found.verdict, found.doubtful) == (Verdict.LOOK, doubtful)
    assert ("but it " in found.words) is doubtful


def test_stable_is_asked_more_often_once_something_has_befallen_the_canary() -> None:
    for what in (BAD, OTHER):
        bench = Bench(LIMITS)
        bench.look(GOOD)
        assert bench.stable_times == 1
        bench.look(what)
        assert bench.stable_times == 10


@pytest.mark.parametrize("lost", [(None, None), (0.001, None)])
def test_a_control_that_is_lost_leaves_stable_to_compare_with(lost: Any) -> None:
    for canary, refused in ((Canary(slower=1.2), True), (Canary(all_fail=0.05), False), (Canary(), False)):
        whole = list(trials(RECORDED["mnist"], canary, 1000, 0))
        found = judge([*whole[:40], *(replace(one, control=lost) for one in whole[40:])], LIMITS)
        assert (found.verdict is Verdict.ABORT) is refused


@pytest.mark.parametrize("name", ["least_ratio", "max_error_ratio"])
def test_a_limit_of_zero_is_the_strictest_share_and_no_ratio_at_all(name: str) -> None:
    limits = replace(LIMITS, **{name: 0.0})
    slow = judge(trials(RECORDED["mnist"], Canary(slower=2.0), 500, 0), limits)
    assert (slow.verdict is Verdict.ABORT) is (name != "least_ratio")
    failing = judge(trials(RECORDED["mnist"], Canary(fails=0.02), 1000, 0), limits)
    assert failing.verdict is Verdict.ABORT


SECONDS, MAYBE = st.none() | st.floats(1e-6, 1e3), st.none() | st.booleans()
AGAIN = st.lists(st.builds(Again, st.booleans(), MAYBE), max_size=9).map(tuple)


@given(st.lists(st.builds(Trial, SECONDS, SECONDS, st.tuples(SECONDS, SECONDS), MAYBE, AGAIN),
                max_size=150))
def test_whatever_is_seen_there_is_a_judgement_and_the_same_one_again(seen: list[Trial]) -> None:
    found = judge(seen, LIMITS)
    assert found == judge(seen, LIMITS)
    assert found.words
