"""The client's loop of 20 calls, in process and around a served connection, answers as the loop in the graph does."""
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import g2p_oracle
import numpy as np
import pytest

from benchmark.targets.client_loop import ClientLoop, predicted
from benchmark.targets.connections import Connection
from benchmark.targets.starting import Instance, start_all
from benchmark.targets.target import find_target
from export.zoo.build import command
from export.zoo.g2p_words import END, STEPS, WORDS, graphemes
from user_error import FailedError, UserError

pytestmark = pytest.mark.slow

WAYS = ("grpc", "rest", "in-process")


@pytest.fixture(scope="module")
def weights() -> g2p_oracle.Weights:
    return g2p_oracle.random_weights(0)


@pytest.fixture(scope="module")
def models(weights: g2p_oracle.Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    file = g2p_oracle.written(weights, made / "weights.npz")
    for form in ("article", "serving"):
        command.main(["g2p", "--form", form, "--weights", str(file), "--to", str(made)], standalone_mode=False)
    return made


@pytest.fixture(scope="module")
def instances(models: Path) -> Iterator[dict[str, Instance]]:
    served = find_target("original", models, "g2p")
    alone = replace(find_target("session:original", models, "g2p"), kind="client-loop", threads=1, name="alone")
    with start_all([served, alone], 1) as started:
        yield {name: own for name, (own,) in started.items()}


def connected(way: str, instances: dict[str, Instance]) -> Connection:
    if way == "in-process":
        return instances["alone"].connect(way)
    return ClientLoop(instances["original"].connect(way))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [1, 5])
def test_a_request_is_answered_as_by_the_loop_in_the_graph(
        way: str, rows: int, instances: dict[str, Instance], weights: g2p_oracle.Weights) -> None:
    letters = graphemes(WORDS[:rows])
    with closing(connected(way, instances)) as connection:
        signature = connection.signature()
        assert [*signature.inputs] == ["grapheme"]
        assert [*signature.outputs] == ["phoneme"]
        assert "20 requests" in connection.measured_by or way == "in-process"
        seconds, raw = connection.timed(connection.prepare({"grapheme": letters}))
        answer = connection.decode(raw)["phoneme"]
    assert seconds > 0
    assert answer.dtype == np.int32
    np.testing.assert_array_equal(answer, g2p_oracle.answers(weights, letters))


def test_a_call_gets_what_was_predicted_before_it() -> None:
    calls = []

    def call(given: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        calls.append(symbols.copy())
        return np.full((2, STEPS), END if len(calls) == 4 else 100 + len(calls), np.int32)

    answer = predicted(call, np.zeros((2, STEPS), np.int32))
    assert len(calls) == STEPS
    assert calls[0].sum() == 0
    assert calls[6].tolist() == [[101, 102, 103, END, 105, 106] + [0] * 14] * 2
    assert answer.tolist() == [[101, 102, 103] + [END] * 17] * 2


def test_a_model_that_is_called_in_another_way_is_refused(models: Path) -> None:
    serving = find_target("serving", models, "g2p")
    with start_all([serving], 1) as started, closing(ClientLoop(started["serving"][0].connect("grpc"))) as connection, \
            pytest.raises(UserError, match="a signature grapheme, phoneme -> preds; this one is grapheme -> phoneme"):
        connection.signature()
    alone = replace(find_target("session:serving", models, "g2p"), kind="client-loop", name="alone")
    with pytest.raises(FailedError, match="a signature grapheme, phoneme -> preds; this is grapheme -> phoneme"), \
            start_all([alone], 1):
        pass


def test_a_signature_that_is_missing_is_named(models: Path) -> None:
    other = replace(find_target("session:original", models, "g2p"), kind="client-loop", name="alone", signature="other")
    with pytest.raises(FailedError, match="no signature 'other': there are serving_default"), start_all([other], 1):
        pass
