"""The status page: it shows what it is given, runs nothing that it is given, and is there only if it is asked for."""
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import half_model
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from running_server import serving
from waiting import until

from serving import status_page
from serving.config import Flags
from serving.errors import ServingError
from serving.promotion import history
from serving.startup import check

VERSION = {"version": 2, "labels": ["stable"], "state": "AVAILABLE", "variant": "optimized", "digest": "ab" * 32,
           "requests": 12345, "errors": 3, "mean_ms": 1.25}
MODEL = {"name": "mnist", "ready": True, "not_ready_because": "", "versions": [VERSION],
         "share": {"percent": 10, "mirror": 0, "proxy": None}}
RECORD = {"what": "promote", "outcome": "done", "model": "mnist", "version": 2, "when": "2026-11-30T09:00:00+00:00",
          "who": "somebody", "why": "", "gates": [
              {"name": "latency", "passed": True, "words": "ratio 1.300 [1.2-1.4]", "figures": {
                  "typical": {"ratio": 1.3, "ci95": [1.2, 1.4]}}},
              {"name": "accuracy", "passed": None, "words": "there are no labelled samples", "figures": {}}],
          "bake": {"name": "bake", "passed": True, "words": "after 900 requests", "figures": {
              "ratio": 1.29, "ci95": [1.27, None]}}}


class _Read(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_shows_models_versions_labels_traffic_and_promotions() -> None:
    text = status_page.page({"title": "here", "when": "now", "models": [MODEL], "history": [RECORD],
                             "drift": ["a server differs"]})
    read = _Read(text)
    for shown in ("mnist", "ready", "stable", "AVAILABLE", "optimized", "abababababab", "12,345", "10 of 100 requests",
                  "promote mnist 2", "ratio 1.300", "a server differs", "not judged", "somebody"):
        assert shown in read.text, shown
    assert text.count('class="span"') == 1  # an interval without an end is no chart
    assert "form" not in read.tags


def test_a_version_without_figures_and_a_page_without_models() -> None:
    bare = {"name": "m", "ready": False, "not_ready_because": "version 1: LOADING", "versions": [
        {"version": 1, "labels": [], "state": "LOADING"}]}
    read = _Read(status_page.page({"models": [bare]}))
    assert "not ready: version 1: LOADING" in read.text
    assert "requests" not in read.text.partition("use strict")[0]
    assert "There is no model yet." in _Read(status_page.page({"models": []})).text


def test_nothing_comes_from_elsewhere() -> None:
    text = status_page.page({"models": [MODEL], "history": [RECORD]}, live=True)
    assert not re.findall(r'(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)', text)
    # A page itself cannot say who may frame it.
    allowed = dict(status_page.HEADERS)["Content-Security-Policy"].removesuffix("; frame-ancestors 'none'")
    assert any(value == allowed for _, value in _Read(text).attributes)
    assert dict(status_page.HEADERS)["Content-Security-Policy"].count("sha256-") == 1


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</textarea><script>", "' onload='x", "&lt;"])


@given(TEXT, TEXT, TEXT)
def test_whatever_names_there_are_no_tag_comes_of_them(name: str, state: str, words: str) -> None:
    def made(name: str, state: str, words: str) -> str:
        model = MODEL | {"name": name, "ready": False, "not_ready_because": words, "versions": [VERSION | {
            "state": state, "labels": [name], "variant": words, "digest": state}], "example": {
                "to": "v1/models/x", "body": words}, "share": {"percent": 1, "mirror": 1, "proxy": words}}
        record = RECORD | {"model": name, "why": words, "who": words, "outcome": state, "version": name, "gates": [
            {"name": name, "passed": False, "words": words}, {}]}
        return status_page.page({"title": name, "when": words, "models": [model], "history": [record],
                                 "drift": [words]}, live=True)
    plain, drawn = _Read(made("a", "b", "c")), _Read(made(name, state, words))
    assert drawn.tags == plain.tags
    assert [key for key, _ in drawn.attributes] == [key for key, _ in plain.attributes]


# On a server.

@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    half_model.save(folder / "half/1", 1.0)
    return folder


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    root = models / "production"
    root.mkdir()
    (root / "models.config").write_text(f"""model_config_list {{ config {{ name: "half" base_path: "{models / 'half'}"
        model_platform: "tensorflow" model_version_policy {{ specific {{ versions: 1 }} }}
        version_labels {{ key: "stable" value: 1 }} }} }}""")
    history.append(root / "history.jsonl", {**RECORD, "id": "1", "model": "half"})
    with serving(models, model_config_file=str(root / "models.config"), enable_status_page=True,
                 allow_version_labels_for_unavailable_models=True) as (_, flags):
        yield f"http://127.0.0.1:{flags.rest_api_port}"


def test_a_server_shows_itself_live_and_its_form_asks_the_model(address: str) -> None:
    found = requests.get(address, timeout=10)
    assert found.status_code == 200
    assert found.headers["Content-Type"].startswith("text/html; charset=utf-8")
    assert "default-src 'none'" in found.headers["Content-Security-Policy"]
    read = _Read(found.text)
    for shown in ("half", "ready", "stable", "AVAILABLE", "promote half 2"):
        assert shown in read.text
    to, body = (re.search(pattern, found.text) for pattern in (r'data-to="([^"]+)"', r"<textarea[^>]*>([^<]+)<"))
    assert to is not None
    assert body is not None
    for _ in range(20):
        asked = requests.post(f"{address}/{to[1]}", data=body[1].replace("&quot;", '"'), timeout=10)
        assert asked.status_code == 200
        assert json.loads(asked.text)["predictions"]
    assert requests.post(f"{address}/v1/models/half:predict", data="{}", timeout=10).status_code == 400

    def looked() -> _Read:
        return _Read(requests.get(f"{address}/status", timeout=10).text)
    until(lambda: re.search(r"tensorflow\s*211", looked().text))  # 21 requests, 1 error
    changed = looked()
    assert "html" not in changed.tags
    assert dict(changed.attributes)["data-key"] == "half/1"
    assert float(dict(changed.attributes)["data-value"] or "nan") > 0


def test_other_paths_are_what_they_were(address: str) -> None:
    assert requests.get(f"{address}/models", timeout=10).json()["models"][0]["name"] == "half"
    assert requests.get(f"{address}/nothing", timeout=10).status_code == 404
    assert requests.post(address, timeout=10).status_code == 404


def test_it_is_off_unless_asked_for(models: Path) -> None:
    with serving(models) as (_, flags):
        for path in ("/", "/status"):
            assert requests.get(f"http://127.0.0.1:{flags.rest_api_port}{path}", timeout=10).status_code == 404


@pytest.mark.parametrize(("flags", "allowed"), [
    ({"bind_address": "0.0.0.0"}, False), ({"bind_address": "::"}, False), ({"bind_address": "10.1.2.3"}, False),
    ({"bind_address": "serving.example"}, False), ({"bind_address": "127.0.0.2"}, True), ({}, True),
    ({"bind_address": "0.0.0.0", "allow_public_status_page": True}, True),
    ({"bind_address": "localhost"}, True), ({"bind_address": "::1"}, True)])
def test_it_is_not_shown_to_other_machines_without_tls(flags: dict[str, Any], allowed: bool, models: Path) -> None:
    made = Flags(model_name="half", model_base_path=str(models / "half"), port=0, grpc_socket_path="/tmp/unused-socket",
                 enable_status_page=True, **flags)
    try:
        check(made)
        refused = ""
    except ServingError as error:
        refused = error.message
    assert ("" if allowed else "--enable_status_page") == refused.partition(":")[0]
