"""python -m serving rollback, gc, audit, history: what a production root needs besides promotions."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commandline import EXIT_FAILED, json_option
from serving.client.options import server_options
from serving.promotion import files, history, plan, proxy
from serving.promotion.errors import PromotionError
from serving.promotion.history import BrokenHistoryError, History
from serving.promotion.options import (
    BROKEN,
    carried_out,
    finish_what_was_begun,
    in_words,
    no_proxy_option,
    opened,
    require_done,
    require_reachable,
    root_option,
    say,
    sign_option,
    verifier_of,
)
from serving.promotion.plan import CANARY, STABLE, Kind, Operation
from serving.promotion.production import Production, new_operation
from serving.promotion.proxy import Share
from serving.promotion.root import ProductionRoot
from user_error import UserError
from whole_file import write_json

if TYPE_CHECKING:
    from serving.signing import Verifier


def previous(found: History, model: str) -> int | None:
    """The version that was stable before the one that is, by the history; None if there was none."""
    before: list[int] = []
    for one in found.records:
        if one["model"] != model or one["outcome"] != "done" or STABLE not in one["after"]:
            continue
        before = [version for version in before if version not in one.get("dropped", ())]
        now = one["after"][STABLE]
        if before and before[-1] == now:
            continue
        if one["what"] == Kind.ROLLBACK and len(before) > 1 and before[-2] == now:
            before.pop()  # what was rolled back from is nothing to go back to
        else:
            before.append(now)
    return before[-2] if len(before) > 1 else None


@click.command("rollback", epilog="""
\b
Examples:
  python -m serving rollback mnist
  python -m serving rollback mnist --rest http://a:8501 --grpc a:8500 --rest http://b:8501 --grpc b:8500
""")
@click.argument("model")
@root_option
@no_proxy_option
@sign_option
@server_options
@json_option
@in_words
def rollback_command(model: str, root: str, no_proxy: bool, rests: tuple[str, ...], grpcs: tuple[str, ...],
                     sign: Path | None, json_path: str | None) -> None:
    """Take the canary of MODEL away, or without one move stable back to the version before: a label move, no load."""
    production = opened(root, rests, grpcs, sign=sign)
    with production.root.locked():
        taken_up = finish_what_was_begun(production, no_proxy)
        ended = taken_up if taken_up is not None and (taken_up.kind, taken_up.model) == (Kind.ROLLBACK, model) else (
            _rolled_back(production, model, no_proxy))
        require_done(ended)
        if json_path:
            write_json(json_path, {"done": True, "operation": ended.to_json()})
        say(f"version {ended.version} of {model} is stable again" if ended.version else
            f"version {ended.before.labels[CANARY]} of {model} is no canary any more")


def _rolled_back(production: Production, model: str, no_proxy: bool) -> Operation:
    """Raises PromotionError if there is nothing to go back to."""
    root = production.root
    before, records = root.config().served(model), history.readable(root.history_path)
    if records.broken is not None:
        say(f"warning: {BROKEN.format(records.broken)}; what can be read of it says where to go back to")
    if CANARY in before.labels:
        version = 0
    elif (found := previous(records, model)) is None:
        raise PromotionError(f"{model} has no version before the one that is stable in {root.path}")
    elif found not in before.versions:
        raise PromotionError(f"version {found} of {model}, which was stable before, is not loaded any more: `gc` never "
                             "drops it, so it was taken out by hand; promote it again")
    else:
        version = found
    require_reachable(production, model)
    share = proxy.following(proxy.shared(records, model), Share(), no_proxy)
    proxy.require_routes(model, share)
    return carried_out(new_operation(Kind.ROLLBACK, model, version, before, {"share": share.to_json()}), production)


@click.command("gc", epilog="""
\b
Examples:
  python -m serving gc mnist
  python -m serving gc mnist --dry-run
""")
@click.argument("model")
@click.option("--dry-run", is_flag=True, help="Only say which versions would go.")
@root_option
@sign_option
@server_options
@json_option
@in_words
def gc_command(model: str, dry_run: bool, root: str, rests: tuple[str, ...], grpcs: tuple[str, ...],
               sign: Path | None, json_path: str | None) -> None:
    """Drop the versions of MODEL that have no label and that a rollback would not go back to."""
    production = opened(root, rests, grpcs, sign=sign)
    with production.root.locked():
        finish_what_was_begun(production)
        before = production.root.config().served(model)
        if STABLE not in before.labels:
            raise PromotionError(f"{model} has no stable version in {production.root.path}, so nothing is dropped")
        there = {*before.versions, *production.root.versions(model)}
        kept = plan.needed(before, previous(history.read(production.root.history_path), model)) | (
            production.root.config().named_by_others(model, production.root.base_path(model), there))
        dropped = frozenset(there - kept)
        ended = None
        if dropped and not dry_run:
            require_reachable(production, model)
            ended = carried_out(new_operation(Kind.GC, model, 0, before, dropped=dropped), production)
        if json_path:
            write_json(json_path, {"dropped": sorted(dropped), "kept": sorted(kept), "done": ended is not None})
        say(f"{model}: {'would drop' if dry_run else 'dropped'} {', '.join(map(str, sorted(dropped))) or 'nothing'}; "
            f"kept {', '.join(map(str, sorted(kept)))}")


@click.command("audit", epilog="""
\b
Examples:
  python -m serving audit
  python -m serving audit --root /srv/production --json -
  python -m serving audit --require-signature key.pub
