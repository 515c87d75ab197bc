"""What TensorFlow Serving's configuration does that one would not expect, each seen on a server, and passed by."""
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import half_model
import pytest
import requests
from promotions import MODEL, hosted
from waiting import until

import durable
from serving.promotion import files, plan
from serving.promotion.options import require_reachable
from serving.promotion.plan import CANARY, STABLE, Kind, Served, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.rollout import StageFailedError, carry_out
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server

Hosting = tuple[Production, Path]


@pytest.fixture
def hosting(tmp_path: Path) -> Iterator[Hosting]:
    """Production with version 1 stable, and a version that may come next."""
    for name, offset in (("first", 1.0), ("next", 2.0)):
        half_model.save(tmp_path / name / "1", offset)
    root = ProductionRoot.made(tmp_path / "production")
    with hosted(root) as server:
        production = Production(root, [server])
        assert _promoted(production, tmp_path / "first/1").stage is Stage.RECORD
        yield production, tmp_path / "next/1"


def _promoted(production: Production, source: Path, model: str = MODEL) -> plan.Operation:
    root = production.root
    return carry_out(new_operation(Kind.PROMOTE, model, max(root.versions(model), default=0) + 1,
                                   root.config().served(model), source=str(source),
                                   digest=files.whole(files.digests(source))), production)


def _with_version_2(production: Production, source: Path, labels: dict[str, int]) -> str:
    """The text of models.config with version 2, whose files are there."""
    root = production.root
    durable.copy_tree(source, root.version_path(MODEL, 2))
    return root.config().with_served(MODEL, root.base_path(MODEL), Served(frozenset({1, 2}), labels))


def _server(production: Production) -> Server:
    server, = production.hosts
    return server


def test_a_label_and_its_version_in_one_request_are_refused(hosting: Hosting) -> None:
    production, source = hosting
    text = _with_version_2(production, source, {STABLE: 2})
    before = production.root.config_path.read_text()
    durable.write(production.root.config_path, text.encode())
    with pytest.raises(StageFailedError, match="refuses the configuration"):
        production.reload(_server(production).name)
    durable.write(production.root.config_path, before.encode())


NOTHING, TWO = Served(), Served(frozenset({1, 2}), {STABLE: 2})
CANARIED = Served(frozenset({1, 2, 3}), {STABLE: 2, CANARY: 3})


@pytest.mark.parametrize(("kind", "version", "before"), [
    *((kind, 4, before) for kind in (Kind.PROMOTE, Kind.CANARY) for before in (NOTHING, TWO, CANARIED)),
    *((kind, 3, CANARIED) for kind in (Kind.SHARE, Kind.FINISH)), (Kind.ROLLBACK, 0, CANARIED), (Kind.ROLLBACK, 1, TWO),
    (Kind.GC, 0, TWO), (Kind.GC, 0, CANARIED)])
def test_so_no_step_moves_a_label_to_a_version_that_it_names_for_the_first_time(
        kind: Kind, version: int, before: Served) -> None:
    operation = new_operation(kind, "m", version, before, dropped=frozenset({1} if kind is Kind.GC else ()))
    named, at = before, operation
    steps = []
    while True:
        now = plan.merged(named, at)
        steps.append(now)
        moved = {label for label, version in now.labels.items() if named.labels.get(label) != version}
        assert not moved or now.versions == named.versions, at.stage
        assert all(now.labels[label] in named.versions for label in moved), at.stage
        # On the way back from here, too.
        back, there = plan.undone(at, "why") if plan.may_be_undone(at) else None, now
        while back is not None:
            then = plan.merged(there, back)
            moved = {label for label, version in then.labels.items() if there.labels.get(label) != version}
            assert not moved or then.versions == there.versions, back.stage
            back, there = plan.following(back), then
        following = plan.following(at)
        if following is None:
            break
        named, at = now, following
    assert len(steps) >= 2


def test_a_reload_is_answered_before_a_version_is_loaded_and_status_shows_no_labels(hosting: Hosting) -> None:
    production, source = hosting
    server = _server(production)
    text = _with_version_2(production, source, {STABLE: 1})
    # Its files are not there yet: the server could not have loaded it.
    hidden = production.root.copy_path(MODEL, 2)
    production.root.version_path(MODEL, 2).rename(hidden)
    durable.write(production.root.config_path, text.encode())
    production.reload(server.name)
    assert server.states(MODEL).get(2) != "AVAILABLE"
    hidden.rename(production.root.version_path(MODEL, 2))
    production.await_available(server.name, MODEL, 2)
    with closing(server.client(MODEL)) as client:
        assert {status.version: status.state for status in client.status()} == {1: "AVAILABLE", 2: "AVAILABLE"}
    told = requests.get(f"{server.rest}/v1/models/{MODEL}", timeout=10).text
    assert "AVAILABLE" in told
    assert STABLE not in told
    assert server.labelled(MODEL, STABLE) == 1


def test_a_reload_drops_what_it_does_not_name_so_all_models_are_sent(hosting: Hosting) -> None:
    production, source = hosting
    server, root = _server(production), production.root
    assert _promoted(production, source, "another").stage is Stage.RECORD
    assert _promoted(production, source).stage is Stage.RECORD
    assert (server.labelled("another", STABLE), server.labelled(MODEL, STABLE)) == (1, 2)
    # What it would have been without the other model.
    alone = root.config().with_served("another", root.base_path("another"), Served())
    before = root.config_path.read_text()
    durable.write(root.config_path, alone.encode())
    production.reload(server.name)
    until(lambda: server.labelled("another", STABLE) is None)
    durable.write(root.config_path, before.encode())
    production.reload(server.name)
    until(lambda: server.labelled("another", STABLE) == 1)


def test_a_reload_that_is_not_in_the_file_is_taken_back_so_the_file_is_written_first(hosting: Hosting) -> None:
    production, source = hosting
    server, root = _server(production), production.root
    assert _promoted(production, source).stage is Stage.RECORD
    text = root.config_path.read_text()
    # Told otherwise than the file says, by a reload alone: at the next poll it is as before.
    durable.write(root.config_path, root.config().with_served(
        MODEL, root.base_path(MODEL), Served(frozenset({1, 2}), {STABLE: 1})).encode())
    message = root.config().message
    durable.write(root.config_path, text.encode())
    server.reload(message, 10, 60)
    until(lambda: server.labelled(MODEL, STABLE) == 2)
    require_reachable(production, MODEL)
