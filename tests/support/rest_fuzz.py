"""Malformed requests: recorded requests, randomly cut, spliced, repeated and mixed with tokens, from a seed."""
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import psutil
from contract_rest import Wire, body_of

TOKENS = [b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u", b"\\ud83d", b"null", b"true", b"NaN", b"-Infinity",
          b"Inf", b"1e", b"1e400", b"-", b"0", b"00", b".5", b"1" * 25, b"1e-400", b"\xff", b"\xc3\xa9", b"\0",
          b'"instances"', b'"inputs"', b'"signature_name"', b'"b64"', b'"examples"', b'"context"', b'{"b64": "aGk="}',
          b"[[[[[[[[", b"]]]]]]]]", b'"x": 1, "x": 2', b'""', b"[]", b"{}"]
# The body decides how long /slow runs; the answer for that version has no body. Both as in TensorFlow Serving.
LEFT_OUT = ("/slow", "/versions/9223372036854775808")


def seeds(cases: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """(path, body) of the recorded POST requests."""
    return [(case["path"], body_of(case) or b"") for case in cases
            if case.get("method") == "POST" and "body_gen" not in case
            and not any(part in case["path"] for part in LEFT_OUT)]


def requests(known: list[tuple[str, bytes]], seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` requests, (path, body); the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        path, body = chance.choice(known)
        for _ in range(chance.randint(0, 4)):
            body = _mutated(chance, body, chance.choice(known)[1])
        if chance.random() < 0.1:
            path = chance.choice(known)[0]
        yield path, body[:20_000]


def _mutated(chance: random.Random, body: bytes, other: bytes) -> bytes:
    start = chance.randint(0, len(body))
    end = min(len(body), start + chance.randint(0, 12))
    match chance.randint(0, 5):
        case 0:
            return body[:start] + body[end:]
        case 1:
            return body[:start] + body[start:end] * chance.randint(2, 5) + body[end:]
        case 2:
            return body[:start] + bytes(chance.randrange(256) for _ in range(end - start)) + body[end:]
        case 3:
            return body[:start] + other[chance.randint(0, len(other)):]
        case _:
            return body[:start] + chance.choice(TOKENS) + body[chance.choice((start, end)):]


@dataclass
class Outcome:
    """The answers of a run: how many of each status, faults, the slowest, and the process's memory during the run."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    resident_mb: list[int] = field(default_factory=list)


def run(port: int, known: list[tuple[str, bytes]], seed: int, count: int) -> Outcome:
    """Sends `count` requests one after another. A fault is status 500 or a body that is not JSON.

    Raises TimeoutError when an answer takes over 60 s, and ClosedError when the server closes the connection.
    """
    outcome = Outcome()
    with Wire(port, timeout_s=60) as wire:
        for n, (path, body) in enumerate(requests(known, seed, count)):
            if n % 1000 == 0:
                outcome.resident_mb.append(psutil.Process().memory_info().rss >> 20)
            began = perf_counter()
            wire.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = wire.read()
            outcome.slowest_s = max(outcome.slowest_s, perf_counter() - began)
            outcome.statuses[answer.status] += 1
            if answer.status == 500 or not _is_json(answer.body):
                outcome.faults.append(f"{path} {body!r}: {answer.status} {answer.body!r}")
    return outcome


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True
