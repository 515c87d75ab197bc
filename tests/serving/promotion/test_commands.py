"""promote, canary, rollback, status, audit, history and gc, as commands, on a root that a real server hosts."""
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import half_model
import pytest
from promotions import MODEL, Traffic, hosted

from serving.promotion.plan import CANARY, STABLE
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server

pytestmark = pytest.mark.slow
QUICK = ("--bake", "0", "--gate-seconds", "3")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for variant, offset in (("original", 1.0), ("same", 1.0), ("other", 2.0)):
        half_model.save(folder / MODEL / variant / "1", offset)
    return folder


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProductionRoot, Server]]:
    root = ProductionRoot.made(tmp_path_factory.mktemp("root") / "production")
    with hosted(root) as server:
        yield root, server


def _serving(hosting: tuple[ProductionRoot, Server], *arguments: str, servers: bool = True
             ) -> subprocess.CompletedProcess[str]:
    root, server = hosting
    where = ["--rest", str(server.rest), "--grpc", str(server.grpc)] if servers else []
    done = subprocess.run([sys.executable, "-m", "serving", *arguments, "--root", str(root.path), *where],
                          capture_output=True, text=True, timeout=400)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_from_the_first_version_to_gc(models: Path, hosting: tuple[ProductionRoot, Server]) -> None:
    root, server = hosting
    here = ("--models", str(models), *QUICK)
    first = _serving(hosting, "promote", MODEL, "original", *here)
    assert first.returncode == 0, first.stderr
    assert server.labelled(MODEL, STABLE) == 1

    again = _serving(hosting, "promote", MODEL, "original", *here)
    assert again.returncode == 0
    assert "already stable" in again.stderr

    refused = _serving(hosting, "promote", MODEL, "other", *here)
    assert refused.returncode == 3
    assert "parity: not equal" in refused.stderr
    assert sorted(root.versions(MODEL)) == [1]

    needs_reason = _serving(hosting, "canary", MODEL, "other", *here, "--force")
    assert needs_reason.returncode == 2
    forced = _serving(hosting, "canary", MODEL, "other", *here, "--force", "--reason", "trained anew")
    assert forced.returncode == 0, forced.stderr
    assert (server.labelled(MODEL, STABLE), server.labelled(MODEL, CANARY)) == (1, 2)

    state = _json(_serving(hosting, "status", "--json", "-"))
    assert state["drift"] == []
    listed = state["models"][0]["versions"]
    assert [(one["version"], one["state"], one["variant"], one["labels"]) for one in listed] == [
        (1, "AVAILABLE", "original", ["stable"]), (2, "AVAILABLE", "other", ["canary"])]
    assert state["models"][0]["ready"]

    with Traffic(server) as traffic:
        assert _serving(hosting, "promote", MODEL).returncode == 0
        assert server.labelled(MODEL, STABLE) == 2
        assert server.labelled(MODEL, CANARY) is None
        assert _serving(hosting, "rollback", MODEL).returncode == 0
        assert server.labelled(MODEL, STABLE) == 1
        assert "no version before" in _serving(hosting, "rollback", MODEL).stderr
    assert set(traffic.seen) == {"version 1: [1.5, 3.0]", "version 2: [2.5, 4.0]"}

    dropped = _json(_serving(hosting, "gc", MODEL, "--json", "-"))
    assert (dropped["dropped"], dropped["kept"]) == ([2], [1])
    assert sorted(root.versions(MODEL)) == [1]

    records = _json(_serving(hosting, "history", MODEL, "--json", "-", servers=False))
    assert [(one["what"], one["outcome"], one["after"]) for one in records] == [
        ("promote", "done", {"stable": 1}), ("canary", "done", {"stable": 1, "canary": 2}),
        ("finish", "done", {"stable": 2}), ("rollback", "done", {"stable": 1}), ("gc", "done", {"stable": 1})]
    assert records[1]["forced"] == "trained anew"
    # So short a measurement on a busy machine may leave the latency open.
    judged = {gate["name"]: gate["passed"] for gate in records[1]["gates"]}
    assert judged == {"parity": False, "latency": judged["latency"], "accuracy": None, "cost": True}
    assert "ci95" in records[1]["gates"][1]["figures"]["typical"]

    assert _serving(hosting, "audit", servers=False).returncode == 0
    (root.version_path(MODEL, 1) / "saved_model.pb").write_bytes(b"another")
    audited = _serving(hosting, "audit", servers=False)
    assert audited.returncode == 1
    assert "has other files than were promoted" in audited.stdout
