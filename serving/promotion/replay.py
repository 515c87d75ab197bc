"""Recorded traffic, sent to a canary and to stable: do both answer alike, in production?"""
from __future__ import annotations

from collections.abc import Iterable, Sequence

from serving.client.payloads import Arrays
from serving.client.protocol import AnswerError, Client, UnreachableError
from serving.promotion.gates import Agreement, Gate
from serving.promotion.golden import Golden
from serving.promotion.plan import CANARY, STABLE, Operation
from serving.promotion.servers import Server

REPLAY = "replay"


def replayed(operation: Operation, hosts: Sequence[Server], requests: Iterable[Golden], agreement: Agreement) -> Gate:
    """Each request goes to both labels of one server, in turns. Answers must agree; what stable does not answer either
    is counted only."""
    unanswered = 0
    pairs = [(host.client(operation.model, label=STABLE), host.client(operation.model, label=CANARY)) for host in hosts]
    try:
        for number, one in enumerate(requests):
            stable, canary = (_answer(client, one) for client in pairs[number % len(pairs)])
            if isinstance(stable, str):
                unanswered += 1
            elif isinstance(canary, str):
                return Gate(REPLAY, False, f"the canary does not answer recorded request {number + 1}, and stable does:"
                            f" {canary}")
            else:
                agreement.add(one.signature, stable, canary)
    finally:
        for client in (each for pair in pairs for each in pair):
            client.close()
    found = agreement.gate(REPLAY)
    return Gate(found.name, found.passed, found.words, {**found.figures, "unanswered_by_both": unanswered})


def _answer(client: Client, one: Golden) -> Arrays | str:
    """The outputs, or why there are none."""
    try:
        return client.predict(one.inputs, one.signature)
    except (AnswerError, UnreachableError) as error:
        return str(error)
