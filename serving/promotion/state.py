"""What a production root says and what its servers do: versions, states, labels, readiness, and where they differ."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from commandline import EXIT_FAILED
from serving import status_page
from serving.client.protocol import AnswerError, UnreachableError
from serving.client.saved_model import metadata_of
from serving.promotion import golden, history, proxy, traffic
from serving.promotion.config_file import ConfigFile
from serving.promotion.options import BROKEN, opened
from serving.promotion.plan import STABLE, Served
from serving.promotion.production import Production
from serving.promotion.proxy import Share
from serving.promotion.rollout import StageFailedError
from serving.promotion.servers import Server
from serving.promotion.traffic import Traffic
from user_error import UserError
from whole_file import write_json, write_text

AVAILABLE = "AVAILABLE"


def state(production: Production) -> dict[str, Any]:
    """{"models": [{"name", "labels", "ready", "not_ready_because", "share", "versions": [{"version", "state",
    "variant", "digest", "labels", "requests", "errors", "mean_ms"}]}], "drift": [what differs between the file and a
    server], "under_way": an operation that was not finished}."""
    root, file = production.root, production.root.config()
    past = history.readable(root.history_path)
    drift = [] if past.broken is None else [BROKEN.format(past.broken)]
    models = []
    for model in file.models:
        served = file.served(model)
        states = [_states(host, model, drift) for host in production.hosts]
        for host, seen in zip(production.hosts, states, strict=True):
            if seen is not None:
                drift += _differences(host, model, served, seen)
        promoted = {one["version"]: one for one in past.records if one["model"] == model and one["digest"]}
        versions = sorted({*served.versions, *root.versions(model), *(
            number for seen in states if seen for number, value in seen.items() if value != "END")})
        asked, why = _traffic(production.hosts, model), _not_ready(production, file, model)
        models.append({
            "name": model, "labels": dict(served.labels), "ready": not why,
            "not_ready_because": why, "share": _share(proxy.shared(past, model), model, drift),
            "versions": [{"version": number, "state": _joined(states, number),
                          "variant": _variant(promoted.get(number)), "digest": promoted.get(number, {}).get("digest"),
                          "labels": [name for name, labelled in served.labels.items() if labelled == number],
                          "requests": asked[number].requests if number in asked else None,
                          "errors": asked[number].errors if number in asked else None,
                          "mean_ms": asked[number].mean_ms if number in asked else None}
                         for number in versions]})
    left = root.journal()
    return {"models": models, "drift": drift, "under_way": left and left.to_json()}


def _states(host: Server, model: str, drift: list[str]) -> dict[int, str] | None:
    try:
        return host.states(model)
    except UnreachableError as error:
        drift.append(f"{host.name} does not answer: {error}")
        return None


def _differences(host: Server, model: str, served: Served, seen: Mapping[int, str]) -> list[str]:
    found = [f"{host.name}: version {number} of {model} is {seen.get(number, 'not known')}, and the file names it"
             for number in sorted(served.versions) if seen.get(number) != AVAILABLE]
    if served.versions:
        found += [f"{host.name}: version {number} of {model} is AVAILABLE, and the file does not name it"
                  for number, value in sorted(seen.items()) if value == AVAILABLE and number not in served.versions]
    for label, number in served.labels.items():
        try:
            leads = host.labelled(model, label)
        except UnreachableError:
            continue
        if leads != number:
            found.append(f"{host.name}: label {label} of {model} leads to {leads or 'no version'}, and in the file to "
                         f"{number}")
    return found


def _not_ready(production: Production, file: ConfigFile, model: str) -> str:
    """Why a server does not answer the golden requests of what is stable, or of the newest version without labels; ""
    if all do."""
    served, entry = file.served(model), file.entry(model)
    stable = served.labels.get(STABLE)
    number = stable or max(served.versions, default=0)
    elsewhere = entry is not None and entry.base_path != str(production.root.base_path(model))
    version = production.root.versions(model).get(number)
    if version is None and not elsewhere:
        return f"version {number} has no files" if number else "no version is named"
    try:
        known = [] if version is None or elsewhere else (
            golden.kept(production.root.golden_path(model, number))
            or golden.of_files(version, metadata_of(version).signatures))
        for host in production.hosts:
            with closing(host.client(model, label=STABLE if stable else None)) as client:
                client.metadata()
            if known:
                host.check(model, number, STABLE if stable else None, known)
    except (AnswerError, UnreachableError, UserError, StageFailedError, OSError) as error:
        return str(error)
    return ""


def _share(found: Share, model: str, drift: list[str]) -> dict[str, Any]:
    """What the canary gets of the live traffic; a proxy that was told otherwise is drift."""
    if found.proxy is not None:
        try:
            if (told := proxy.told(found.proxy, model)) != (found.percent, found.mirror):
                drift.append(f"{found.proxy} sends {told[0]} of 100 requests to the canary of {model} and copies of "
                             f"{told[1]}, and in the history it is {found.percent} and {found.mirror}")
        except requests.RequestException as error:
            drift.append(f"{found.proxy} does not answer: {error}")
    return found.to_json()


def _joined(states: list[dict[int, str] | None], number: int) -> str:
    """One state for all servers; those that differ are all named."""
    return ", ".join(dict.fromkeys("not reachable" if seen is None else seen.get(number, "not known")
                                   for seen in states)) or "not known"


def _traffic(hosts: Sequence[Server], model: str) -> dict[int, Traffic]:
    """Of all servers together that report it."""
    found: dict[int, Traffic] = {}
    for host in hosts:
        for number, one in traffic.of_server(host.rest, model).items():
            found.setdefault(number, Traffic()).add(one)
    return found


def _variant(record: Mapping[str, Any] | None) -> str | None:
    return None if record is None else Path(record["source"]).parent.name


def show(found: Mapping[str, Any], where: str) -> None:
    """The state as tables."""
    console = Console(highlight=False)
    for model in found["models"]:
        ready = "answers golden requests" if model["ready"] else (
            f"does NOT answer golden requests: {model['not_ready_because']}")
        table = Table(title=f"{model['name']} in {where}: {ready}", title_justify="left")
        for heading in ("version", "labels", "state", "variant", "digest", "requests", "errors", "mean ms"):
            table.add_column(heading, justify="right" if heading == "version" else "left")
        for one in model["versions"]:
            table.add_row(str(one["version"]), ", ".join(one["labels"]), one["state"], one["variant"] or "",
                          (one["digest"] or "")[:12], *("" if one[key] is None else f"{one[key]:,}" for key in (
                              "requests", "errors")), "" if one["mean_ms"] is None else f"{one['mean_ms']:.2f}")
        console.print(table)
        if (share := model["share"])["percent"] or share["mirror"]:
            console.print(f"canary: {share['percent']} of 100 requests, copies of {share['mirror']}, by "
                          f"{share['proxy'] or 'clients, through the label'}", markup=False)
    for line in found["drift"]:
        console.print(f"differs: {line}", markup=False, soft_wrap=True)
    if found["under_way"]:
        console.print(f"under way: {found['under_way']['kind']} of {found['under_way']['model']}, at "
                      f"{found['under_way']['stage']}")
    if not found["models"]:
        console.print(f"{where} has no model yet: python -m serving promote MODEL VARIANT")


def show_root(root: str, rests: Sequence[str], grpcs: Sequence[str], html_path: str | None, json_path: str | None
              ) -> int:
    """Prints the state of a root, or writes it as JSON or as a page; the exit status: 0 if every model is ready and
    nothing differs."""
    production = opened(root, rests, grpcs)
    found = state(production)
    if html_path:
        records = history.readable(production.root.history_path).records
        write_text(html_path, status_page.page(status_page.values_of(
            found, str(production.root.path), records[-status_page.MOST_PROMOTIONS:])))
    if json_path:
        write_json(json_path, found)
    if json_path != "-":
        show(found, str(production.root.path))
    return 0 if all(model["ready"] for model in found["models"]) and not found["drift"] else EXIT_FAILED
