"""tfserving.sh as a user runs it, from another directory, with real servers and signals."""
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from running_server import free_port
from tfserving_runs import SCRIPT, Run, hosting

ROOT = Path(__file__).resolve().parents[2]
NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}

@pytest.fixture
def host(models: Path, tmp_path: Path) -> Iterator[Run]:
    with hosting(models, tmp_path, MODEL="half") as start:
        yield start


def refused(*arguments: str, **environment: str) -> str:
    """The error line of a run, which must end without starting a server, with status 2 and only that line."""
    done = subprocess.run([str(SCRIPT), *arguments], env=os.environ | environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_hosts_original_by_default_and_stops_cleanly(host: Run, number: signal.Signals) -> None:
    hosted = host(**NO_ENGINE)
    output = hosted.await_text("Ctrl-C stops it")
    assert "backend: embedded (no Docker engine answers; no tensorflow_model_server on PATH)" in output
    assert "variant original, version 7, run by tensorflow\n" in output
    url = f"http://127.0.0.1:{hosted.rest_port}/v1/models/half"
    assert f"try: curl {url}/metadata" in output
    answer = requests.post(f"{url}:predict", json={"instances": [1.0, 2.0, 5.0]}, timeout=60)
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    assert hosted.stop(number) == 0
    assert hosted.log.read_text().endswith("tfserving: stopped\n")
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=60)


def test_a_binary_on_path_is_preferred_to_the_embedded_server(host: Run, tmp_path: Path) -> None:
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\ncd {ROOT} && exec .venv/bin/python -m serving serve "$@"\n')
    binary.chmod(0o755)
    hosted = host("optimized", **NO_ENGINE, PATH=f"{binary.parent}:{os.environ['PATH']}")
    output = hosted.await_text("Ctrl-C stops it")
    assert "backend: binary (no Docker engine answers)" in output
    assert "variant optimized, version 7" in output
    assert hosted.stop(signal.SIGINT) == 0


def test_a_server_that_does_not_say_its_engine_may_ignore_the_flag(host: Run, tmp_path: Path) -> None:
    """The stand-in answers as TensorFlow Serving does: what it does not know is a malformed request."""
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    binary.write_text(f"""#!{sys.executable}
import http.server, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/v1/models/half"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(b'{{"model_version_status": [{{"state": "AVAILABLE"}}]}}' if known else b'{{"error": "no"}}')
[port] = [int(each.partition("=")[2]) for each in sys.argv if each.startswith("--rest_api_port=")]
http.server.HTTPServer(("127.0.0.1", port), Answers).serve_forever()
""")
    binary.chmod(0o755)
    for flags in ([], ["--", "--engine=openvino"]):
        hosted = host("optimized", *flags, **NO_ENGINE, PATH=f"{binary.parent}:{os.environ['PATH']}")
        output = hosted.await_text("Ctrl-C stops it")
        assert "ready: half, variant optimized, version 7\n" in output
        assert ("this server may ignore --engine, as TensorFlow Serving does" in output) == bool(flags)
        assert hosted.stop(signal.SIGTERM) == 0


CHOSEN = "half/7 was chosen on amx; this CPU is "


@pytest.fixture
def chosen_on_amx(models: Path, tmp_path: Path) -> Path:
    """A models folder whose model `half` has a manifest that names another class of CPU than any that runs tests."""
    shutil.copytree(models / "half" / "original", tmp_path / "models" / "half" / "original")
    manifest = tmp_path / "models" / "half" / "original" / "7" / "assets.extra" / "manifest.json"
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text('{"precision": "int8", "cpu_class": "amx"}')
    return tmp_path / "models"


def test_the_embedded_server_says_that_a_version_was_chosen_on_another_class(chosen_on_amx: Path, host: Run) -> None:
    hosted = host("--backend=embedded", MODELS=str(chosen_on_amx), ONEDNN_MAX_CPU_ISA="AVX")
    output = hosted.await_text("Ctrl-C stops it")
    assert [CHOSEN in line for line in output.splitlines()].count(True) == 1


@pytest.mark.parametrize("with_packages", [True, False])
def test_before_another_server_the_script_says_it(with_packages: bool, chosen_on_amx: Path, tmp_path: Path) -> None:
    """With the project's .venv, or with a bare python3."""
    root = tmp_path / "kit"
    root.mkdir()
    for name in ("tfserving.sh", "serving", "cpu_class.py", "version_directory.py", "user_error.py"):
        (root / name).symlink_to(ROOT / name)
    (root / "tfserving.sh").unlink()
    shutil.copy(SCRIPT, root)  # the script looks for .venv beside itself, through links
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\necho the server starts\n")
    binary.chmod(0o755)
    python = binary.parent / "python3" if not with_packages else root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.symlink_to(Path(sys.executable).resolve())
    done = subprocess.run([str(root / "tfserving.sh"), "--backend=binary"], stdin=subprocess.DEVNULL, check=False,
                          capture_output=True, text=True, timeout=60, env=os.environ | NO_ENGINE | {
                              "MODELS": str(chosen_on_amx), "MODEL": "half", "PORT": str(free_port()),
                              "REST_PORT": str(free_port()), "ONEDNN_MAX_CPU_ISA": "AVX",
                              "PATH": f"{binary.parent}:{os.environ['PATH']}"})
    assert f"tfserving: {CHOSEN}" in done.stderr
    assert done.stderr.index(CHOSEN) < (done.stderr + done.stdout).index("the server starts")


