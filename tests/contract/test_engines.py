"""The recorded cases on other engines: the same bytes, but for values within the tolerance and for what is listed.

engines.toml lists the cases that an engine answers differently, each with the reason.
"""
import base64
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import contract_grpc
import contract_rest
import grpc
import pytest
from contract_engines import EngineModels, asked, converted, serving, within
from contract_servers import ContractServer, cases, configurations
from proof import Proof

HERE = Path(__file__).parent
LISTED = tomllib.loads((HERE / "engines.toml").read_text(encoding="utf-8"))["difference"]
BEHAVIOURS = tomllib.loads((HERE / "deviations.toml").read_text(encoding="utf-8"))["behaviour"]
# What the server answers differently with every engine; test_rest.py checks how.
DEVIATING = {name for behaviour in BEHAVIOURS for name in behaviour["ids"]}
# A case of several requests on one connection is about HTTP; test_rest.py has it.
CASES = [case for kind in ("rest", "grpc") for case in cases(f"{kind}.jsonl") if "raw_b64" not in case]
ENGINES = ("litert", "openvino")
ABOUT = ["serving", "export/engines", "tests/contract", "tests/support/contract_engines.py"]


class Replay:
    """Sends cases to the servers of an engine's models, which are started when a case first needs them."""

    def __init__(self, models: EngineModels, work: Path) -> None:
        self.models = models
        self.counts: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.listed: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._work = work
        self._configs = configurations()
        self._servers: dict[tuple[str, int], tuple[ContractServer, grpc.Channel]] = {}
        self._open = ExitStack()
        self._reasons = {name: one for one in LISTED if one["engine"] == models.engine for name in one["ids"]}

    def close(self) -> None:
        self._open.close()

    def run(self, case: dict[str, Any], only_first: bool) -> None:
        """Counts how the case was answered; `only_first`: if it is for the first files of the main server."""
        place = self.models.place(*asked(case))
        if only_first and (place != 0 or case["server"] != "main"):
            return
        if why_not := self.models.left.get(asked(case)) or (place if isinstance(place, str) else ""):
            self.left[why_not] += 1
        if isinstance(place, str):
            return
        server, channel = self._server(case["server"], place)
        found, answer, recorded = self._answer(case, server, channel)
        if (reason := self._reasons.get(case["id"])) is not None:
            self._note_listed(case["id"], reason, found, answer)
        elif not found:
            self.counts["exact, by TensorFlow beside" if why_not else "exact"] += 1
        elif case["id"] in DEVIATING:
            self.counts["deviation of every engine"] += 1
        elif len(found) == 1 and within(answer, recorded):
            self.counts["within the tolerance"] += 1
        else:
            self.wrong.append(f"{case['id']}: {'; '.join(found)[:400]}")

    def _note_listed(self, name: str, reason: dict[str, Any], found: list[str], answer: str) -> None:
        if not found:
            self.wrong.append(f"{name} is answered as recorded: remove it from engines.toml")
        elif not re.search(reason["says"], answer):
            self.wrong.append(f"{name}: {answer!r} does not say {reason['says']!r}")
        self.listed[reason["reason"]] += 1

    def _answer(self, case: dict[str, Any], server: ContractServer,
                channel: grpc.Channel) -> tuple[list[str], str, str]:
        """The differences, and the texts of the answer and of the recorded one."""
        expect = case["expect"]
        if "rpc" in case:
            outcome = contract_grpc.call(case, server, channel)
            return (contract_grpc.differences(expect, outcome), outcome.message + outcome.text,
                    (expect.get("message") or "") + (expect.get("response_textproto") or ""))
        answer = contract_rest.ask(case, server.rest_port)
        return (contract_rest.differences(expect, answer), answer.body.decode(errors="replace"),
                base64.b64decode(expect["body_b64"]).decode(errors="replace"))

    def _server(self, name: str, place: int) -> tuple[ContractServer, grpc.Channel]:
        if (name, place) not in self._servers:
            work = self._work / f"{name}-{place}"
            work.mkdir()
            server = self._open.enter_context(
                serving(self._configs[name], self.models.roots[place], work, self.models.engine))
            channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_http_proxy", 0)])
            self._servers[name, place] = server, self._open.enter_context(closing(channel))
        return self._servers[name, place]


@pytest.fixture
def replay(request: pytest.FixtureRequest, contract_models: Path, tmp_path: Path) -> Iterator[Replay]:
    engine, only = request.param
    made = Replay(converted(contract_models, tmp_path, engine, only), tmp_path)
    yield made
    made.close()


def replayed(replay: Replay, only: Collection[str] | None) -> dict[str, Any]:
    for case in CASES:
        if only is None or asked(case)[0] in only:
            replay.run(case, only_first=only is not None)
    assert not replay.wrong, "\n".join(replay.wrong)
    return {**replay.counts, "cases": len(CASES), "listed": dict(replay.listed),
            "run by TensorFlow beside" if replay.models.beside else "not run": dict(replay.left)}


SOME = ("half_plus_two", "half_plus_two_tf2", "two_signatures", "multi", "bits", "shapes", "cast")
# Most cases are about half_plus_two, whose input has no rank; OpenVINO takes only inputs that have one.
FEWEST = {"litert": 200, "openvino": 25}


@pytest.mark.parametrize("replay", [(engine, SOME) for engine in ENGINES], indirect=True, ids=ENGINES)
def test_some_models_answer_as_recorded(replay: Replay) -> None:
    assert replayed(replay, SOME)["exact"] > FEWEST[replay.models.engine]


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("replay", [(engine, None) for engine in ENGINES], indirect=True, ids=ENGINES)
def test_proof_engine_contract(replay: Replay) -> None:
    """Every recorded case but those of several requests on one connection."""
    row = Proof("engine_contract", 0, ABOUT).row(replay.models.engine, lambda: replayed(replay, None))
    assert row["exact"] > FEWEST[replay.models.engine]


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["reason"][:40])
def test_a_listed_case_is_a_recorded_one(entry: dict[str, Any]) -> None:
    assert set(entry["ids"]) <= {case["id"] for case in CASES}
    assert entry["engine"] in ENGINES
