"""Every option of every command changes what the command does, or is refused: no option is accepted and then ignored.

Each command really runs up to its first effect (such as a started server, or sent requests). The function with that
effect is replaced by one that records its arguments. They must be the same in two runs without the option, and
different in a run with it.
"""
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from tiny_saved_model import write_tiny_saved_model

from benchmark.__main__ import COMMANDS
from benchmark.issuing.trials import Trials
from user_error import UserError


class ReachedError(Exception):
    """Ends a command at its first effect."""


VARIANTS, SESSIONS = ["original", "twin"], ["session:original", "session:twin"]
URLS = ["--url", "http://127.0.0.1:1", "--url", "http://127.0.0.1:2"]
ONE_URL = URLS[:2]
EFFECTS: dict[str, list[str]] = {
    "compare": ["benchmark.measured.measure"], "run": ["benchmark.run.repeats", "benchmark.issuing.loops.run"],
    "sweep": ["benchmark.sweep.grow"], "search": ["benchmark.search.bracket"], "split": ["benchmark.split.start_all"],
    "overhead": ["benchmark.overhead.measure"], "profile": ["benchmark.profile.sampled", "benchmark.profile.traced"],
    "tune": [], "study": ["benchmark.study.conduct"], "null-server": ["benchmark.targets.null_server._serve"],
    "scenarios": [], "report": []}

# The arguments without the option, and the option with a value other than its default.
Case = tuple[list[str], list[str]]
SHARED: dict[str, list[str]] = {
    "--model": ["other"], "--models": ["{elsewhere}"], "--signature": ["second"], "--samples": ["{samples}"],
    "--seed": ["5"], "--server-flag": ["--enable_batching"]}
ADDRESSES: dict[str, list[str]] = {
    "--url": ["http://127.0.0.1:3"], "--grpc": ["127.0.0.1:4"], "--header": ["X-A: b"], "--saved-model": ["{version}"]}
TLS = {"--tls-authority": ["a.pem"], "--tls-certificate": ["c.pem"], "--tls-key": ["k.pem"]}


def _source(base: list[str], address: list[str], in_process: list[str] | None) -> dict[str, Case]:
    cases = {name: (base, [name, *value]) for name, value in SHARED.items()}
    if in_process:
        cases["--grappler"] = (in_process, ["--grappler", "off"])
    if address:
        cases |= {name: (address, [name, *value]) for name, value in ADDRESSES.items()}
        encrypted = [part.replace("http://", "https://") for part in address]
        cases |= {name: (encrypted, [name, *value]) for name, value in TLS.items()}
    return cases


def _changes(base: list[str], **values: str) -> dict[str, Case]:
    names = {key: f"--{key.replace('_', '-')}" for key in values}
    return {names[key]: (base, [names[key], value]) for key, value in values.items()}


CLOSED, SERVER = ["closed", *VARIANTS], ["server", *VARIANTS]
CASES: dict[str, dict[str, Case]] = {
    "compare": _source(VARIANTS, URLS, SESSIONS) | _changes(
        VARIANTS, batch="3", repeat="7", protocol="rest", warmup="3", processes="1", max_time="9", atol="0.1",
        rtol="0.1", disagreement="0.1", design="duet", equal_within="3%"),
    "run": _source(CLOSED, ["closed", *ONE_URL, "--protocol", "rest"], ["closed", *SESSIONS]) | _changes(
        CLOSED, protocol="rest", batch="3", clients="9", warmup_seconds="9", seconds="9", repeat="9", slo="p90=9ms",
        engine="loadgen") | _changes(SERVER, rate="9")
        | {"--url": (["closed", "--protocol", "rest"], ["--url", "http://127.0.0.1:3"]),
           "--num_iter": (["article"], ["--num_iter", "3"]), "--num_warmup": (["throughput"], ["--num_warmup", "3"])},
    "sweep": _source(VARIANTS, [*ONE_URL, "--protocol", "rest"], SESSIONS) | _changes(
        VARIANTS, protocol="rest", batch="3", clients="9", rates="9", seconds="9")
        | {"--seed": ([*VARIANTS, "--rates", "9"], ["--seed", "5"])},
    "search": _source([*VARIANTS, "--slo", "p50=9ms"], [*ONE_URL, "--protocol", "rest", "--slo", "p50=9ms"],
                      [*SESSIONS, "--slo", "p50=9ms"]) | _changes(
        [*VARIANTS, "--slo", "p50=9ms"], slo="p90=9ms", protocol="rest", batch="3", start="9", tolerance="0.5",
        seconds="9") | {"--url": (["--protocol", "rest", "--slo", "p50=9ms"], ["--url", "http://127.0.0.1:3"])},
    "split": _source(["original"], ONE_URL, None) | {"--url": ([], ["--url", "http://127.0.0.1:3"])},
    "overhead": _source(["original"], [], ["original", "--part", "loop"]) | _changes(
        ["original"], part="empty", repeat="9", processes="1"),
    "profile": _source(["original"], [], ["original"]) | _changes(
        ["original"], protocol="rest", batch="3", seconds="9", repeat="9", out="{elsewhere}"),
    "tune": _source(["original"], [], None) | _changes(
        ["original"], slo="p90=9ms", protocol="rest", batch="3", clients="9", candidates="3", seconds="9",
        out="{elsewhere}"),
    "study": _changes(["mnist"], work="{out}", models="{elsewhere}", seed="5", cloud="int8=vertex:projects/1",
                      only="mnist")
        | {name: (["mnist"], [name]) for name in ("--quick", "--again")},
    "null-server": _changes(["--rest-port", "1", "--grpc-port", "2"], rest_port="3", grpc_port="4", work_ms="5"),
    "scenarios": {}, "report": {}}
