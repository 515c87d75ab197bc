"""What a canary gets of the live traffic: as values, and by a real Envoy in front of a real server."""
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import half_model
import pytest
import requests
from envoy_proxy import envoy
from promotions import MODEL, hosted
from waiting import until

from serving.promotion import files, history, plan, proxy, state, traffic
from serving.promotion.errors import PromotionError
from serving.promotion.history import History
from serving.promotion.plan import CANARY, STABLE, Kind, Stage
from serving.promotion.production import Production, new_operation
from serving.promotion.proxy import Share
from serving.promotion.rollout import StageFailedError, carry_out
from serving.promotion.root import ProductionRoot

URL = "http://127.0.0.1:9901"


def _record(what: str, after: dict[str, int], share: Share | None = None, outcome: str = "done") -> dict[str, Any]:
    return {"model": "m", "what": what, "after": after, "outcome": outcome} | (
        {"share": share.to_json()} if share else {})


BOTH, TENTH = {STABLE: 1, CANARY: 2}, Share(10, 0, URL)


@pytest.mark.parametrize(("records", "expected"), [
    ([], Share()),
    ([_record("canary", BOTH, TENTH)], TENTH),
    ([_record("canary", BOTH, TENTH), _record("gc", BOTH)], TENTH),
    ([_record("canary", BOTH, TENTH), _record("share", BOTH, Share(50, 0, URL))], Share(50, 0, URL)),
    # One that was undone has lowered it.
    ([_record("canary", BOTH, TENTH), _record("share", BOTH, Share(50, 0, URL), "undone")], Share(0, 0, URL)),
    # One that was undone before it came to that has not.
    ([_record("canary", BOTH, TENTH), {**_record("promote", BOTH, Share(0, 0, URL), "undone"), "failed_at": "load"}],
     TENTH),
    ([_record("canary", BOTH, TENTH), {**_record("promote", BOTH, Share(0, 0, URL), "undone"), "failed_at": "bake"}],
     Share(0, 0, URL)),
    ([_record("canary", BOTH, TENTH), _record("finish", {STABLE: 2}, Share(0, 0, URL))], Share()),
    ([_record("canary", BOTH, TENTH), {**_record("promote", {STABLE: 9}), "model": "other"}], TENTH)])
def test_what_a_canary_gets_is_what_the_history_says(records: list[dict[str, Any]], expected: Share) -> None:
    assert proxy.shared(History(tuple(records)), "m") == expected


def test_the_proxy_that_shares_out_the_traffic_is_asked_until_it_is_said_to_be_gone() -> None:
    assert proxy.following(TENTH, Share(50), no_proxy=False) == Share(50, 0, URL)
    assert proxy.following(Share(), TENTH, no_proxy=False) == TENTH
    assert proxy.following(TENTH, Share(), no_proxy=True) == Share()
    with pytest.raises(PromotionError, match="shares out this model's traffic now"):
        proxy.following(TENTH, Share(10, 0, "http://127.0.0.1:9902"), no_proxy=False)


