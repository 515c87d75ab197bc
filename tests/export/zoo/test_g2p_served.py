"""The compiled form of g2p behind the server: right with XLA allowed, and never served where it is not."""
from contextlib import closing
from dataclasses import replace

import g2p_oracle
import numpy as np
import pytest

from benchmark.targets.starting import start_all
from benchmark.targets.target import Target, find_target
from export.zoo.build import command
from export.zoo.g2p_words import WORDS, graphemes
from user_error import FailedError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Target:
    made = tmp_path_factory.mktemp("models")
    file = g2p_oracle.written(g2p_oracle.random_weights(0), made / "weights.npz")
    command.main(["g2p", "--form", "serving_xla", "--weights", str(file), "--to", str(made)], standalone_mode=False)
    return find_target("serving_xla", made, "g2p")


def test_with_xla_allowed_every_batch_size_is_right(served: Target) -> None:
    weights, letters = g2p_oracle.random_weights(0), graphemes(WORDS)
    allowed = replace(served, flags=("--xla_cpu_compilation_enabled",))
    with start_all([allowed], 1) as started, closing(started["serving_xla"][0].connect("grpc")) as connection:
        # More often than a run needs to be known as quick, and then in the thread that has the request.
        for first, rows in enumerate((1, 2, 3, 4, 5, 33, *[1] * 12, 4, 3)):
            batch = letters[first:first + rows]
            _, raw = connection.timed(connection.prepare({"grapheme": batch}))
            np.testing.assert_array_equal(connection.decode(raw)["phoneme"], g2p_oracle.answers(weights, batch))


def test_where_xla_is_not_allowed_the_warm_up_keeps_it_from_being_served(served: Target) -> None:
    with pytest.raises(FailedError, match="asks for XLA: start the server with --xla_cpu_compilation_enabled"), \
            start_all([served], 1):
        pass
