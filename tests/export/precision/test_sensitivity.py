"""The search for the layers that go back to a higher precision: by a made-up loss of each layer."""
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.precision.sensitivity import MOST, Found, OutsideError, Verdict, search


def losing(losses: Mapping[str, float], budget: float, base: float = 0.0
           ) -> tuple[Callable[[frozenset[str]], Verdict], list[frozenset[str]]]:
    """An evaluation that adds up the losses of the layers that are not kept, and the sets that it was asked."""
    asked: list[frozenset[str]] = []

    def evaluate(kept: frozenset[str]) -> Verdict:
        asked.append(kept)
        lost = base + sum(loss for name, loss in losses.items() if name not in kept)
        return Verdict(lost <= budget, f"lost {lost:g}", {"lost": lost})
    return evaluate, asked


def layers(count: int) -> list[str]:
    return [f"conv{number}" for number in range(count)]


def test_nothing_goes_back_if_nothing_is_lost() -> None:
    evaluate, asked = losing(dict.fromkeys(layers(9), 0.01), 0.5)
    found = search(evaluate, layers(9))
    assert found.kept == ()
    assert asked == [frozenset()]
    assert found.sentence == "no layer goes back: lost 0.09"


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_the_one_layer_that_ruins_the_model_goes_back(count: int) -> None:
    evaluate, asked = losing({layers(count)[0]: 30.0}, 0.5)
    found = search(evaluate, layers(count))
    assert found.kept == ("conv0",)
    assert asked == [frozenset(), {"conv0"}]
    assert found.sentence == "1 layer goes back (conv0): lost 30 -> lost 0, 2 trials"


@pytest.mark.parametrize("bad", range(1, 40))
def test_the_fewest_of_the_worst_layers_go_back(bad: int) -> None:
    """100 layers, of which the first `bad` lose too much: found within the trials, to one layer if they are many."""
    evaluate, asked = losing(dict.fromkeys(layers(100)[:bad], 1.0), 0.5)
    found = search(evaluate, layers(100))
    assert found.kept == tuple(layers(100)[:len(found.kept)])
    assert len(found.kept) == bad or (bad > 32 and len(found.kept) == bad + 1)
    assert len(asked) <= MOST


def test_layers_that_are_not_to_blame_return() -> None:
    evaluate, _ = losing({"conv5": 9.0}, 0.5)
    assert search(evaluate, layers(12)).kept == ("conv5",)
    evaluate, _ = losing({"conv0": 3.0, "conv6": 9.0}, 0.5)
    assert set(search(evaluate, layers(12), most=20).kept) == {"conv0", "conv6"}


def test_a_model_that_loses_too_much_with_all_layers_back_is_refused() -> None:
    evaluate, asked = losing(dict.fromkeys(layers(5), 1.0), 0.5, base=2.0)
    with pytest.raises(OutsideError, match=r"even with all 5 layers in the higher precision: lost 2; allow more with "
                                           r"--max-accuracy-drop or --max-error") as raised:
        search(evaluate, layers(5))
    assert [len(one.kept) for one in raised.value.trials] == [0, 1, 2, 4, 5]
    assert len(asked) == 5


def test_the_last_trial_is_of_all_layers() -> None:
    evaluate, asked = losing({layers(100)[99]: 1.0}, 0.5)
    assert search(evaluate, layers(100), most=4).kept == tuple(layers(100))
    assert [len(kept) for kept in asked] == [0, 1, 2, 100]


def test_a_graph_without_layers_is_refused_if_it_loses() -> None:
    evaluate, _ = losing({}, 0.5, base=1.0)
    with pytest.raises(OutsideError, match="all 0 layers"):
        search(evaluate, [])


def test_the_trials_are_in_the_report_in_order() -> None:
    evaluate, asked = losing({"conv1": 9.0}, 0.5)
    found = search(evaluate, layers(4))
    assert [frozenset(one.kept) for one in found.trials] == asked
    assert found.trials[0].to_json() == {"kept": [], "within": False, "measured": "lost 9", "lost": 9.0}


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_found_keeps_the_budget_in_few_trials_and_again(data: Any) -> None:
    """For any losses and any order of the layers, also one that has nothing to do with the losses."""
    losses = data.draw(st.dictionaries(st.sampled_from(layers(30)), st.floats(0, 5), max_size=30))
    ranked = data.draw(st.permutations(layers(30)))
    budget = data.draw(st.floats(0.01, 5))

    def run() -> tuple[Found, list[frozenset[str]]]:
        evaluate, asked = losing(losses, budget)
        return search(evaluate, ranked), asked
    found, asked = run()
    assert sum(loss for name, loss in losses.items() if name not in found.kept) <= budget
    assert len(asked) == len(set(asked)) <= MOST
    assert run() == (found, asked)