""")
@click.option("--require-signature", "key", type=click.Path(path_type=Path), metavar="KEY",
              help="Every version, what was proven of it, and every record must be signed with this public key (PEM).")
@root_option
@json_option
@in_words
def audit_command(root: str, key: Path | None, json_path: str | None) -> int:
    """Check every version's files, and the chain of the history, against what was recorded."""
    verifier, found = verifier_of(key), ProductionRoot.at(root)
    wrong, head = audit(found, verifier)
    if json_path:
        write_json(json_path, {"right": not wrong, "wrong": wrong, "head": head})
    if json_path != "-":
        for line in wrong:
            print(line)
        print(f"{'not ' if wrong else ''}as recorded; the history ends with {head}")
    return EXIT_FAILED if wrong else 0


def audit(root: ProductionRoot, verifier: Verifier | None = None) -> tuple[list[str], str]:
    """(what is not as recorded, or not as it was signed, the digest of the history's last line)."""
    wrong, head = _unlike_records(root)
    return wrong if verifier is None else [*wrong, *_unsigned(root, verifier)], head


def _unsigned(root: ProductionRoot, verifier: Verifier) -> list[str]:
    """Of all that is served, and of all records: what the key's owner did not sign."""
    wrong, file = [], root.config()
    for model in file.models:
        entry = file.entry(model)
        versions = sorted(file.served(model).versions)
        if not versions:
            wrong.append(f"models.config lets servers choose versions of {model}, so nobody can say whether they are "
                         "signed")
        for version in versions:
            try:
                verifier.require_proven(Path(entry.base_path if entry else "", str(version)), model)
            except UserError as error:
                wrong.append(str(error))
    return wrong + [
        f"record {number} of the history ({one['what']} {one['model']}) was not signed with {verifier.path}"
        for number, one in enumerate(history.readable(root.history_path).records, 1)
        if not verifier.verifies(history.signed_content(one), str(one.get("signature", "")))]


def _unlike_records(root: ProductionRoot) -> tuple[list[str], str]:
    try:
        found = history.read(root.history_path)
    except BrokenHistoryError as error:
        return [f"history.jsonl, {error}"], ""
    wrong = []
    recorded: dict[tuple[str, int], tuple[str, str]] = {}
    for one in found.records:
        if one["outcome"] == "done" and one["digest"]:
            recorded[one["model"], one["version"]] = one["digest"], one.get("golden", "")
        for version in one["dropped"]:
            recorded.pop((one["model"], version), None)
    file = root.config()
    for (model, version), (digest, golden) in sorted(recorded.items()):
        path = root.version_path(model, version)
        if not path.is_dir():
            wrong.append(f"{path} is not there")
        elif files.whole(files.digests(path)) != digest:
            wrong.append(f"{path} has other files than were promoted")
        if golden and (not (kept := root.golden_path(model, version)).is_file() or files.digest(kept) != golden):
            wrong.append(f"{kept} is not what the version was proven with")
    for model in file.models:
        served, entry = file.served(model), file.entry(model)
        if entry is None or entry.base_path != str(root.base_path(model)):
            continue  # it was added by hand, and its versions are elsewhere
        wrong += [f"{root.version_path(model, version)} was never promoted, and models.config names it"
                  for version in sorted(served.versions) if (model, version) not in recorded]
        last = next((one for one in reversed(found.records) if one["model"] == model and one["outcome"] != "refused"),
                    None)
        if last is not None:
            labels = {name: number for name, number in served.labels.items() if name in (STABLE, CANARY)}
            expected = {name: number for name, number in last["after"].items() if name in (STABLE, CANARY)}
            if labels != expected:
                wrong.append(f"models.config has the labels {labels} of {model}, and the history says {expected}")
    return wrong, found.head


@click.command("history", epilog="""
\b
Examples:
  python -m serving history
  python -m serving history mnist --json - | jq '.[-1].gates'
""")
@click.argument("model", required=False)
@root_option
@json_option
@in_words
def history_command(model: str | None, root: str, json_path: str | None) -> None:
    """Who promoted what, when, with which figures, and why."""
    found = history.readable(ProductionRoot.at(root).history_path)
    records = [one for one in found.records if model in (None, one["model"])]
    if json_path:
        write_json(json_path, records)
    if json_path != "-":
        table = Table(title=f"{root}: {len(records)} operations", title_justify="left")
        for heading in ("when", "what", "model", "version", "labels then", "who", "gates", "why"):
            table.add_column(heading, overflow="fold")
        for one in records:
            table.add_row(*(escape(cell) for cell in (
                one["when"], f"{one['what']} {one['outcome']}", one["model"], str(one["version"] or ""),
                ", ".join(f"{name} {number}" for name, number in one["after"].items()), one.get("who", ""),
                _gates(one), one.get("forced") or one["why"])))
        Console(highlight=False).print(table)
    if found.broken is not None:
        raise found.broken


def _gates(record: Mapping[str, Any]) -> str:
    said = []
    for gate in record.get("gates", []):
        figures = gate["figures"].get("typical", {}) if gate["name"] == "latency" else {}
        ratio = f" {figures['ratio']:.3f}" if "ratio" in figures else ""
        said.append(f"{gate['name']}{ratio}{'' if gate['passed'] is not False else ' FAILED'}")
    return ", ".join(said)
