"""The client's loop of a model that predicts one symbol a call: 20 calls are one request.

    call j: the whole word and the j symbols predicted so far -> 20 symbols, of which number j is taken

It is how an autoregressive model is used whose graph has no loop over its own answers. `ClientLoop` puts the loop
around a connection to a server, benchmark.targets.in_process.client_loop around a v1 Session.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmark.targets.connections import Connection
from benchmark.targets.turns import Turn, turn
from serving.client.payloads import Array, Arrays
from serving.client.protocol import Signature
from user_error import UserError

STEPS = 20
END = 3  # the symbol that ends an answer
GIVEN, GROWING, PREDICTED, ANSWER = "grapheme", "phoneme", "preds", "phoneme"


def predicted(call: Callable[[Array, Array], Array], given: Array) -> Array:
    """All 20 symbols of each row, int32 [N,20], as a model with the loop in its graph answers: END after END.

    call: (given, symbols so far, 0 behind them) -> symbols int32 [N,20].
    """
    symbols = np.zeros((len(given), STEPS), np.int32)
    for number in range(STEPS):
        symbols[:, number] = call(given, symbols)[:, number]
    return np.where(np.logical_or.accumulate(symbols == END, 1), np.int32(END), symbols)


class ClientLoop:  # decision 224
    """A connection whose requests are 20 requests to a served model each.

    What it measures is the sum of their times: from when a request is sent until its answer is there. To make the
    requests and to decode the answers is the client's work, and not in it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.measured_by = f"{STEPS} requests, one after the other; each: {connection.measured_by}"

    def signature(self) -> Signature:
        """grapheme -> phoneme. Raises UserError if the served model is not called so."""
        called = self._connection.signature()
        if set(called.inputs) != {GIVEN, GROWING} or set(called.outputs) != {PREDICTED}:
            raise UserError(f"a client's loop calls a signature {GIVEN}, {GROWING} -> {PREDICTED}; this one is "
                            f"{', '.join(sorted(called.inputs))} -> {', '.join(sorted(called.outputs))}")
        return replace(called, inputs={GIVEN: called.inputs[GIVEN]}, outputs={ANSWER: called.outputs[PREDICTED]})

    def prepare(self, inputs: Arrays) -> Array:
        return inputs[GIVEN]

    def timed(self, request: Array) -> tuple[float, dict[str, Array]]:
        total = 0.0

        def call(given: Array, symbols: Array) -> Array:
            nonlocal total
            seconds, raw = self._connection.timed(self._connection.prepare({GIVEN: given, GROWING: symbols}))
            total += seconds
            return self._connection.decode(raw)[PREDICTED]

        answer = predicted(call, request)
        return total, {ANSWER: answer}

    def turn(self, requests: Sequence[Any], first: int, count: int, lead_s: float) -> Turn:
        return turn(self.timed, requests, first, count, lead_s)

    def decode(self, raw: dict[str, Array]) -> dict[str, Array]:
        return raw

    def close(self) -> None:
        self._connection.close()
