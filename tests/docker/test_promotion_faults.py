"""Promotions into a container that are killed, or whose disk, network or container fails, at some of their steps."""
from pathlib import Path
from random import Random

import pytest
from containers import IMAGE, docker
from promotion_rig import FAULTS, Rig
from tfserving_runs import Hosted, Run

from serving.promotion.root import ProductionRoot
from serving.promotion.servers import Server

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def test_exactly_one_version_is_stable_after_each(host: Run, tmp_path: Path) -> None:
    root = tmp_path / "production"
    first = host("production", PRODUCTION=str(root))
    ports = {"PORT": str(first.port), "REST_PORT": str(first.rest_port)}
    hosted = [first]

    def ready(one: Hosted) -> None:
        assert f"backend: container (a Docker engine answers and has {IMAGE})" in one.await_text("Ctrl-C stops it")

    def start_again() -> None:
        hosted[-1].process.wait(120)
        hosted.append(host("production", PRODUCTION=str(root), **ports))
        ready(hosted[-1])

    def kill() -> str:
        name, = docker("ps", "--format", "{{.Names}}", "--filter", "name=tfserving-half-production").split()
        return f"docker kill {name}"

    ready(first)
    server = Server(f"http://127.0.0.1:{first.rest_port}", f"127.0.0.1:{first.port}")
    rig = Rig(tmp_path, server, ProductionRoot.at(root), kill, start_again)
    random = Random(0)
    with rig.traffic:
        steps = rig.steps()
        for fault in FAULTS:
            rig.broken_at(random.randrange(1, steps + 1), fault)
        rig.server_killed_at(random.randrange(1, steps + 1))
