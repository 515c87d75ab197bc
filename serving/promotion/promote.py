"""python -m serving promote, canary: a version reaches production only when it is proven."""
from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commandline import json_option
from serving.client.options import server_options
from serving.promotion import files, golden, history, proving, proxy, settings
from serving.promotion.errors import GateFailedError, PromotionError
from serving.promotion.golden import Golden
from serving.promotion.options import (
    carried_out,
    finish_what_was_begun,
    in_words,
    no_proxy_option,
    opened,
    refuse_forged,
    require_done,
    require_reachable,
    root_option,
    say,
    sign_option,
    verifier_of,
)
from serving.promotion.plan import CANARY, PAUSED, STABLE, Kind, Operation, with_facts
from serving.promotion.production import Production, new_operation
from serving.promotion.proving import Asked
from serving.promotion.proxy import Share
from serving.promotion.rollout import StageFailedError
from serving.promotion.root import ProductionRoot
from serving.promotion.settings import Gates
from version_directory import newest, signature_path, versions
from whole_file import write_json

if TYPE_CHECKING:
    from serving.signing import Verifier


def source_of(models: Path, model: str, variant: str) -> Path:
    """The directory of VARIANT or VARIANT/VERSION. Raises PromotionError that says what there is."""
    name, _, wanted = variant.partition("/")
    if not name:
        raise click.UsageError("the name of the variant is empty")
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


def bring_in(kind: Kind, production: Production, model: str, source: Path, limits: Gates, asked: Asked,
             share: Share, no_proxy: bool) -> Operation | None:
    """Proves a version and makes it stable, or canary with a share of the traffic; None if it is so already."""
    root = production.root
    before, records = root.config().served(model), history.read(root.history_path)
    current = before.labels.get(STABLE)
    earlier = proxy.shared(records, model)
    share = proxy.following(earlier, share, no_proxy)
    if share.mirror and share.proxy is None:
        raise click.UsageError("--mirror needs --proxy: clients cannot mirror what they send")
    proxy.require_routes(model, share)
    old = None if current is None else root.versions(model).get(current)
    if current is not None and old is None:
        raise PromotionError(f"version {current} of {model} is stable, and {root.version_path(model, current)} is not "
                             "there: `python -m serving audit` says what else is missing")
    digest = files.whole(files.digests(source))
    refused = new_operation(kind, model, 0, before, source=str(source.resolve()), digest=digest)
    with _written_down(refused, production):
        if asked.verifier is not None:
            proving.verified(asked.verifier, source, digest)
        if old is not None and production.signer is not None and signature_path(old).exists():
            refuse_forged(production.signer.verifier, old, model)
    if old is not None and files.whole(files.digests(old)) == digest:
        say(f"{source} is already stable in {root.path}, as version {current}: nothing to do")
        return None
    require_reachable(production, model)
    canary = root.versions(model).get(before.labels.get(CANARY, 0))
    if kind is Kind.CANARY and canary is not None and files.whole(files.digests(canary)) == digest:
        if share == earlier and proxy.in_force(model, share):
            say(f"{source} is already canary in {root.path}, as version {canary.name}: nothing to do")
            return None
        return carried_out(new_operation(Kind.SHARE, model, int(canary.name), before, {"share": share.to_json()}),
                           production)
    with _written_down(refused, production):
        proven = proving.prove(model, source, old, limits, asked)
    production.golden = golden.as_file(proven.requests, model)
    production.proven = proving.statement(source, digest, proven, asked)
    number = next_version(root, model)
    # An earlier canary's traffic stops before its label moves, and only a canary gets any.
    facts = {"gates": [gate.to_json() for gate in proven.gates],
             "share": (share if kind is Kind.CANARY else replace(share, percent=0, mirror=0)).to_json()}
    if production.golden:
        facts["golden"] = hashlib.sha256(production.golden).hexdigest()
    if asked.force:
        facts["forced"] = asked.force

    def recorded() -> Iterable[Golden]:
        return golden.recorded(asked.golden, limits.bake.replayed) if asked.golden else proven.requests

    def watched(operation: Operation) -> dict[str, Any]:
        return proving.watch(operation, production.hosts, recorded, (proven.old, source), limits, asked)
    production.watch = watched
    return carried_out(new_operation(kind, model, number, root.config().served(model), facts,
                                     source=str(source.resolve()), digest=digest), production)


@contextmanager
def _written_down(refused: Operation, production: Production) -> Iterator[None]:
    """If a gate keeps the version of an operation out, the history says why."""
    try:
        yield
    except GateFailedError as error:
        facts = {"gates": error.facts.get("gates", [])}
        try:
            production.refuse(replace(with_facts(refused, facts), why=str(error)))
        except StageFailedError as unwritten:
            say(f"warning: it is not in the history: {unwritten}")
        raise


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
            json_option, server_options, no_proxy_option, root_option, sign_option,
            click.option("--require-signature", "require", type=click.Path(path_type=Path), metavar="KEY",
                         help="Go on only if VARIANT's version is signed with this public key (PEM)."),
            click.option("--reason", default="", metavar="TEXT", help="Why --force; it is written to the history."),
            click.option("--force", is_flag=True, help="Go on although a gate failed; needs --reason."),
            click.option("--server-flag", "flags", multiple=True, metavar="--FLAG=VALUE",
                         help="A flag of the private servers, such as production's --engine=litert."),
            click.option("--allow-op", "ops", multiple=True, metavar="OP",
                         help="An operation that touches files, network or Python, and may be in the model."),
            click.option("--allow-signature-change", is_flag=True, help="Go on although clients have to change."),
            click.option("--bake", "bake_s", type=SECONDS, metavar="TIME",
                         help="How long the canary is watched, such as 60s or 5m; 0: not at all."),
            click.option("--gate-seconds", type=click.FloatRange(0, min_open=True),
                         help="Latency is measured until it is certain, for three times as long at most (20)."),
            click.option("--golden", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
                         help="Golden requests, a TFRecord of PredictionLog; else the version's warm-up or samples."),
            click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True,
                         help="Where variants are.")):
        command = option(command)
    return command


