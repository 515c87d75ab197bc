"""`python -m serving predict` and `status`."""
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from commandline import status_of
from serving import recording
from serving.client import predict, record, status
from serving.client.answers import prove
from user_error import UserError


def run(command: Any, *arguments: str) -> Any:
    return CliRunner().invoke(command, list(arguments), standalone_mode=False, catch_exceptions=True)


def as_json(command: Any, *arguments: str) -> Any:
    result = run(command, *arguments, "--json", "-")
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def refusal(command: Any, *arguments: str) -> UserError:
    result = run(command, *arguments)
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    return result.exception


@pytest.fixture(params=["rest", "grpc"])
def asked(request: Any, servers: Any) -> tuple[str, ...]:
    return "--model", "echo", "--protocol", request.param, "--address", getattr(servers, request.param)


def test_predict_with_made_up_inputs(asked: tuple[str, ...]) -> None:
    result = as_json(predict.command, *asked, "--batch", "3", "--seed", "5", "--signature", "pair")
    assert (result["model"], result["version"], result["signature"]) == ("echo", 7, "pair")
    assert result["outputs"]["a"]["shape"] == [3]
    assert result["outputs"]["b"]["dtype"] == "int64"
    assert result["latency_ms"] > 0


def test_predict_with_given_inputs(asked: tuple[str, ...], tmp_path: Path) -> None:
    assert as_json(predict.command, *asked, "--inputs", '{"x": [1, 2.5]}')["outputs"]["y"]["values"] == [1.0, 2.5]
    (tmp_path / "inputs.json").write_text('{"x": ["a", {"b64": "YsOp"}]}')
    result = as_json(predict.command, *asked, "--inputs", f"@{tmp_path / 'inputs.json'}", "--signature", "string")
    assert result["outputs"]["y"] == {"dtype": "string", "shape": [2], "values": ["a", "bé"]}


