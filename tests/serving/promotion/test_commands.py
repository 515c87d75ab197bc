"""promote, canary, rollback, status, audit, history and gc, as commands, on a root that a real server hosts."""
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import half_model
import keys
import pytest
import tensorflow as tf
from promotions import MODEL, Traffic, hosted

from serving.promotion import files
from serving.promotion.plan import CANARY, STABLE, Kind, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.rollout import carry_out
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server
from serving.signing import Signer, Verifier

pytestmark = pytest.mark.slow
QUICK = ("--bake", "0", "--gate-seconds", "3")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for variant, offset in (("original", 1.0), ("same", 1.0), ("other", 2.0)):
        half_model.save(folder / MODEL / variant / "1", offset)
    return folder


@pytest.fixture
def hosting(tmp_path: Path) -> Iterator[tuple[ProductionRoot, Server]]:
    root = ProductionRoot.made(tmp_path / "production")
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

    page = root.path.parent / "status.html"
    state = _json(_serving(hosting, "status", "--json", "-", "--html", str(page)))
    assert all(shown in page.read_text() for shown in (MODEL, "trained anew", 'class="label">canary', "refused"))
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
        ("promote", "done", {"stable": 1}), ("promote", "refused", {"stable": 1}),
        ("canary", "done", {"stable": 1, "canary": 2}), ("finish", "done", {"stable": 2}),
        ("rollback", "done", {"stable": 1}), ("gc", "done", {"stable": 1})]
    assert [(gate["name"], gate["passed"]) for gate in records[1]["gates"]] == [("parity", False), ("accuracy", None)]
    del records[1]
    assert records[1]["forced"] == "trained anew"
    # So short a measurement on a busy machine may leave the latency open.
    judged = {gate["name"]: gate["passed"] for gate in records[1]["gates"]}
    assert judged == {"parity": False, "accuracy": None, "latency": judged["latency"], "cost": True}
    assert "ci95" in records[1]["gates"][2]["figures"]["typical"]

    assert "replay" in records[1]
    assert records[1]["bake"]["passed"] is None
    assert _serving(hosting, "audit", servers=False).returncode == 0
    kept = root.golden_path(MODEL, 1)
    was = kept.read_bytes()
    kept.write_bytes(was + b"more")
    audited = _serving(hosting, "audit", servers=False)
    assert audited.returncode == 1
    assert f"{kept} is not what the version was proven with" in audited.stdout.replace("\n", "")
    kept.write_bytes(was)
    lines = root.history_path.read_bytes().splitlines(keepends=True)
    root.history_path.write_bytes(b"".join([*lines[:2], b"damaged\n", *lines[3:]]))
    assert "line 3: it is no JSON; bring back a copy" in _serving(hosting, "gc", MODEL).stderr
    assert "the history is broken, line 3" in json.loads(_serving(hosting, "status", "--json", "-").stdout)["drift"][0]
    shown = _serving(hosting, "history", "--json", "-", servers=False)
    assert (shown.returncode, len(json.loads(shown.stdout.split("\n]")[0] + "\n]"))) == (1, len(lines) - 1)
    root.history_path.write_bytes(b"".join(lines))
    (root.version_path(MODEL, 1) / "saved_model.pb").write_bytes(b"another")
    audited = _serving(hosting, "audit", servers=False)
    assert audited.returncode == 1
    assert "has other files than were promoted" in audited.stdout


def test_who_asks_again_after_an_interrupted_rollback_or_finish_gets_it_once(
        models: Path, hosting: tuple[ProductionRoot, Server]) -> None:
    root, server = hosting
    production = Production(root, [server])

    def carried_out(kind: Kind, version: int, variant: str) -> None:
        source = models / MODEL / variant / "1"
        assert carry_out(new_operation(kind, MODEL, version, root.config().served(MODEL), source=str(source),
                                       digest=files.whole(files.digests(source))), production).stage is Stage.RECORD
    for version, variant in enumerate(("original", "other", "original"), 1):
        carried_out(Kind.PROMOTE, version, variant)
    # Killed once its label could have moved; then back to the version before, and not to the one before that.
    root.write_journal(replace(new_operation(Kind.ROLLBACK, MODEL, 2, root.config().served(MODEL)), stage=Stage.STABLE))
    again = _serving(hosting, "rollback", MODEL)
    assert again.returncode == 0, again.stderr
    assert f"version 2 of {MODEL} is stable again" in again.stderr
    assert server.labelled(MODEL, STABLE) == 2

    carried_out(Kind.CANARY, 4, "original")
    root.write_journal(new_operation(Kind.FINISH, MODEL, 4, root.config().served(MODEL)))
    again = _serving(hosting, "promote", MODEL)
    assert again.returncode == 0, again.stderr
    assert server.labelled(MODEL, STABLE) == 4

    # Going back does not wait until a history that was damaged is whole again.
    lines = root.history_path.read_bytes().splitlines(keepends=True)
    root.history_path.write_bytes(b"".join([b"damaged\n", *lines[1:]]))
    back = _serving(hosting, "rollback", MODEL)
    assert back.returncode == 0, back.stderr
    assert "the history is broken, line 1" in back.stderr
    assert server.labelled(MODEL, STABLE) == 2
    assert _serving(hosting, "audit", servers=False).returncode == 1