# The options that name files for the result: they do not change what is measured. A path that cannot be written is
# refused before anything else is done.
OUTPUTS = {"--card", "--json", "--html", "--markdown"}
# Options that are used after the first effect: compare uses them after measuring (test_demands.py, for --store
# test_compare.py), split when its server is ready (test_split_uses_its_options_for_its_requests).
LATER = {("compare", "--fail-if"), ("compare", "--fail-if-not"), ("compare", "--against"), ("compare", "--budget"),
         ("compare", "--store"),
         ("split", "--batch"), ("split", "--repeat"), ("split", "--samples"), ("split", "--seed"),
         ("split", "--signature")}


def _options(name: str) -> dict[str, click.Option]:
    command = COMMANDS.get_command(click.Context(COMMANDS), name)
    assert command is not None
    return {each.opts[0]: each for each in command.params if isinstance(each, click.Option)}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("options")
    for models in ("models", "elsewhere"):
        for name in ("tiny/original/1", "tiny/twin/1", "other/original/1", "other/twin/1"):
            write_tiny_saved_model(folder / models / name)
            (folder / models / name / "model.tflite").write_bytes(b"no test here runs it")
    np.savez(folder / "samples.npz", x=np.ones((3, 4), np.float32))
    return {"models": str(folder / "models"), "elsewhere": str(folder / "elsewhere"), "out": str(folder / "out"),
            "samples": str(folder / "samples.npz"), "version": str(folder / "models/tiny/original/1")}


@pytest.fixture
def noted(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], str]:
    """noted(command, arguments): the arguments of the command's first effects, as text. Raises its UserError."""
    calls: list[str] = []

    def note(*arguments: Any, **named: Any) -> Any:
        calls.append(re.sub(r" at 0x[0-9a-f]+|monitoring_config_file=\S+?'|PosixPath\('/tmp/tmp[^)]*\)", "",
                            repr((arguments, named))))
        if len(calls) == 2 or not str(arguments and arguments[0]).startswith("Scenario(name='profile'"):
            raise ReachedError
        return ["main;run 3"], {"x": np.ones((1, 4), np.float32)}, "ones"
    for path in chain(*EFFECTS.values()):
        monkeypatch.setattr(path, note)
    monkeypatch.setattr(Trials, "best", lambda self, *rest: note(self, *rest[:-1]))

    def run(name: str, arguments: list[str]) -> str:
        calls.clear()
        fixed = [each.format(**places) for each in arguments]
        options = _options(name)
        fixed += [part for option, value in (("--model", "tiny"), ("--models", places["models"]),
                                             ("--out", places["out"]))
                  if option in options and option not in fixed for part in (option, value)]
        done = CliRunner().invoke(COMMANDS, [name, *fixed])
        if isinstance(done.exception, UserError):
            raise done.exception
        assert isinstance(done.exception, ReachedError), (done.exception, done.output)
        return "\n".join(calls)
    return run


@pytest.mark.parametrize("name", COMMANDS.list_commands(click.Context(COMMANDS)))
def test_every_option_has_a_case(name: str) -> None:
    later = {option for command, option in LATER if command == name}
    assert _options(name).keys() - OUTPUTS == CASES[name].keys() | later


@pytest.mark.parametrize(("name", "option"), [
    (name, option) for name, cases in CASES.items() for option in cases if (name, option) not in LATER])
def test_an_option_changes_what_the_command_does(name: str, option: str,
                                                 noted: Callable[[str, list[str]], str]) -> None:
    base, change = CASES[name][option]
    without = noted(name, base)
    assert without == noted(name, base)
    # An option given again replaces the value in `base`.
    assert noted(name, [*base, *change]) != without


