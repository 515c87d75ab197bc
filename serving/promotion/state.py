"""What a production root says and what its servers do: versions, states, labels, readiness, and where they differ."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from commandline import EXIT_FAILED
from serving.client.protocol import AnswerError, UnreachableError
from serving.client.saved_model import metadata_of
from serving.promotion import golden, history, traffic
from serving.promotion.options import opened
from serving.promotion.plan import Served
from serving.promotion.production import Production
from serving.promotion.servers import Server
from serving.promotion.traffic import Traffic
from user_error import UserError
from whole_file import write_json

AVAILABLE = "AVAILABLE"


def state(production: Production) -> dict[str, Any]:
    """{"models": [{"name", "labels", "ready", "versions": [{"version", "state", "variant", "digest", "labels",
    "requests", "errors", "mean_ms"}]}], "drift": [what differs between the file and a server],
    "under_way": an operation that was not finished}."""
    root, file = production.root, production.root.config()
    records = history.read(root.history_path).records
    drift: list[str] = []
    models = []
    for model in file.models:
        served = file.served(model)
        states = [_states(host, model, drift) for host in production.hosts]
        for host, seen in zip(production.hosts, states, strict=True):
            if seen is not None:
                drift += _differences(host, model, served, seen)
        promoted = {one["version"]: one for one in records if one["model"] == model and one["digest"]}
        versions = sorted({*served.versions, *root.versions(model), *(
            number for seen in states if seen for number, value in seen.items() if value != "END")})
        asked = _traffic(production.hosts, model)
        models.append({
            "name": model, "labels": dict(served.labels), "ready": _ready(production, model, served),
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


def _ready(production: Production, model: str, served: Served) -> bool:
    """Whether every server answers the golden requests of what is stable, or of each version without labels."""
    wanted = served.labels.get("stable")
    version = production.root.versions(model).get(wanted or max(served.versions, default=0))
    if version is None:
        return False
    try:
        requests = golden.of_files(version, metadata_of(version).signatures)
        for host in production.hosts:
            with closing(host.client(model, label="stable" if wanted else None)) as client:
                if requests:
                    golden.answered(requests, client)
                else:
                    client.metadata()
    except (AnswerError, UnreachableError, UserError):
        return False
    return True


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
        ready = "answers golden requests" if model["ready"] else "does NOT answer golden requests"
        table = Table(title=f"{model['name']} in {where}: {ready}", title_justify="left")
        for heading in ("version", "labels", "state", "variant", "digest", "requests", "errors", "mean ms"):
            table.add_column(heading, justify="right" if heading == "version" else "left")
        for one in model["versions"]:
            table.add_row(str(one["version"]), ", ".join(one["labels"]), one["state"], one["variant"] or "",
                          (one["digest"] or "")[:12], *("" if one[key] is None else f"{one[key]:,}" for key in (
                              "requests", "errors")), "" if one["mean_ms"] is None else f"{one['mean_ms']:.2f}")
        console.print(table)
    for line in found["drift"]:
        console.print(f"differs: {line}", markup=False, soft_wrap=True)
    if found["under_way"]:
        console.print(f"under way: {found['under_way']['kind']} of {found['under_way']['model']}, at "
                      f"{found['under_way']['stage']}")
    if not found["models"]:
        console.print(f"{where} has no model yet: python -m serving promote MODEL VARIANT")


def show_root(root: str, rests: Sequence[str], grpcs: Sequence[str], json_path: str | None) -> int:
    """Prints the state of a root, or writes it as JSON; the exit status: 0 if every model is ready and nothing differs.
    """
    production = opened(root, rests, grpcs)
    found = state(production)
    if json_path:
        write_json(json_path, found)
    if json_path != "-":
        show(found, str(production.root.path))
    return 0 if all(model["ready"] for model in found["models"]) and not found["drift"] else EXIT_FAILED