def test_predict_with_samples(asked: tuple[str, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=np.arange(5, dtype=np.float32), labels=np.arange(5))
    result = as_json(predict.command, *asked, "--samples", str(tmp_path / "samples.npz"), "--batch", "2",
                     "--start", "4")
    assert result["outputs"]["y"]["values"] == [4.0, 0.0]


def test_predict_prints_the_answer(asked: tuple[str, ...]) -> None:
    result = run(predict.command, *asked, "--inputs", '{"x": [1.5]}')
    assert "echo version 7 at localhost:" in result.output
    assert "[1.5]" in result.output


@pytest.mark.parametrize(("arguments", "words"), [
    (("--inputs", "{}"), r"an object of exactly these inputs: 'x' \(float32 \[-1\]\)"),
    (("--inputs", "x"), "--inputs is no JSON"),
    (("--inputs", "@missing.json"), r"cannot read missing\.json"),
    (("--inputs", '{"x": [[1], [2, 3]]}'), "--inputs does not fit the signature"),
    (("--inputs", '{"x": ["a"]}'), "--inputs does not fit the signature"),
    (("--samples", "missing.npz"), "no such file of samples"),
    (("--inputs", "{}", "--samples", "x.npz"), "give one of them"),
    (("--signature", "none"), "has no signature 'none'; it has: "),
    (("--version", "1", "--label", "a"), "--version and --label both choose a version"),
    (("--tls-key", "k.pem"), "--tls-key needs its --tls-certificate"),
    (("--header", "x"), "'x' is no header; write NAME:VALUE"),
    (("--header", "a:b\r\nX:y"), "is no header"),
    (("--header", "Bäd:1"), "is no header; write NAME:VALUE, in ASCII"),
])
def test_what_predict_refuses(servers: Any, arguments: tuple[str, ...], words: str) -> None:
    error = refusal(predict.command, "--model", "echo", "--address", servers.rest, *arguments)
    assert status_of(error) == 2
    import re
    assert re.search(words, str(error)), error


def test_a_refusal_by_the_server_is_exit_status_1(asked: tuple[str, ...]) -> None:
    assert status_of(refusal(predict.command, *asked, "--signature", "fails")) == 1


def test_record(asked: tuple[str, ...], tmp_path: Path) -> None:
    traffic = tmp_path / "traffic.tfrecord"
    result = as_json(record.command, *asked, "--to", str(traffic), "--requests", "3", "--batch", "2", "--signature",
                     "pair")
    assert (result["requests"], result["version"]) == (3, 7)
    recorded = list(recording.read(traffic))
    assert [(one.model, one.signature_name, one.version) for one in recorded] == [("echo", "pair", 7)] * 3
    assert prove([(one.inputs, one.outputs) for one in recorded]).equal  # an echo, with varying inputs


def test_a_failed_recording_leaves_no_file(asked: tuple[str, ...], tmp_path: Path) -> None:
    assert status_of(refusal(record.command, *asked, "--to", str(tmp_path / "f"), "--signature", "fails")) == 1
    assert list(tmp_path.iterdir()) == []


def test_status(asked: tuple[str, ...]) -> None:
    result = as_json(status.command, *asked, "--signatures")
    assert result["available"] is True
    assert result["versions"] == [{"version": 7, "state": "AVAILABLE", "code": "OK", "message": ""}]
    assert result["signatures"]["pair"] == {"inputs": {"a": "float32 [-1]", "b": "int64 [-1]"},
                                            "outputs": {"a": "float32 [-1]", "b": "int64 [-1]"}}
    assert "__saved_model_init_op" not in result["signatures"]
    assert "AVAILABLE" in run(status.command, *asked).output


def test_status_of_an_unknown_model(servers: Any) -> None:
    error = refusal(status.command, "--model", "none", "--address", servers.rest)
    assert status_of(error) == 1
    waited = refusal(status.command, "--model", "none", "--address", servers.rest, "--wait", "0.2")
    assert status_of(waited) == 1
    assert "not available after 0.2 s: the server answered 404: Could not find any versions" in str(waited)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_an_unreachable_server_is_exit_status_2_for_every_command(protocol: str) -> None:
    where = ("--address", "localhost:9", "--protocol", protocol)
    errors = [refusal(status.command, *where), refusal(status.command, *where, "--wait", "0.2"),
              refusal(predict.command, *where), refusal(record.command, *where, "--to", "never")]
    assert [status_of(error) for error in errors] == [2] * 4
    assert not Path("never").exists()


@pytest.mark.parametrize("command", [predict.command, status.command, record.command])
def test_without_a_model_the_servers_models_are_named(servers: Any, command: Any, tmp_path: Path) -> None:
    options = ("--to", str(tmp_path / "never")) if command is record.command else ()
    for model in ((), ("--model", "none")):
        error = refusal(command, "--address", servers.rest, *options, *model)
        assert status_of(error) == 1
        assert str(error).endswith("; the models there: echo (--model NAME)")
    error = refusal(command, "--address", servers.grpc, "--protocol", "grpc", *options)
    assert str(error).endswith("; without --model, mnist is asked for: give --model NAME")


def test_for_a_version_that_is_not_there_the_versions_are_named(servers: Any) -> None:
    error = refusal(predict.command, "--address", servers.rest, "--model", "echo", "--version", "999999")
    assert status_of(error) == 1
    assert "; the versions of echo that answer: " in str(error)
    assert "--model NAME" not in str(error)


def test_advice_about_tls_is_for_what_failed(servers: Any) -> None:
    for address, words in (
            (servers.rest_tls, r"certificate verify failed.*--tls-authority FILE"),
            (servers.rest.replace("http://", "https://") if "://" in servers.rest else f"https://{servers.rest}",
             "does this port speak TLS"),
            (servers.rest_tls.replace("https://", "http://"), r"one with TLS \(https://\)\?")):
        error = str(refusal(predict.command, "--address", address, "--model", "echo"))
        assert re.search(words, error), error
        assert "is the server running" not in error


def test_inputs_are_read_before_connecting() -> None:
    for given, words in (("{", "--inputs is no JSON"), ("[1]", "must be an object"), ("@none", "cannot read none")):
        assert words in str(refusal(predict.command, "--address", "localhost:9", "--inputs", given))
    assert "no such file of samples" in str(refusal(predict.command, "--address", "localhost:9", "--samples", "x.npz"))


def test_only_some_rows_of_a_large_answer_are_printed_unless_rows_is_0(asked: tuple[str, ...]) -> None:
    inputs = ("--inputs", json.dumps({"x": [float(n) for n in range(40)]}))
    usual, two, everything = (run(predict.command, *asked, *inputs, *rows).output
                              for rows in ((), ("--rows", "2"), ("--rows", "0")))
    assert "and 28 more rows (--rows 0 prints all)" in usual
    assert "and 38 more rows" in two
    assert "[2.]" not in two
    assert "[39.]" in everything
    assert "more rows" not in everything


@pytest.mark.parametrize(("command", "options", "address"), [
    ("predict", (), None), ("status", (), "grpc"), ("status", ("--protocol", "grpc", "--tls"), "grpc"),
    ("predict", ("--protocol", "grpc"), "rest"),
], ids=["nobody", "gRPC's port", "TLS where there is none", "REST's port"])
def test_a_wrong_address_is_one_line(servers: Any, command: str, options: tuple[str, ...], address: str | None) -> None:
    where = getattr(servers, address) if address else "localhost:9"
    done = subprocess.run([sys.executable, "-m", "serving", command, "--address", where, *options],
                          cwd=Path(__file__).resolve().parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert f"{where}: cannot connect" in done.stderr
    assert done.stderr.rstrip("\n").isprintable()
