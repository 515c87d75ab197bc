"""Promotions on a real production root, hosted by the embedded server as a command of its own."""
import errno
import shutil
from dataclasses import replace
from pathlib import Path

import half_model
import numpy as np
import pytest
from promotions import MODEL, Traffic, X, hosted
from waiting import until

import durable
from serving.promotion import files, history, plan, state
from serving.promotion.errors import PromotionError, RolledBackError
from serving.promotion.golden import Golden, as_file
from serving.promotion.options import carried_out, require_done
from serving.promotion.plan import CANARY, STABLE, Kind, Served, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.rollout import StageFailedError, carry_out, take_up
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """{offset: a version that answers x / 2 + offset}."""
    folder = tmp_path_factory.mktemp("variants")
    for offset in (1, 2, 3):
        half_model.save(folder / str(offset) / "1", float(offset))
    return {offset: folder / str(offset) / "1" for offset in (1, 2, 3)}


def _operation(production: Production, source: Path, kind: Kind = Kind.PROMOTE) -> plan.Operation:
    root = production.root
    version = max(root.versions(MODEL), default=0) + 1
    return new_operation(kind, MODEL, version, root.config().served(MODEL), source=str(source),
                 digest=files.whole(files.digests(source)))


def _promoted(production: Production, source: Path, kind: Kind = Kind.PROMOTE) -> plan.Operation:
    return carry_out(_operation(production, source, kind), production)


def _interrupted(operation: plan.Operation) -> str:
    raise KeyboardInterrupt