def test_a_server_that_dies_before_it_answers_ends_the_script(models: Path, host: Run, tmp_path: Path) -> None:
    shutil.copytree(models / "half" / "original", tmp_path / "models" / "half" / "broken")
    (tmp_path / "models" / "half" / "broken" / "7" / "saved_model.pb").write_bytes(b"not a SavedModel")
    hosted = host("broken", "--backend", "embedded", "--", "--max_num_load_retries=0", MODELS=str(tmp_path / "models"))
    assert hosted.process.wait(60) == 1
    assert "error: the server (embedded) ended before the model answered" in hosted.log.read_text()


def test_a_port_in_use_is_an_error_before_anything_starts(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        message = refused("--backend=embedded", MODELS=str(models), MODEL="half", PORT=str(free_port()), REST_PORT=port)
    assert message == f"error: port {port} is taken; stop what listens there, or set PORT and REST_PORT\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["nope"], "there is no variant 'nope' of half; there are: optimized original"),
    (["empty"], "there is no variant 'empty' of half; there are: optimized original"),
    (["../half/original"], "'../half/original' is no variant's name"),
    (["original", "optimized"], "one variant at a time"),
    (["--oops"], "unknown option '--oops'"),
    (["--backend"], "--backend takes a name: container, binary, embedded"),
    (["--backend=podman"], "unknown backend 'podman'; there are: container, binary, embedded"),
    (["--backend=container"], "no Docker engine answers; start one, or use --backend embedded"),
    (["--backend=binary"], "there is no tensorflow_model_server on PATH"),
])
def test_a_wrong_argument_is_refused_with_the_possible_values(models: Path, arguments: list[str], message: str) -> None:
    assert message in refused(*arguments, MODELS=str(models), MODEL="half", **NO_ENGINE)


def test_a_production_root_is_hosted_and_takes_what_is_promoted(models: Path, host: Run, tmp_path: Path) -> None:
    root = tmp_path / "production"
    hosted = host("production", "--backend=embedded", PRODUCTION=str(root))
    output = hosted.await_text("Ctrl-C stops it")
    assert f"made an empty production root: {root}" in output
    assert f"ready: {root}, REST http://127.0.0.1:{hosted.rest_port}" in output
    done = subprocess.run(
        [sys.executable, "-m", "serving", "promote", "half", "original", "--models", str(models), "--root", str(root),
         "--rest", f"http://127.0.0.1:{hosted.rest_port}", "--grpc", f"127.0.0.1:{hosted.port}", "--bake", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "version 1 of half is stable" in done.stderr
    assert hosted.stop(signal.SIGTERM) == 0


def test_a_folder_that_is_no_production_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    assert "is no production root: it has no models.config" in refused(
        "production", "--backend=embedded", PRODUCTION=str(tmp_path))


@pytest.mark.parametrize(("ports", "message"), [
    ({"PORT": "abc"}, "'abc' is no port"),
    ({"REST_PORT": "65536"}, "'65536' is no port"),
    ({"PORT": "8999", "REST_PORT": "8999"}, "PORT and REST_PORT are both 8999"),
])
def test_invalid_ports_are_refused(models: Path, ports: dict[str, str], message: str) -> None:
    assert message in refused("--backend=embedded", MODELS=str(models), MODEL="half", **ports)


def test_a_missing_models_folder_is_refused() -> None:
    assert "there is no folder /nonexistent" in refused(MODELS="/nonexistent")


def test_the_error_for_an_unknown_model_lists_the_existing_models(models: Path) -> None:
    message = refused(MODELS=str(models), MODEL="nope")
    assert "(there are: half)" in message
    assert "make demo" in message


def test_help_needs_neither_models_nor_a_server() -> None:
    done = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: ./tfserving.sh [VARIANT|production]")


def test_works_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "link.sh").symlink_to(SCRIPT)
    done = subprocess.run([str(tmp_path / "link.sh"), "nope"], capture_output=True, text=True, check=False,
                          env=os.environ | {"MODEL": "no_such_model"})
    assert f"there is no {ROOT}/models" in done.stderr.replace("no folder", "no")
