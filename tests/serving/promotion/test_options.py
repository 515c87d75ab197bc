"""What is asked of a production root and its servers before anything is changed."""
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.client.protocol import UnreachableError
from serving.promotion.errors import PromotionError
from serving.promotion.options import require_reachable
from serving.promotion.production import Production
from serving.promotion.root import ProductionRoot
from serving.promotion.servers import servers
from user_error import UserError


class Host:
    """A server that knows these models, with a version of each label."""

    name = "http://one"
    ended: tuple[str, ...] = ()

    def __init__(self, models: dict[str, dict[str, int]], up: bool = True) -> None:
        self.models, self.up = models, up

    def states(self, model: str) -> dict[int, str]:
        if not self.up:
            raise UnreachableError("http://one: cannot connect")
        if model in self.ended:
            return {1: "END"}
        return dict.fromkeys(self.models[model].values(), "AVAILABLE") if model in self.models else {}

    def labelled(self, model: str, label: str) -> int | None:
        return self.models.get(model, {}).get(label)


def _production(folder: Path, text: str, host: Any) -> Production:
    root = ProductionRoot.made(folder / "production")
    for model in ("m", "other"):
        root.base_path(model).mkdir(exist_ok=True)
    root.config_path.write_text(f"model_config_list {{ {text.replace('ROOT', str(root.path))} }}")
    return Production(root, [host])


M = """config { name: "m" base_path: "ROOT/m" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 } } version_labels { key: "stable" value: 1 } }"""
LATEST = 'config { name: "m" base_path: "ROOT/m" model_platform: "tensorflow" }'


@pytest.mark.parametrize(("text", "host"), [
    (M, Host({"m": {"stable": 1}})), ("", Host({})), (M.replace('"m"', '"other"').replace("/m", "/other"),
                                                      Host({"other": {"stable": 1}}))])
def test_a_root_that_its_servers_host_is_right(text: str, host: Host, tmp_path: Path) -> None:
    require_reachable(_production(tmp_path, text, host), "m")


@pytest.mark.parametrize(("text", "host", "words"), [
    (M, Host({}), "does not know m, which .* names: it serves another root"),
    ("", Host({"m": {"stable": 1}}), "has a model m, which .* does not name"),
    (M, Host({"m": {"stable": 7}}), "has label stable of m on a version that"),
    (M.replace("ROOT/m", "/elsewhere/m"), Host({"m": {"stable": 1}}), "the base path of m is /elsewhere/m"),
    (M + M.replace('"m"', '"other"').replace("ROOT/m", "/gone"), Host({"m": {"stable": 1}}),
     "the base path of other, /gone, is not there"),
    (LATEST, Host({"m": {"stable": 1}}), "lets a server load what it finds, before it is checked")])
def test_another_root_or_one_that_a_server_would_not_follow_is_refused(
        text: str, host: Host, words: str, tmp_path: Path) -> None:
    with pytest.raises(PromotionError, match=words):
        require_reachable(_production(tmp_path, text, host), "m")


def test_a_model_whose_first_version_was_taken_back_may_come_again(tmp_path: Path) -> None:
    host = Host({})
    host.ended = ("m",)
    require_reachable(_production(tmp_path, "", host), "m")


def test_a_server_is_named_once() -> None:
    with pytest.raises(UserError, match="http://lb:8501 is named twice"):
        servers(["http://lb:8501", "http://lb:8501"], ["a:8500", "b:8500"])


@pytest.mark.parametrize(("arguments", "words"), [
    (["promote", "m", ""], "the name of the variant is empty"), (["canary", "m", ""], "variant is empty"),
    (["promote", "m", "/2"], "the name of the variant is empty"), (["promote", "m/", "a"], "is no name of a model"),
    (["promote", "..", "a"], "is no name of a model"), (["canary", "m", "a", "--percent", "101"], "not in the range")])
def test_what_names_nothing_is_no_use_of_the_commands(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = _serving(*arguments, "--root", str(tmp_path / "new"))
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "new").exists()


def test_why_nothing_was_done_is_in_the_json(tmp_path: Path) -> None:
    ProductionRoot.made(tmp_path / "production")
    (tmp_path / "result.json").write_text('{"done": true}')
    done = _serving("promote", "m", "--root", str(tmp_path / "production"), "--json", str(tmp_path / "result.json"))
    assert done.returncode == 1
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["done"] is False
    assert "has no canary" in found["why"]
    # One document, and of each command.
    for command in (["promote", "m"], ["rollback", "m"], ["gc", "m"]):
        done = _serving(*command, "--root", str(tmp_path / "production"), "--json", "-")
        assert (done.returncode, json.loads(done.stdout)["done"]) == (1, False)


@pytest.mark.parametrize("text", ["", M])
def test_a_server_that_does_not_answer_is_found_out_first(text: str, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        require_reachable(_production(tmp_path, text, Host({}, up=False)), "m")


def _serving(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "serving", *arguments], capture_output=True, text=True, timeout=60,
                          check=False)


def test_a_variant_that_is_not_there_makes_no_root(tmp_path: Path) -> None:
    (tmp_path / "models/m/original/1").mkdir(parents=True)
    done = _serving("promote", "m", "nope", "--models", str(tmp_path / "models"), "--root", str(tmp_path / "new"))
    assert done.returncode == 1
    assert "there is no variant 'nope' of m" in done.stderr
    assert "there are original" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["promote", "m"], ["rollback", "m"], ["gc", "m"], ["audit"], ["history"],
                                     ["status"]])
def test_a_folder_that_is_no_root_is_one_line(command: list[str], tmp_path: Path) -> None:
    done = _serving(*command, "--root", str(tmp_path / "new"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is no production root: there is no such folder" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_server_that_is_not_there_ends_with_its_own_status(tmp_path: Path) -> None:
    root = ProductionRoot.made(tmp_path / "production")
    root.config_path.write_text(f"model_config_list {{ {M.replace('ROOT', str(root.path))} }}")
    root.base_path("m").mkdir()
    done = _serving("gc", "m", "--root", str(root.path), "--rest", "http://127.0.0.1:1", "--grpc", "127.0.0.1:1")
    assert done.returncode == 0  # nothing to drop, so no server is asked
    (root.base_path("m") / "2").mkdir()
    done = _serving("gc", "m", "--root", str(root.path), "--rest", "http://127.0.0.1:1", "--grpc", "127.0.0.1:1")
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1


def test_who_asks_about_one_model_does_not_pay_for_production_roots() -> None:
    code = ("import sys, serving.promotion.status\n"
            "print(sorted({'scipy', 'serving.promotion.production'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
