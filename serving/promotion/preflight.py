"""What is looked at before a version is measured: can it harm, does it load, does it live, does it fit clients?"""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import cpu_class
from serving import chosen_elsewhere
from serving.client.protocol import AnswerError, Signature, UnreachableError
from serving.promotion.errors import GateFailedError, PromotionError
from serving.promotion.golden import Golden
from serving.promotion.private_server import PrivateServer
from version_directory import read_manifest

# Empty, one, some, odd, large; and as many at once.
SIZES, AT_ONCE = (0, 1, 2, 3, 17, 256), 4


def scanned(version: Path, allowed: Sequence[str] = ()) -> None:
    """Raises GateFailedError if the version holds operations that touch files, network or Python."""
    command = [sys.executable, "-m", "export", "scan", str(version), "--allow", ",".join(allowed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 1:
        raise GateFailedError(f"{version} may harm: {_last_line(done.stderr)}; `--allow-op NAME` allows one")
    if done.returncode:
        raise PromotionError(_last_line(done.stderr).removeprefix("error: "))


def fits_this_cpu(version: Path) -> None:
    """Raises GateFailedError if the version's precision was chosen on a class of CPU that this one lacks."""
    manifest = read_manifest(version) or {}
    precision, there = manifest.get("precision"), manifest.get("cpu_class")
    if isinstance(precision, str) and isinstance(there, str) and (
            said := chosen_elsewhere.sentence(version.name, precision, there, cpu_class.current())):
        raise GateFailedError(f"{version}: {said}")


def same_signatures(new: Mapping[str, Signature], old: Mapping[str, Signature]) -> None:
    """Raises GateFailedError unless the new version takes what the old one takes, and answers with the same."""
    wrong = []
    for name, signature in sorted(old.items()):
        if name not in new:
            wrong.append(f"signature '{name}' is gone")
            continue
        for side, before, now in (("input", signature.inputs, new[name].inputs),
                                  ("output", signature.outputs, new[name].outputs)):
            wrong += [f"{side} '{key}' of '{name}' is gone" for key in before if key not in now]
            wrong += [f"{side} '{key}' of '{name}' is new" for key in now if key not in before and side == "input"]
            wrong += [f"{side} '{key}' of '{name}' is {now[key]}, and was {before[key]}"
                      for key in before if key in now and now[key] != before[key]]
    if wrong:
        raise GateFailedError(f"clients would have to change: {'; '.join(wrong)} (--allow-signature-change allows it)")


def lives(server: PrivateServer, name: str, requests: Sequence[Golden], signatures: Mapping[str, Signature]) -> None:
    """Sends batches of every size, alone and four at once: whatever a batch is answered with, the process must live,
    and answer the usual sizes. Raises GateFailedError."""
    known = next((one for one in requests if any(array.ndim for array in one.inputs.values())), None)
    if known is None:
        return
    made = {size: {key: np.resize(array, (size, *array.shape[1:])) if array.ndim else array
                   for key, array in known.inputs.items()} for size in SIZES}

    def send(size: int) -> str:
        with server.client(name) as client:
            try:
                client.predict(made[size], known.signature)
            except (AnswerError, UnreachableError) as error:
                return str(error)
        return ""
    for size in SIZES:
        said = send(size)
        server.refuse_dead(f"when it was asked about {size} examples")
        if said and size in (1, 2, 3) and _batches(signatures, known):
            raise GateFailedError(f"it does not answer {size} examples: {said}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(send, [SIZES[-1]] * AT_ONCE))
    server.refuse_dead(f"when {AT_ONCE} asked at once")


def _batches(signatures: Mapping[str, Signature], known: Golden) -> bool:
    """Whether the signature takes batches of any size."""
    found = signatures.get(known.signature or "serving_default")
    return found is not None and all(spec.shape is None or spec.shape[:1] == (-1,) for spec in found.inputs.values())


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