class _Renamed(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="z")])
    def serve(self, z: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 3 * z}


def test_a_version_that_clients_must_change_for_passes_only_if_that_is_allowed(
        models: Path, hosting: tuple[ProductionRoot, Server], tmp_path: Path) -> None:
    _, server = hosting
    module = _Renamed()
    tf.saved_model.save(module, str(tmp_path / MODEL / "renamed/1"), signatures=module.serve)
    (tmp_path / MODEL / "original").symlink_to(models / MODEL / "original")
    here = ("--models", str(tmp_path), "--bake", "1s")
    assert _serving(hosting, "promote", MODEL, "original", *here).returncode == 0
    refused = _serving(hosting, "promote", MODEL, "renamed", *here, "--json", str(tmp_path / "result.json"))
    assert refused.returncode == 3
    assert "input 'z' of 'serving_default' is new" in json.loads((tmp_path / "result.json").read_text())["why"]
    allowed = _serving(hosting, "promote", MODEL, "renamed", *here, "--allow-signature-change")
    assert allowed.returncode == 0, allowed.stderr
    assert server.labelled(MODEL, STABLE) == 2


def test_what_is_signed_is_served_and_nothing_else(models: Path, tmp_path: Path) -> None:
    private, public = keys.written(tmp_path)
    root = ProductionRoot.made(tmp_path / "production")
    mine = tmp_path / "models"
    (mine / MODEL).mkdir(parents=True)
    for variant in ("original", "same"):
        shutil.copytree(models / MODEL / variant, mine / MODEL / variant)
    here = ("--models", str(mine), *QUICK, "--require-signature", str(public))
    with hosted(root, require_signature=public) as server:
        hosting = (root, server)
        unsigned = _serving(hosting, "promote", MODEL, "original", *here, "--sign", str(private))
        assert unsigned.returncode == 3
        assert "is not signed: " in unsigned.stderr
        record = _json(_serving(hosting, "history", MODEL, "--json", "-", servers=False))[0]
        assert (record["outcome"], "is not signed: " in record["why"]) == ("refused", True)
        for variant in ("original", "same"):
            Signer.at(private).sign_version(mine / MODEL / variant / "1")
        # The server holds to its key: a version that nobody signs in production never gets there.
        not_signed = _serving(hosting, "promote", MODEL, "original", *here)
        assert not_signed.returncode == 6
        assert "is not signed" in not_signed.stderr
        assert root.versions(MODEL) == {}
        promoted = _serving(hosting, "promote", MODEL, "original", *here, "--sign", str(private))
        assert promoted.returncode == 0, promoted.stderr
        number = server.labelled(MODEL, STABLE)
        assert number is not None
        audited = _serving(hosting, "audit", "--require-signature", str(public), servers=False)
        assert audited.stdout.count("was not signed") == 1  # the record of the promotion without --sign
        statement = Verifier.at(public).statement(root.version_path(MODEL, number), MODEL)["predicate"]
        assert (statement["scan"]["passed"], statement["gates"], statement["goldenRequests"]) == (True, [], 4)

        (mine / MODEL / "same/1/more").write_bytes(b"added after it was signed")
        forged = _serving(hosting, "promote", MODEL, "same", *here, "--sign", str(private))
        assert forged.returncode == 3
        assert "is not what was signed" in forged.stderr
        assert server.labelled(MODEL, STABLE) == number

        # Proven and signed as a version of one model, it is none of another.
        statement_path = root.version_path(MODEL, number).with_name(f".{number}.intoto")
        kept = statement_path.read_bytes()
        Signer.at(private).state(root.version_path(MODEL, number), "another", {})
        audited = _serving(hosting, "audit", "--require-signature", str(public), servers=False)
        assert "is a statement on something else" in audited.stdout.replace("\n", "")
        Signer.at(private).sign_version(mine / MODEL / "same/1")
        compared = _serving(hosting, "promote", MODEL, "same", *here, "--sign", str(private))
        assert compared.returncode == 3
        assert "is a statement on something else" in compared.stderr
        statement_path.write_bytes(kept)
    with (root.version_path(MODEL, number) / "saved_model.pb").open("ab") as file:
        file.write(b"x")
    started = subprocess.run([
        sys.executable, "-m", "serving", "serve", f"--model_config_file={root.config_path}", "--port=0",
        f"--grpc_socket_path={tmp_path / 'socket'}", f"--require_signature={public}", "--max_num_load_retries=0"],
        capture_output=True, text=True, timeout=120, check=False)
    assert started.returncode == 255
    assert f"version: {number}}} due to error: PERMISSION_DENIED" in started.stderr
    assert "is not what was signed with the key" in started.stderr
    assert "Traceback" not in started.stderr