def test_versions_become_stable_and_go_back_while_every_request_is_answered(
        variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as server:
        production = Production(root, [server])
        with root.locked():
            assert _promoted(production, variants[1]).stage is Stage.RECORD
            with Traffic(server) as traffic:
                assert _promoted(production, variants[2], Kind.CANARY).stage is Stage.RECORD
                assert server.labelled(MODEL, CANARY) == 2
                assert server.labelled(MODEL, STABLE) == 1
                carry_out(new_operation(Kind.FINISH, MODEL, 2, root.config().served(MODEL)), production)
                assert server.labelled(MODEL, STABLE) == 2
                until(lambda: traffic.seen["version 2: [2.5, 4.0]"])
                carry_out(new_operation(Kind.ROLLBACK, MODEL, 1, root.config().served(MODEL)), production)
                assert server.labelled(MODEL, STABLE) == 1
            assert set(traffic.seen) == {"version 1: [1.5, 3.0]", "version 2: [2.5, 4.0]"}
    assert root.config().served(MODEL) == Served(frozenset({1, 2}), {STABLE: 1})
    assert root.journal() is None
    assert [(one["what"], one["outcome"], one["after"]) for one in history.read(root.history_path).records] == [
        ("promote", "done", {"stable": 1}), ("canary", "done", {"stable": 1, "canary": 2}),
        ("finish", "done", {"stable": 2}), ("rollback", "done", {"stable": 1})]


def test_a_version_that_answers_otherwise_than_it_was_proven_to_is_undone(
        variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as server:
        assert _promoted(Production(root, [server]), variants[1]).stage is Stage.RECORD
        golden = as_file([Golden(X, "", {"y": np.array([9.0, 9.0], np.float32)})], MODEL)
        ended = _promoted(Production(root, [server], golden), variants[2])
        assert ended.stage is Stage.UNDONE
        assert "golden request 1: not equal: output 'y'" in ended.why
        assert not root.golden_path(MODEL, 2).exists()
        until(lambda: server.states(MODEL).get(2) in (None, "END"))
    assert root.config().served(MODEL) == Served(frozenset({1}), {STABLE: 1})
    assert sorted(root.versions(MODEL)) == [1]
    assert not root.copy_path(MODEL, 2).exists()


def test_a_source_that_changed_or_a_full_disk_leaves_production_as_it_was(
        variants: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as server:
        production = Production(root, [server])
        _promoted(production, variants[1])
        changed = _operation(production, variants[2])
        ended = carry_out(replace(changed, digest="another"), production)
        with pytest.raises(PromotionError, match=r"was changed while .* production is as it was") as caught:
            require_done(ended)
        assert caught.value.exit_status == 1

        def full(source: Path, target: Path) -> Path:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfile", full)
            ended = _promoted(production, variants[2])
        assert "No space left on device; make room there" in ended.why
        assert server.states(MODEL) == {1: "AVAILABLE"}
        # A version that came as far as the servers was rolled back.
        golden = as_file([Golden(X, "", {"y": np.array([9.0, 9.0], np.float32)})], MODEL)
        with pytest.raises(RolledBackError):
            require_done(_promoted(Production(root, [server], golden), variants[2]))
    assert root.config().served(MODEL) == Served(frozenset({1}), {STABLE: 1})
    assert not root.copy_path(MODEL, 2).exists()


def test_with_several_servers_no_label_moves_before_all_have_the_version(
        variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as one, hosted(root) as other:
        both = Production(root, [one, other], load_s=60)
        assert _promoted(both, variants[1]).stage is Stage.RECORD
        assert [host.labelled(MODEL, STABLE) for host in (one, other)] == [1, 1]
        gone = Server("http://127.0.0.1:1", "127.0.0.1:1")
        with_one_that_is_gone = Production(root, [one, other, gone], load_s=1, answer_s=1)
        with pytest.raises(StageFailedError, match="does not answer"):
            _promoted(with_one_that_is_gone, variants[2])
        # What could be undone is; the next command, without the server that is gone, finishes it.
        left = root.journal()
        assert left is not None
        assert left.undoing
        assert take_up(left, both).stage is Stage.UNDONE
        assert [host.labelled(MODEL, STABLE) for host in (one, other)] == [1, 1]
        until(lambda: all(host.states(MODEL).get(2) in (None, "END") for host in (one, other)))
    assert root.config().served(MODEL) == Served(frozenset({1}), {STABLE: 1})


def test_a_server_that_is_named_by_rest_alone_follows_the_file(variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as server:
        polling = Server(server.rest)
        assert _promoted(Production(root, [polling]), variants[1]).stage is Stage.RECORD
        golden = as_file([Golden(X, "", {"y": np.array([2.5, 4.0], np.float32)})], MODEL)
        assert _promoted(Production(root, [polling], golden), variants[2]).stage is Stage.RECORD
        assert polling.labelled(MODEL, STABLE) == 2


def test_a_restarted_server_has_the_labels_of_the_file(variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as server:
        _promoted(Production(root, [server]), variants[1])
        _promoted(Production(root, [server]), variants[2], Kind.CANARY)
    with hosted(root) as server:
        server.await_label(MODEL, STABLE, 1, 30)
        server.await_label(MODEL, CANARY, 2, 30)


def test_an_interrupted_promotion_is_taken_up(variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as server:
        production = Production(root, [server])
        _promoted(production, variants[1])

        class Dies(Production):
            def bake(self, operation: plan.Operation) -> None:
                raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            _promoted(Dies(root, [server]), variants[2])
        assert server.labelled(MODEL, CANARY) == 2
        left = root.journal()
        assert left is not None
        assert take_up(left, production).stage is Stage.UNDONE
        # A command puts production right itself, before it ends.
        watched = Production(root, [server])
        watched.watch = _interrupted
        with pytest.raises(KeyboardInterrupt):
            carried_out(_operation(watched, variants[2]), watched)
        assert server.labelled(MODEL, CANARY) is None
        assert server.labelled(MODEL, STABLE) == 1
    assert root.config().served(MODEL) == Served(frozenset({1}), {STABLE: 1})


def test_a_version_is_held_to_the_answers_that_it_was_proven_with(variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    golden = as_file([Golden(X, "", {"y": np.array([1.5, 3.0], np.float32)})], MODEL)
    with hosted(root) as server:
        assert _promoted(Production(root, [server], golden), variants[1]).stage is Stage.RECORD
        # Another process knows them, too.
        later = Production(root, [server])
        shown = state.state(later)["models"][0]
        assert (shown["ready"], shown["not_ready_because"]) == (True, "")
        finish = new_operation(Kind.FINISH, MODEL, 1, root.config().served(MODEL))
        later.check(server.name, finish, STABLE)
        # They were answered otherwise: the version is not what was proven.
        durable.write(root.golden_path(MODEL, 1), as_file(
            [Golden(X, "", {"y": np.zeros(2, np.float32)})], MODEL))
        shown = state.state(later)["models"][0]
        assert not shown["ready"]
        assert "golden request 1: not equal: output 'y'" in shown["not_ready_because"]
        with pytest.raises(StageFailedError, match="golden request 1: not equal"):
            later.check(server.name, finish, STABLE)
        # Nothing stands in the way of going back, and a file that cannot be read in that of nothing.
        later.check(server.name, replace(finish, kind=Kind.ROLLBACK), STABLE)
        said: list[str] = []
        later.told = said.append
        root.golden_path(MODEL, 1).write_bytes(b"nothing")
        later.check(server.name, finish, STABLE)
        assert "answers are not compared" in said[0]


def test_files_that_a_model_of_another_name_serves_stay(variants: dict[int, Path], tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    shutil.copytree(variants[1], root.version_path(MODEL, 1))
    shutil.copytree(variants[2], root.version_path(MODEL, 2))
    root.config_path.write_text(f"""model_config_list {{ config {{ name: "alias"
        base_path: "{root.base_path(MODEL)}" model_version_policy {{ specific {{ versions: 2 }} }} }} }}""")
    Production(root, []).remove(MODEL, [1, 2])
    assert sorted(root.versions(MODEL)) == [2]


def test_a_refused_version_is_in_the_history_and_changes_nothing_else(tmp_path: Path) -> None:
    production = Production(ProductionRoot.made(tmp_path / "production"), [])
    before = Served(frozenset({1, 2}), {STABLE: 1, CANARY: 2})
    production.refuse(new_operation(Kind.PROMOTE, MODEL, 0, before, {"gates": []}, source="/here", why="it is slower"))
    found = history.read(production.root.history_path)
    assert [(one["outcome"], one["after"], one["why"]) for one in found.records] == [
        ("refused", {STABLE: 1, CANARY: 2}, "it is slower")]