@pytest.mark.parametrize(("name", "arguments", "words"), [
    ("compare", [*VARIANTS, "--grappler", "off"], "--grappler is for targets in process"),
    ("compare", [*SESSIONS, "--server-flag", "--x"], "--server-flag is for servers that are started here"),
    ("compare", [*URLS, "--server-flag", "--x"], "--server-flag is for servers that are started here"),
    ("compare", [*SESSIONS, "--protocol", "rest"], "--protocol is for servers"),
    ("compare", [*VARIANTS, "--header", "X-A: b"], "--header is for servers that run already"),
    ("compare", [*URLS, "--tls-key", "k.pem"], "no request to http://127.0.0.1:1, http://127.0.0.1:2 is encrypted"),
    ("run", [*CLOSED, "--grappler", "off"], "--grappler is for targets in process"),
    ("run", [*CLOSED, "--num_iter", "3"], "has a duration, not a number of iterations: it has no --num_iter"),
    ("run", [*CLOSED, "--num_warmup", "0"], "it has no --num_warmup"),
    ("run", ["article", "--seconds", "3"], "it has no --seconds"), ("run", ["article", "--slo", "p9=9ms"], "no --slo"),
    ("run", ["throughput", "--protocol", "rest"], "no --protocol"), ("run", ["article", "--clients", "3"], "--clients"),
    ("run", ["article", "--engine", "loadgen"], "no --engine"), ("run", ["article", "--repeat", "3"], "no --repeat"),
    ("run", ["article", "--warmup-seconds", "0"], "no --warmup-seconds"), ("run", ["article", *URLS], "no --url"),
    ("run", ["article", "--server-flag", "--x"], "--server-flag is for servers that are started here"),
    ("sweep", [*VARIANTS, "--grappler", "off"], "--grappler is for targets in process"),
    ("search", [*VARIANTS, "--slo", "p9=9ms", "--grappler", "off"], "--grappler is for targets in process"),
    ("sweep", [*SESSIONS, "--protocol", "grpc"], "--protocol is for servers"),
    ("split", [*ONE_URL, "--server-flag", "--x"], "--server-flag is for servers that are started here"),
    ("compare", ["session:original@litert", "session:twin@litert", "--grappler", "off"],
     "--grappler is for targets in process that TensorFlow runs"),
    ("profile", ["original", "original@litert"], "profile shows TensorFlow's operations, and original@litert has"),
    ("tune", ["original@litert"], "tune tries settings of TensorFlow, which do nothing for original@litert"),
    ("overhead", ["original@litert"], "compare session:original@litert original@litert --protocol grpc"),
    ("run", ["article", "original@litert"], "session:original@litert measures litert without a server"),
    ("overhead", ["original", "--part", "empty", "--grappler", "off"], "--grappler is for part loop"),
    ("overhead", ["original", "--part", "empty", "--samples", "{samples}"], "--samples is for part loop and instead"),
    ("overhead", ["original", "--part", "instead", "--processes", "1"], "--processes is for part loop and empty")])
def test_an_option_without_effect_is_refused(name: str, arguments: list[str], words: str,
                                             noted: Callable[[str, list[str]], str]) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        noted(name, arguments)


@pytest.mark.parametrize(("name", "option"), [
    (name, option) for name in CASES if name != "report" for option in sorted(_options(name).keys() & OUTPUTS)])
def test_a_result_that_cannot_be_written_is_refused_first(name: str, option: str, tmp_path: Path,
                                                          noted: Callable[[str, list[str]], str]) -> None:
    base = next(iter(CASES[name].values()))[0] if CASES[name] else []
    with pytest.raises(UserError, match=f"cannot write {tmp_path}"):
        noted(name, [*base, option, str(tmp_path)])


def test_split_uses_its_options_for_its_requests(places: dict[str, str], null_server: Callable[..., Any],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """split connects to its server before it uses these options; here it is a null server."""
    asked: list[str] = []

    def split(instance: Any, clients: Any, *rest: Any) -> Any:
        asked.append(repr(rest))
        raise ReachedError
    monkeypatch.setattr("benchmark.split.split", split)

    def run(*options: str) -> BaseException | None:
        arguments = ["split", "--url", null_server().rest, "--model", "null", *options]
        return CliRunner().invoke(COMMANDS, [each.format(**places) for each in arguments]).exception
    cases = {"--batch": "2", "--repeat": "9", "--samples": "{samples}", "--seed": "5", "--signature": "second"}
    assert {option for command, option in LATER if command == "split"} == cases.keys()
    assert isinstance(run(), ReachedError)
    for option, value in list(cases.items())[:-1]:
        assert isinstance(run(option, value), ReachedError)
        assert asked[-1] != asked[0], option
    assert "second" in str(run("--signature", cases["--signature"]))
