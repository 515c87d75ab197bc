"""Runs a recorded scenario, step by step: changes to files, and requests to a server started for the scenario.

The step `{"do": NAME}` is run by the method `_NAME`, which returns descriptions of what is not as recorded.
"""
import base64
import re
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import contract_grpc
import contract_rest
import grpc
from contract_servers import ContractServer

Step = dict[str, Any]


class ScenarioRun:
    """A scenario while it runs: its server, its gRPC channel and its background traffic."""

    def __init__(self, server: ContractServer) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.enable_http_proxy", 0)])
        self._running: dict[str, tuple[threading.Thread, threading.Event, Counter[str]]] = {}

    def close(self) -> None:
        for _, stop, _ in self._running.values():
            stop.set()
        self.channel.close()

    def run_step(self, step: Step) -> list[str]:
        """Runs one step; returns descriptions of what is not as recorded."""
        done: list[str] | None = getattr(self, f"_{step['do']}")(step)
        return done or []

    def _place(self, name: str) -> Path:
        return Path(self.server.fill(name)) if name.startswith("{") else self.server.work / name

    def _ask(self, step: Step) -> contract_rest.Answer:
        answer = contract_rest.ask({"method": "GET", **step}, self.server.rest_port)
        answer.body = (answer.body.replace(str(self.server.work).encode(), b"{WORK}")
                       .replace(str(self.server.models).encode(), b"{MODELS}"))
        return answer

    # -- files

    def _copy(self, step: Step) -> None:
        # Copied under a name that is not a version, then renamed, so that the server never sees half a version.
        target = self._place(step["to"])
        part = target.with_name(target.name + ".part~")
        shutil.copytree(self.server.models / step["from"], part)
        part.rename(target)

    def _remove(self, step: Step) -> None:
        path = self._place(step["path"])
        if path.is_file():
            path.unlink()
        else:
            away = path.rename(path.with_name(path.name + ".away~"))
            shutil.rmtree(away)

    def _rename(self, step: Step) -> None:
        self._place(step["from"]).rename(self._place(step["to"]))

    def _mkdir(self, step: Step) -> None:
        self._place(step["path"]).mkdir(parents=True, exist_ok=True)

    def _write(self, step: Step) -> None:
        path = self._place(step["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part~")
        part.write_bytes(base64.b64decode(step["b64"]) if "b64" in step else self.server.fill(step["text"]).encode())
        part.rename(path)

    # -- time

    def _sleep(self, step: Step) -> None:
        # Part of the recorded scenario: nothing may happen during this time.
        time.sleep(step["s"])

    def _wait(self, step: Step) -> list[str]:
        # The recorded limit is that of the machine on which the recording was made.
        end = time.monotonic() + max(60, step["timeout_s"])
        while True:
            answer = self._ask(step)
            if answer.status == step["status"] and re.search(step.get("until", ""), answer.body.decode(), re.S):
                return []
            if time.monotonic() > end:
                return [f"no answer matched {step.get('until')!r} in time: {answer.status} {answer.body!r}"]
            time.sleep(0.02)

    # -- requests

    def _rest(self, step: Step) -> list[str]:
        return contract_rest.differences(step["expect"], self._ask(step))

    def _grpc(self, step: Step) -> list[str]:
        return contract_grpc.differences(step["expect"], contract_grpc.call(step, self.server, self.channel))

    def _parallel(self, step: Step) -> list[str]:
        found: list[str] = []

        def send(request: Step) -> None:
            time.sleep(request.get("after_s", 0))
            found.extend(self.run_step(request))

        threads = [threading.Thread(target=send, args=(request,)) for request in step["requests"]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def _traffic_of(self, step: Step, stop: threading.Event, counts: Counter[str]) -> None:
        while not stop.wait(0.01):
            try:
                counts[str(self._ask(step).status)] += 1
            except (OSError, contract_rest.ClosedError):
                counts["broken"] += 1

    def _traffic(self, step: Step) -> None:
        stop, counts = threading.Event(), Counter[str]()
        thread = threading.Thread(target=self._traffic_of, args=(step, stop, counts), daemon=True)
        self._running[step["name"]] = (thread, stop, counts)
        thread.start()

    def _end_traffic(self, step: Step) -> list[str]:
        thread, stop, counts = self._running.pop(step["name"])
        stop.set()
        thread.join(60)
        wrong = {status: n for status, n in counts.items() if status not in step["expect"]["statuses"]}
        return [f"answers {dict(counts)}, only {step['expect']['statuses']} expected"] if wrong or not counts else []

    def _metrics(self, step: Step) -> list[str]:
        answer, expect = self._ask(step), step["expect"]
        if answer.status != expect["status"] or answer.headers.get("content-type") != expect["content_type"]:
            return [f"{answer.status} {answer.headers.get('content-type')}"]
        text = answer.body.decode()
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
        samples = _samples(text)
        found = [f"{name} has type {types.get(name)}" for name, kind in expect["types"].items()
                 if types.get(name) != kind]
        for name, value in expect["samples"].items():
            if name not in samples:
                found.append(f"no {name}")
            elif value is not None and samples[name] != float(value):
                found.append(f"{name} is {samples[name]} instead of {value}")
        return found


def run(steps: list[Step], server: ContractServer) -> list[list[str]]:
    """Runs a scenario; returns, for each step, descriptions of what is not as recorded."""
    scenario = ScenarioRun(server)
    try:
        return [scenario.run_step(step) for step in steps]
    finally:
        scenario.close()


def _samples(text: str) -> dict[str, float]:
    found = {}
    for name, labels, value in re.findall(r"^([^\s#{]+)(\{.*\})? (\S+)$", text, re.M):
        pairs = ",".join(sorted(re.findall(r'\w+="(?:[^"\\]|\\.)*"', labels)))
        found[f"{name}{{{pairs}}}"] = float(value)
    return found
