"""What is shown of a version: on private servers before production sees it, and in production while it is canary."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cpu_class
from commandline import step
from serving.client import payloads
from serving.client.payloads import Arrays
from serving.client.protocol import DEFAULT_SIGNATURE, AnswerError, Signature, UnreachableError
from serving.client.saved_model import metadata_of
from serving.promotion import bake, files, gates, golden, labelled, preflight, replay, settings
from serving.promotion.errors import GateFailedError
from serving.promotion.gates import Agreement, Gate
from serving.promotion.golden import Golden
from serving.promotion.options import say
from serving.promotion.plan import PAUSED, Operation, finite
from serving.promotion.private_server import PrivateServer, private_server
from serving.promotion.rollout import StageFailedError
from serving.promotion.servers import Server
from serving.promotion.settings import Gates, Latency, Parity
from user_error import UserError
from version_directory import read_manifest

if TYPE_CHECKING:
    from serving.signing import Verifier


@dataclass(frozen=True)
class Asked:
    """What a version is held to, beside gates.toml. `force`: the reason why a failed gate passes. `verifier`: that of
    the key that it must be signed with."""

    golden: Path | None = None
    signature_change: bool = False
    ops: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    force: str = ""
    verifier: Verifier | None = None


@dataclass(frozen=True)
class Proven:
    """What was shown of a version: its golden requests with its answers, the gates with their figures, and the version
    that it was compared with; None if there was none, or clients have to change."""

    requests: Sequence[Golden]
    gates: Sequence[Gate]
    old: Path | None


def prove(model: str, new: Path, old: Path | None, limits: Gates, asked: Asked) -> Proven:
    """Runs preflight and gates on servers that clients do not know. Raises GateFailedError."""
    signatures = metadata_of(new).signatures
    with step("Look for operations that may harm"):
        preflight.scanned(new, asked.ops)
    preflight.fits_this_cpu(new)
    if old is not None:
        try:
            preflight.same_signatures(signatures, metadata_of(old).signatures)
        except GateFailedError:
            if not asked.signature_change:
                raise
            old = None  # what only one of them can be asked cannot be compared
    requests = golden.of_file(asked.golden) if asked.golden else golden.of_version(new, signatures) or (
        [] if old is None else golden.of_version(old, signatures))
    with step(f"Load it on a private server, {len(requests)} golden requests, batches of every size"):
        both = {gates.NEW: new} | ({} if old is None else {gates.OLD: old})
        with private_server(both, asked.flags) as server:
            answered = _answered(requests, server.client(gates.NEW), "the new version")
            before = [] if old is None else _answered(requests, server.client(gates.OLD), "production's version")
            preflight.lives(server, gates.NEW, requests, signatures)
            right = None if old is None else _right(server, (new, old), signatures, limits)
    if old is None or right is None:
        return Proven(answered, [], None)
    found = [gates.parity(before, answered, (old, new), limits.parity), right]
    if any(gate.passed is False for gate in found):
        _refuse(found, asked.force)  # before its latency is measured, which takes a minute
    with step(f"Measure it beside production's version, at most {gates.LONGER * limits.latency.seconds:g} s"):
        try:
            result = gates.measured(model, old, new, _sendable(limits.latency, signatures), asked.flags)
        except AnswerError as error:
            found.append(Gate("latency", False, f"it cannot be measured: {error.message}"))
        else:
            found += [gates.latency(result, limits.latency), gates.cost(result, limits.cost)]
    for gate in found:
        say(f"  {'passed' if gate.passed else 'not judged' if gate.passed is None else 'FAILED'}: {gate.name}: "
            f"{gate.words}")
    _refuse(found, asked.force)
    return Proven(answered, found, old)


def verified(verifier: Verifier, version: Path, digest: str) -> None:
    """Raises GateFailedError unless a version is signed, with the files that the digest is of."""
    try:
        signed = verifier.require(version)
    except UserError as error:
        raise GateFailedError(str(error)) from None
    if files.whole(signed) != digest:
        raise GateFailedError(f"{version} was changed while it was looked at")


def statement(source: Path, digest: str, proven: Proven, asked: Asked) -> dict[str, Any]:
    """What is signed beside a version: where it is from, what made it, and what was shown of it."""
    manifest = read_manifest(source) or {}
    return finite({"source": str(source.resolve()), "sourceDigest": {"sha256": digest},
                   "recipe": manifest.get("recipe"), "precision": manifest.get("precision"),
                   "scan": {"passed": True, "allowed": list(asked.ops)}, "forced": asked.force or None,
                   "comparedWith": proven.old and str(proven.old), "gates": [gate.to_json() for gate in proven.gates],
                   "goldenRequests": len(proven.requests), "cpuClass": str(cpu_class.current())})


def _right(server: PrivateServer, versions: tuple[Path, Path], signatures: Mapping[str, Signature], limits: Gates
           ) -> Gate:
    with server.client(gates.OLD) as before, server.client(gates.NEW) as now:
        try:
            return labelled.accuracy(versions, signatures, before, now, limits.accuracy)
        except (AnswerError, UnreachableError) as error:
            server.refuse_dead("when it was asked about labelled samples")
            raise GateFailedError(f"labelled samples are not answered: {error}") from None


def _sendable(limits: Latency, signatures: Mapping[str, Signature]) -> Latency:
    """With the batch size that the signature which is measured is fixed at, if it is."""
    signature = signatures.get(DEFAULT_SIGNATURE)
    fixed = payloads.fixed_batches(signature.inputs) if signature else []
    return replace(limits, batch=fixed[0]) if fixed and limits.batch not in fixed else limits


def _refuse(found: Sequence[Gate], forced: str) -> None:
    """Raises GateFailedError if a gate failed, unless that is `forced`."""
    failed = [f"{gate.name}: {gate.words}" for gate in found if gate.passed is False]
    if failed and not forced:
        raise GateFailedError(f"{'; '.join(failed)} (--force --reason TEXT passes it all the same)",
                              gates=[gate.to_json() for gate in found])


def _answered(requests: Sequence[Golden], client: Any, whose: str) -> list[Golden]:
    with client:
        try:
            return golden.answered(requests, client)
        except (AnswerError, UnreachableError) as error:
            raise GateFailedError(f"{whose} does not answer the golden requests: {error}") from None


def watch(operation: Operation, hosts: Sequence[Server], recorded: Callable[[], Iterable[Golden]],
          versions: tuple[Path | None, Path], limits: Gates, asked: Asked) -> dict[str, Any]:
    """Replays recorded traffic to stable and canary, then lets the judge see them; returns what was seen, and why the
    operation is paused if it is. Raises StageFailedError if the canary does worse. Where a failed gate was forced, only
    its errors count."""
    old, new = versions
    if old is None:
        return {"bake": Gate(bake.BAKE, None, "there is nothing to compare it with").to_json()}
    replayed = replay.replayed(operation, hosts, recorded(), Agreement((old, new), limits.parity))
    found = {"replay": replayed.to_json()}
    say(f"  recorded traffic: {replayed.words}")
    if replayed.passed is False and not asked.force:
        raise StageFailedError(f"recorded traffic is answered otherwise by the canary: {replayed.words}", found)
    if not limits.bake.seconds:
        return {**found, "bake": Gate(bake.BAKE, None, "it was not watched").to_json()}
    held_to = replace(limits.bake, least_ratio=0.0) if asked.force else limits.bake
    with step(f"Watch it beside stable, at most {held_to.seconds:g} s"), bake.control_of(
            old, hosts, held_to, asked.flags) as control:
        baked = bake.watch(operation, hosts, _endless(recorded), held_to, _agreeing((old, new), limits.parity, asked),
                           control)
    found["bake"] = baked.to_json()
    say(f"  {baked.words}")
    if baked.passed is False:
        raise StageFailedError(baked.words, found)
    if baked.passed is None and (baked.figures["doubtful"] or held_to.undecided == settings.PAUSE):
        return {**found, PAUSED: baked.words}
    return found


def _agreeing(versions: tuple[Path, Path], limits: Parity, asked: Asked) -> Callable[[str, Arrays, Arrays], bool]:
    """Whether two answers to a request are alike, by the budget of the parity gate. The top class is judged over many
    requests there, and may be another one here."""
    held_to = replace(limits, top1_agreement=0.0)

    def agree(signature: str, old: Arrays, new: Arrays) -> bool:
        agreement = Agreement(versions, held_to)
        agreement.add(signature, old, new)
        return agreement.gate("").passed is True
    return (lambda signature, old, new: True) if asked.force else agree


def _endless(recorded: Callable[[], Iterable[Golden]]) -> Iterator[Golden]:
    """The requests again and again, if there are any."""
    some = True
    while some:
        some = False
        for one in recorded():
            some = True
            yield one
