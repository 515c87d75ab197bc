"""python -m serving promote, canary: a version reaches production only when it is proven."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from commandline import json_option, step
from serving.client.options import server_options
from serving.client.protocol import AnswerError
from serving.client.saved_model import metadata_of
from serving.promotion import bake, files, gates, golden, history, preflight, settings
from serving.promotion.errors import GateFailedError, PromotionError
from serving.promotion.gates import Gate
from serving.promotion.golden import Golden
from serving.promotion.options import (
    carried_out,
    finish_what_was_begun,
    in_words,
    opened,
    require_done,
    require_reachable,
    root_option,
    say,
)
from serving.promotion.plan import CANARY, STABLE, Kind, Operation
from serving.promotion.private_server import private_server
from serving.promotion.production import Production, new_operation
from serving.promotion.root import ProductionRoot
from serving.promotion.settings import Gates
from version_directory import newest, versions
from whole_file import write_json


@dataclass(frozen=True)
class Asked:
    """What a version is held to, beside gates.toml. `force`: the reason why a failed gate passes."""

    golden: Path | None = None
    signature_change: bool = False
    ops: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    force: str = ""


@dataclass(frozen=True)
class Proven:
    """What was shown of a version: its golden requests with its answers, and the gates with their figures."""

    requests: Sequence[Golden]
    gates: Sequence[Gate]


def prove(model: str, new: Path, old: Path | None, limits: Gates, asked: Asked) -> Proven:
    """Runs preflight and gates on servers that clients do not know. Raises GateFailedError."""
    signatures = metadata_of(new).signatures
    with step("Look for operations that may harm"):
        preflight.scanned(new, asked.ops)
    preflight.fits_this_cpu(new)
    if old is not None and not asked.signature_change:
        preflight.same_signatures(signatures, metadata_of(old).signatures)
    requests = golden.of_file(asked.golden) if asked.golden else golden.of_version(new, signatures) or (
        [] if old is None else golden.of_version(old, signatures))
    with step(f"Load it on a private server, {len(requests)} golden requests, batches of every size"):
        both = {gates.NEW: new} | ({} if old is None else {gates.OLD: old})
        with private_server(both, asked.flags) as server:
            answered = _answered(requests, server.client(gates.NEW), "the new version")
            before = [] if old is None else _answered(requests, server.client(gates.OLD), "production's version")
            preflight.lives(server, gates.NEW, requests, signatures)
    if old is None:
        return Proven(answered, [])
    found = [gates.parity(before, answered, (old, new), limits.parity)]
    with step(f"Measure it beside production's version, at most {gates.LONGER * limits.latency.seconds:g} s"):
        try:
            result = gates.measured(model, old, new, limits.latency, asked.flags)
        except AnswerError as error:
            raise GateFailedError(f"it cannot be measured: {error.message}") from None
    found += [gates.latency(result, limits.latency), gates.accuracy(result, limits.accuracy),
              gates.cost(result, limits.cost)]
    for gate in found:
        say(f"  {'passed' if gate.passed else 'not judged' if gate.passed is None else 'FAILED'}: {gate.name}: "
            f"{gate.words}")
    failed = [f"{gate.name}: {gate.words}" for gate in found if gate.passed is False]
    if failed and not asked.force:
        raise GateFailedError(f"{'; '.join(failed)} (--force --reason TEXT passes it all the same)")
    return Proven(answered, found)


def _answered(requests: Sequence[Golden], client: Any, whose: str) -> list[Golden]:
    with client:
        try:
            return golden.answered(requests, client)
        except AnswerError as error:
            raise GateFailedError(f"{whose} does not answer the golden requests: {error.message}") from None


def source_of(models: Path, model: str, variant: str) -> Path:
    """The directory of VARIANT or VARIANT/VERSION. Raises PromotionError that says what there is."""
    name, _, wanted = variant.partition("/")
    base = models / model / name
    there = versions(base)
    if not there:
        variants = sorted(path.name for path in (models / model).glob("*") if versions(path))
        raise PromotionError(f"there is no variant '{name}' of {model} in {models}: "
                             f"there are {', '.join(variants) or 'none'}")
    if wanted:
        if not wanted.isdecimal() or int(wanted) not in there:
            raise PromotionError(f"{base} has no version {wanted}: it has {', '.join(map(str, there))}")
        return there[int(wanted)]
    found = newest(base)
    if found is None:
        raise PromotionError(f"{base} has no version with a saved_model.pb")
    return found


def next_version(root: ProductionRoot, model: str) -> int:
    """A number above all that the model ever had in this root."""
    earlier = [one["version"] for one in history.read(root.history_path).records if one["model"] == model]
    return max([0, *root.versions(model), *root.config().served(model).versions, *earlier]) + 1


def bring_in(kind: Kind, production: Production, model: str, source: Path, limits: Gates, asked: Asked
             ) -> Operation | None:
    """Proves a version and makes it stable, or canary; None if that is what stable is already."""
    root = production.root
    before = root.config().served(model)
    current = before.labels.get(STABLE)
    old = None if current is None else root.versions(model).get(current)
    if current is not None and old is None:
        raise PromotionError(f"version {current} of {model} is stable, and {root.version_path(model, current)} is not "
                             "there: `python -m serving audit` says what else is missing")
    digest = files.whole(files.digests(source))
    if old is not None and files.whole(files.digests(old)) == digest:
        say(f"{source} is already stable in {root.path}, as version {current}: nothing to do")
        return None
    require_reachable(production, model)
    proven = prove(model, source, old, limits, asked)
    production.golden = proven.requests
    production.watch = lambda operation: bake.watch(operation, production.hosts, proven.requests, limits.bake)
    facts = {"gates": [gate.to_json() for gate in proven.gates]} | ({"forced": asked.force} if asked.force else {})
    return carried_out(new_operation(kind, model, next_version(root, model), root.config().served(model), facts,
                                     source=str(source.resolve()), digest=digest), production)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
            json_option, server_options, root_option,
            click.option("--reason", default="", metavar="TEXT", help="Why --force; it is written to the history."),
            click.option("--force", is_flag=True, help="Go on although a gate failed; needs --reason."),
            click.option("--server-flag", "flags", multiple=True, metavar="--FLAG=VALUE",
                         help="A flag of the private servers, such as production's --engine=litert."),
            click.option("--allow-op", "ops", multiple=True, metavar="OP",
                         help="An operation that touches files, network or Python, and may be in the model."),
            click.option("--allow-signature-change", is_flag=True, help="Go on although clients have to change."),
            click.option("--bake", "bake_s", type=SECONDS, metavar="SECONDS",
                         help="How long the canary is watched, such as 60s; 0: not at all."),
            click.option("--gate-seconds", type=click.FloatRange(0, min_open=True),
                         help="Latency is measured until it is certain, for three times as long at most (20)."),
            click.option("--golden", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
                         help="Golden requests, a TFRecord of PredictionLog; else the version's warm-up or samples."),
            click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True,
                         help="Where variants are.")):
        command = option(command)
    return command


class _Seconds(click.ParamType[float]):
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(str(value).removesuffix("s"))
        except ValueError:
            found = -1.0
        if not 0 <= found < float("inf"):
            self.fail(f"'{value}' is no number of seconds, such as 60s", param, ctx)
        return found


SECONDS = _Seconds()


def _run(kind: Kind, model: str, variant: str | None, root: str, rests: tuple[str, ...], grpcs: tuple[str, ...],
         models: Path, golden: Path | None, gate_seconds: float | None, bake_s: float | None,
         allow_signature_change: bool, ops: tuple[str, ...], flags: tuple[str, ...], force: bool, reason: str,
         json_path: str | None) -> None:
    if force and not reason:
        raise click.UsageError("--force needs --reason TEXT: the history says why")
    source = source_of(models, model, variant) if variant else None
    production = opened(root, rests, grpcs, make=source is not None)
    limits = settings.read(production.root.path)
    if gate_seconds is not None:
        limits = replace(limits, latency=replace(limits.latency, seconds=gate_seconds))
    if bake_s is not None:
        limits = replace(limits, bake=replace(limits.bake, seconds=bake_s))
    with production.root.locked():
        finish_what_was_begun(production)
        production.told = lambda line: say(f"  {line}")
        if source is None:
            ended: Operation | None = finished(production, model)
        else:
            ended = bring_in(kind, production, model, source, limits, Asked(
                golden, allow_signature_change, ops, flags, reason if force else ""))
        if json_path:
            write_json(json_path, {"done": ended is None or not ended.why, "changed": ended is not None,
                                   "operation": ended and ended.to_json()})
        if ended is not None:
            require_done(ended)
            label = CANARY if ended.kind is Kind.CANARY else STABLE
            say(f"version {ended.version} of {model} is {label} on {', '.join(production.servers)}")


def finished(production: Production, model: str) -> Operation:
    """The canary becomes stable. Raises PromotionError without one."""
    before = production.root.config().served(model)
    if CANARY not in before.labels:
        raise PromotionError(f"{model} has no canary in {production.root.path} that could become stable: name a "
                             f"variant, `python -m serving promote {model} VARIANT`")
    require_reachable(production, model)
    return carried_out(new_operation(Kind.FINISH, model, before.labels[CANARY], before), production)


@click.command("promote", epilog="""
\b
Examples:
  python -m serving promote mnist optimized
  python -m serving promote mnist int8/2 --golden traffic.tfrecord --bake 300s
  python -m serving promote mnist                          # the canary becomes stable
  python -m serving promote mnist optimized --rest http://a:8501 --grpc a:8500 --rest http://b:8501 --grpc b:8500
""")
@click.argument("model")
@click.argument("variant", required=False, metavar="[VARIANT[/VERSION]]")
@_options
@in_words
def promote_command(**given: Any) -> None:
    """Make a version of VARIANT stable in production once it is proven, or without VARIANT the canary."""
    _run(Kind.PROMOTE, **given)


@click.command("canary", epilog="""
\b
Examples:
  python -m serving canary mnist optimized
  python -m serving canary mnist optimized --golden traffic.tfrecord
  python -m serving promote mnist                          # then makes it stable
  python -m serving rollback mnist                         # or this takes it away
""")
@click.argument("model")
@click.argument("variant", metavar="VARIANT[/VERSION]")
@_options
@in_words
def canary_command(**given: Any) -> None:
    """Give a proven version of VARIANT the label canary, beside the stable one."""
    _run(Kind.CANARY, **given)