def test_a_proxy_that_is_not_there(tmp_path: Path) -> None:
    nowhere = Share(10, 0, "http://127.0.0.1:1")
    with pytest.raises(PromotionError, match=r"admin API at http://127\.0\.0\.1:1 does not answer"):
        proxy.require_routes("m", nowhere)
    with pytest.raises(StageFailedError, match="does not take what the canary of m gets"):
        proxy.tell("m", nowhere)
    assert not proxy.in_force("m", nowhere)
    assert proxy.in_force("m", Share(10))
    proxy.require_routes("m", Share(10))  # clients share it out
    proxy.tell("m", Share(10))


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Version 1 is stable; `other` is a version that may become canary."""
    folder = tmp_path_factory.mktemp("proxied")
    for name, offset in (("first", 1.0), ("other", 2.0)):
        half_model.save(folder / name / "1", offset)
    (folder / "monitoring").write_text('prometheus_config { enable: true }')
    root = ProductionRoot.made(folder / "production")
    with hosted(root, monitoring_config_file=folder / "monitoring") as server:
        made = Production(root, [server])
        _carried_out(made, Kind.PROMOTE, folder / "first/1")
        yield made


def _carried_out(production: Production, kind: Kind, source: Path | None = None, share: Share | None = None
                 ) -> plan.Operation:
    root, before = production.root, production.root.config().served(MODEL)
    version = max(root.versions(MODEL), default=0) + 1 if source else before.labels.get(CANARY, 0)
    more = {"source": str(source), "digest": files.whole(files.digests(source))} if source else {}
    return carry_out(new_operation(kind, MODEL, 0 if kind is Kind.ROLLBACK else version, before,
                                   {"share": share.to_json()} if share else {}, **more), production)


def _answers(url: str, count: int) -> Counter[float]:
    """Which offset answered, of so many live requests."""
    with requests.Session() as session:
        return Counter(session.post(f"{url}/v1/models/{MODEL}:predict", json={"instances": [0.0]}, timeout=20).json()[
            "predictions"][0] for _ in range(count))


def test_live_traffic_is_shared_out_and_mirrored_and_stops_before_the_label_goes(
        production: Production, tmp_path: Path) -> None:
    rest, other = str(production.hosts[0].rest), production.root.path.parent / "other/1"
    with envoy(tmp_path, rest, MODEL) as (url, admin):
        until(lambda: requests.get(f"{url}/v1/models/{MODEL}", timeout=5).ok)
        proxy.require_routes(MODEL, Share(30, 100, admin))
        assert _answers(url, 20) == {1.0: 20}

        assert _carried_out(production, Kind.CANARY, other, Share(30, 0, admin)).stage is Stage.RECORD
        seen = _answers(url, 1000)
        assert 250 < seen[2.0] < 350
        assert seen.total() == 1000
        shown = state.state(production)
        assert shown["models"][0]["share"] == {"percent": 30, "mirror": 0, "proxy": admin}
        assert shown["drift"] == []
        assert proxy.in_force(MODEL, Share(30, 0, admin))
        requests.post(f"{admin}/runtime_modify", params={f"promotion.{MODEL}.canary": "80"}, timeout=5)
        assert not proxy.in_force(MODEL, Share(30, 0, admin))
        assert "sends 80 of 100 requests to the canary" in state.state(production)["drift"][0]

        assert _carried_out(production, Kind.SHARE, share=Share(0, 100, admin)).stage is Stage.RECORD
        before = traffic.of_server(rest, MODEL)[2].requests
        assert _answers(url, 100) == {1.0: 100}
        until(lambda: traffic.of_server(rest, MODEL)[2].requests == before + 100)

        assert _carried_out(production, Kind.SHARE, share=Share(100, 0, admin)).stage is Stage.RECORD
        assert _answers(url, 20) == {2.0: 20}
        assert _carried_out(production, Kind.ROLLBACK, share=Share(0, 0, admin)).stage is Stage.RECORD
        assert proxy.told(admin, MODEL) == (0, 0)
        assert _answers(url, 20) == {1.0: 20}
    assert [(one["what"], one["share"]["percent"]) for one in history.read(production.root.history_path).records[1:]
            ] == [("canary", 30), ("share", 0), ("share", 100), ("rollback", 0)]


def test_a_proxy_whose_routes_look_at_nothing_is_found_out(production: Production, tmp_path: Path) -> None:
    with envoy(tmp_path, str(production.hosts[0].rest), MODEL, routes=False) as (_, admin):
        with pytest.raises(PromotionError, match=f"no route with the runtime key promotion.{MODEL}.canary"):
            proxy.require_routes(MODEL, Share(10, 0, admin))
        with pytest.raises(PromotionError, match=f"no route with the runtime key promotion.{MODEL}.mirror"):
            proxy.require_routes(MODEL, Share(0, 10, admin))


def test_a_rollback_without_its_proxy_changes_nothing_unless_told_to_go_on(
        production: Production, tmp_path: Path) -> None:
    root, server = production.root, production.hosts[0]
    other = root.path.parent / "other/1"
    with envoy(tmp_path, str(server.rest), MODEL) as (_, admin):
        assert _carried_out(production, Kind.CANARY, other, Share(30, 0, admin)).stage is Stage.RECORD

    def rollback(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "serving", "rollback", MODEL, "--root", str(root.path), "--rest",
                               str(server.rest), "--grpc", str(server.grpc), *options], capture_output=True, text=True,
                              timeout=100, check=False)
    for _ in range(2):
        refused = rollback()
        assert refused.returncode == 5, refused.stderr
        assert "--no-proxy goes on without it" in refused.stderr
        assert CANARY in root.config().served(MODEL).labels
        # The proxy may also go in the middle: what was begun then waits for it, or for --no-proxy.
        root.write_journal(new_operation(Kind.ROLLBACK, MODEL, 0, root.config().served(MODEL), {
            "share": Share(0, 0, admin).to_json()}))
    done = rollback("--no-proxy")
    assert done.returncode == 0, done.stderr
    assert root.config().served(MODEL).labels == {STABLE: 1}