class _Seconds(click.ParamType[float]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            found = float(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else float(text)
        except ValueError:
            found = -1.0
        if not 0 <= found < float("inf"):
            self.fail(f"'{value}' is no time, such as 60s or 5m", param, ctx)
        return found


_UNITS = {"s": 1, "m": 60, "h": 3600}
SECONDS = _Seconds()


def _run(kind: Kind, model: str, variant: str | None, root: str, rests: tuple[str, ...], grpcs: tuple[str, ...],
         models: Path, golden: Path | None, gate_seconds: float | None, bake_s: float | None,
         allow_signature_change: bool, ops: tuple[str, ...], flags: tuple[str, ...], force: bool, reason: str,
         no_proxy: bool, sign: Path | None, require: Path | None, json_path: str | None,
         percent: int = 0, mirror: int = 0, proxy: str | None = None) -> None:
    if force and not reason:
        raise click.UsageError("--force needs --reason TEXT: the history says why")
    if not re.fullmatch(r"[^/.][^/]*", model):
        raise click.UsageError(f"'{model}' is no name of a model: it is that of a folder")
    source = None if variant is None else source_of(models, model, variant)
    verifier = verifier_of(require)
    production = opened(root, rests, grpcs, make=source is not None, sign=sign)
    limits = settings.read(production.root.path)
    if gate_seconds is not None:
        limits = replace(limits, latency=replace(limits.latency, seconds=gate_seconds))
    if bake_s is not None:
        limits = replace(limits, bake=replace(limits.bake, seconds=bake_s))
    with production.root.locked():
        taken_up = finish_what_was_begun(production, no_proxy)
        production.told = lambda line: say(f"  {line}")
        if source is None and taken_up is not None and (taken_up.kind, taken_up.model) == (Kind.FINISH, model):
            ended: Operation | None = taken_up
        elif source is None:
            ended = finished(production, model, no_proxy, verifier)
        else:
            asked = Asked(golden, allow_signature_change, ops, flags, reason if force else "", verifier)
            ended = bring_in(kind, production, model, source, limits, asked, Share(percent, mirror, proxy), no_proxy)
        if ended is not None:
            require_done(ended)
        if ended is not None and kind is Kind.PROMOTE and PAUSED in ended.facts:
            raise GateFailedError(f"version {ended.version} of {model} stays canary: {ended.facts[PAUSED]}; `python -m "
                                  f"serving promote {model}` makes it stable, `rollback {model}` takes it away",
                                  operation=ended.to_json())
        if json_path:
            write_json(json_path, {"done": True, "changed": ended is not None, "operation": ended and ended.to_json()})
        if ended is not None:
            label = STABLE if ended.kind in (Kind.PROMOTE, Kind.FINISH) else CANARY
            say(f"version {ended.version} of {model} is {label} on {', '.join(production.servers)}{_gets(ended)}")


def _gets(ended: Operation) -> str:
    """What a canary gets of the live traffic, and from whom."""
    share = Share.of(ended)
    if ended.kind not in (Kind.CANARY, Kind.SHARE) or not (share.percent or share.mirror):
        return ""
    if share.proxy is None:
        return f"; clients may send {share.percent} of 100 requests to it, through the label canary"
    return f"; of 100 requests, the proxy sends {share.percent} to it, and copies of {share.mirror}"


def finished(production: Production, model: str, no_proxy: bool, verifier: Verifier | None) -> Operation:
    """The canary becomes stable. Raises PromotionError without one, GateFailedError for one that is not as signed."""
    before = production.root.config().served(model)
    if CANARY not in before.labels:
        raise PromotionError(f"{model} has no canary in {production.root.path} that could become stable: name a "
                             f"variant, `python -m serving promote {model} VARIANT`")
    require_reachable(production, model)
    share = proxy.following(proxy.shared(history.read(production.root.history_path), model), Share(), no_proxy)
    proxy.require_routes(model, share)
    version = before.labels[CANARY]
    if verifier is not None:
        refuse_forged(verifier, production.root.version_path(model, version), model)
    return carried_out(new_operation(Kind.FINISH, model, version, before, {"share": share.to_json()}), production)


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
  python -m serving canary mnist optimized --percent 10 --proxy http://127.0.0.1:9901
  python -m serving promote mnist                          # then makes it stable
  python -m serving rollback mnist                         # or this takes it away
""")
@click.argument("model")
@click.argument("variant", metavar="VARIANT[/VERSION]")
@click.option("--proxy", metavar="URL", help="The admin address of the Envoy proxy that shares out the live traffic.")
@click.option("--mirror", type=click.IntRange(0, 100), default=0, metavar="PERCENT",
              help="Of the live traffic, how much is sent to the canary too; nobody gets those answers.")
@click.option("--percent", type=click.IntRange(0, 100), default=0, metavar="PERCENT",
              help="Of the live traffic, how much the canary answers; without a proxy it is written down for clients.")
@_options
@in_words
def canary_command(**given: Any) -> None:
    """Give a proven version of VARIANT the label canary, beside the stable one."""
    _run(Kind.CANARY, **given)
