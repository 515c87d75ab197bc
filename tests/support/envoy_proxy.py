"""An Envoy proxy in front of a server's REST API, which gives a canary the share of the traffic that it is told."""
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from running_server import free_port
from waiting import until

LOOPBACK = "127.0.0.1"


@contextmanager
def envoy(folder: Path, rest: str, model: str, routes: bool = True) -> Iterator[tuple[str, str]]:
    """(its address, that of its admin API). Without `routes` it looks at no number and sends all to stable."""
    listens, shadow, admin = free_port(), free_port(), free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_bootstrap(listens, shadow, admin, int(rest.rpartition(":")[2]), model, routes)))
    with (folder / "envoy.log").open("wb") as log, subprocess.Popen(
            [str(Path(sys.executable).with_name("envoy")), "--config-path", str(config), "--concurrency", "1",
             "--use-dynamic-base-id"], stdout=log, stderr=log) as process:
        try:
            def ready() -> bool:
                assert process.poll() is None, (folder / "envoy.log").read_text()[-2000:]
                try:
                    return requests.get(f"http://{LOOPBACK}:{admin}/ready", timeout=5).ok
                except requests.ConnectionError:
                    return False
            until(ready)
            yield f"http://{LOOPBACK}:{listens}", f"http://{LOOPBACK}:{admin}"
        finally:
            process.terminate()
            process.wait(30)


def _bootstrap(listens: int, shadow: int, admin: int, server: int, model: str, routes: bool) -> dict[str, Any]:
    to_canary, to_stable = _leads_to(model, "canary"), _leads_to(model, "stable")
    live = [to_stable]
    if routes:
        share = {"runtime_fraction": {"default_value": {"numerator": 0}, "runtime_key": f"promotion.{model}.canary"}}
        mirror = {"request_mirror_policies": [{"cluster": "shadow", "runtime_fraction": {
            "default_value": {"numerator": 0}, "runtime_key": f"promotion.{model}.mirror"}}]}
        live = [{**to_canary, "match": to_canary["match"] | share}, {**to_stable, "route": to_stable["route"] | mirror}]
    return {
        "admin": {"address": _address(admin)},
        "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
        "static_resources": {
            "listeners": [_listener("live", listens, live), _listener("shadow", shadow, [to_canary])],
            "clusters": [_cluster("servers", server), _cluster("shadow", shadow)]}}


def _leads_to(model: str, label: str) -> dict[str, Any]:
    regex = f"/v1/models/{model}(/labels/[a-z]+)?(:[a-z]+|/metadata)?"
    return {"match": {"safe_regex": {"regex": regex}}, "route": {"cluster": "servers", "regex_rewrite": {
        "pattern": {"regex": regex}, "substitution": f"/v1/models/{model}/labels/{label}\\2"}}}


def _listener(name: str, port: int, routes: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = "type.googleapis.com/envoy.extensions.filters"
    return {"name": name, "address": _address(port), "filter_chains": [{"filters": [{
        "name": "http", "typed_config": {
            "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name,
            "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{kinds}.http.router.v3.Router"}}]}}]}]}


def _cluster(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
