"""Watches a canary: the same requests through `stable` and through `canary`, in turns, until its time is over."""
from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import count
from math import exp, isfinite, log
from typing import Any

import confidence_sequence
from serving.client.protocol import AnswerError, Client, UnreachableError
from serving.promotion.gates import Gate
from serving.promotion.golden import Golden
from serving.promotion.plan import CANARY, STABLE, Operation
from serving.promotion.servers import Server
from serving.promotion.settings import Bake

# A request must fail twice to count: one connection may break by itself.
_LEAST_FAILED = 2
# Pairs of requests between two looks at the latency.
_LOOKED = 5
BAKE = "bake"


def watch(operation: Operation, hosts: Sequence[Server], requests: Sequence[Golden], limits: Bake) -> Gate:
    """Whether anything is seen against the canary.

    Its latency is refused when a confidence sequence of the ratios of neighbouring requests excludes what is allowed,
    so that looking after each of them is right.
    """
    if not limits.seconds or not requests:
        return Gate(BAKE, None, "it was not watched" if requests else "there are no golden requests")
    ratios: list[float] = []
    failed = sent = answered = 0
    ends, pause = time.monotonic() + limits.seconds, 1 / limits.requests_per_second
    with ExitStack() as stack:
        pairs = [tuple(stack.enter_context(closing(host.client(operation.model, label=label)))
                       for label in ((STABLE, CANARY) if STABLE in operation.before.labels else (CANARY, CANARY)))
                 for host in hosts]
        for number in count():
            if time.monotonic() >= ends:
                break
            turn, host = divmod(number, len(pairs))
            # Each request is sent in both orders before the next one.
            (stable, canary), one = pairs[host], requests[turn // 2 % len(requests)]
            first, second = (canary, stable) if turn % 2 else (stable, canary)
            took = {client: _seconds(client, one) for client in (first, second)}
            sent, failed = sent + 1, failed + (took[canary] is None and took[stable] is not None)
            if failed >= _LEAST_FAILED and failed > limits.max_error_ratio * sent:
                return Gate(BAKE, False, f"{failed} of {sent} requests to the canary failed, which stable answered")
            before, now = took[stable], took[canary]
            answered += now is not None
            if before and now:
                ratios.append(log(before / now))
            if len(ratios) % _LOOKED == 0 and ratios:
                found = confidence_sequence.centre(ratios)
                if limits.least_ratio and found.high < log(limits.least_ratio):
                    return Gate(BAKE, False, f"the canary is slower: ratio {exp(found.value):.3f}, at most "
                                f"{exp(found.high):.3f} after {len(ratios)} requests, and {limits.least_ratio:g} is "
                                "allowed")
            time.sleep(max(0.0, min(pause, ends - time.monotonic())))
    if not answered:
        return Gate(BAKE, False, f"neither stable nor the canary answered any of {sent} requests")
    figures: dict[str, Any] = {"requests": sent, "failed": failed}
    if ratios:
        found = confidence_sequence.centre(ratios)
        figures |= {"ratio": exp(found.value), "ci95": [exp(end) if isfinite(end) else None
                                                        for end in (found.low, found.high)]}
    return Gate(BAKE, True, f"{sent} requests, {failed} failed", figures)


def _seconds(client: Client, one: Golden) -> float | None:
    """How long a request takes; None if it is not answered."""
    request = client.prepare(one.inputs, one.signature)
    began = time.perf_counter()
    try:
        client.send(request)
    except (AnswerError, UnreachableError):
        return None
    return time.perf_counter() - began

