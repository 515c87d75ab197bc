"""Lets the judge see a canary: the same requests to stable, to the canary and to both of the control."""
from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from serving.client.payloads import Arrays
from serving.client.protocol import AnswerError, Client, UnreachableError
from serving.promotion.errors import GateFailedError
from serving.promotion.gates import Gate
from serving.promotion.golden import Golden
from serving.promotion.judge import Again, Bench, Judgement, Trial, Verdict
from serving.promotion.options import say
from serving.promotion.plan import CANARY, STABLE, Operation
from serving.promotion.private_server import PrivateServer, private_server
from serving.promotion.servers import Server
from serving.promotion.settings import Bake

BAKE = "bake"
# The names of the control's two.
_CONTROLS = ("first", "second")


@dataclass(frozen=True)
class Answered:
    """Seconds and outputs of a request; None: it failed."""

    seconds: float | None = None
    outputs: Arrays | None = None


def watch(operation: Operation, hosts: Sequence[Server], requests: Iterator[Golden], limits: Bake,
          agree: Callable[[str, Arrays, Arrays], bool], control: PrivateServer | None = None, seed: int | None = None
          ) -> Gate:
    """Asks until the judge is certain or the time of the bake is over. The gate's `passed` is None if nothing was
    certain, or there was no traffic.

    requests: endless, or empty. agree(signature, stable's answer, another's). control: serves the stable version.
    """
    bench, ends, pause = Bench(limits), time.monotonic() + limits.seconds, 1 / limits.requests_per_second
    shuffled = random.Random(seed)
    with ExitStack() as stack:
        groups = [{label: stack.enter_context(closing(host.client(operation.model, label=label)))
                   for label in (STABLE, CANARY)} for host in hosts]
        controls = {name: stack.enter_context(closing(control.client(name))) for name in _CONTROLS} if control else {}
        for one in requests:
            if (began := time.monotonic()) >= ends:
                break
            lost = control is not None and control.process.poll() is not None
            # Not in turns: requests take turns too, and a server would see only some of them.
            asked = {**shuffled.choice(groups), **({} if lost else controls)}
            if bench.look(_trial(asked, one, shuffled, bench.stable_times, agree)) is not Verdict.LOOK:
                break
            time.sleep(max(0.0, min(began + pause, ends) - time.monotonic()))
    return _gate(bench.judgement())


def _gate(found: Judgement) -> Gate:
    passed = {Verdict.PROMOTE: True, Verdict.ABORT: False, Verdict.LOOK: None}[found.verdict]
    return Gate(BAKE, passed, found.words, {**found.figures, "doubtful": found.doubtful})


def _trial(clients: Mapping[str, Client], one: Golden, shuffled: random.Random, stable_times: int,
           agree: Callable[[str, Arrays, Arrays], bool]) -> Trial:
    order = [*clients, *[STABLE] * (stable_times - 1)]
    shuffled.shuffle(order)
    seen: dict[str, list[Answered]] = {name: [] for name in clients}
    for name in order:
        seen[name].append(_asked(clients[name], one))
    stable, *more = seen[STABLE]
    canary = seen[CANARY][0]

    def agrees(other: Answered) -> bool | None:
        if stable.outputs is None or other.outputs is None:
            return None
        return agree(one.signature, stable.outputs, other.outputs)
    first, second = (seen[name][0].seconds if name in seen else None for name in _CONTROLS)
    return Trial(stable.seconds, canary.seconds, (first, second), agrees(canary),
                 tuple(Again(other.outputs is None, agrees(other)) for other in more))


def _asked(client: Client, one: Golden) -> Answered:
    request = client.prepare(one.inputs, one.signature)
    began = time.perf_counter()
    try:
        raw = client.send(request)
        took = time.perf_counter() - began
        return Answered(took, client.decode(raw, one.signature))
    except (AnswerError, UnreachableError):
        return Answered()


@contextmanager
def control_of(old: Path, hosts: Sequence[Server], limits: Bake, flags: Sequence[str]
               ) -> Iterator[PrivateServer | None]:
    """A fresh process that serves the stable version twice, where the servers are on this machine: on another one it
    would say nothing of them."""
    if not limits.control:
        yield None
        return
    if away := [host.name for host in hosts if not _is_here(host)]:
        say(f"  no control: {away[0]} is another machine; the canary is compared with stable alone")
        yield None
        return
    with ExitStack() as stack:
        try:
            found: PrivateServer | None = stack.enter_context(private_server(dict.fromkeys(_CONTROLS, old), flags))
        except GateFailedError as error:
            say(f"  no control: {error}; the canary is compared with stable alone")
            found = None
        yield found


def _is_here(host: Server) -> bool:
    addresses = [address for address in (host.rest, host.grpc) if address]
    return all(address.startswith("unix:") or _is_loopback(
        urlsplit(address if "://" in address else f"//{address}").hostname or "") for address in addresses)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
