"""Flags and models.config, and their errors with the original's messages."""
import dataclasses
from pathlib import Path

import pytest
from google.protobuf import text_format

from serving import text_proto
from serving.config import (
    FLAGS,
    Flags,
    Model,
    check_no_platform_changes,
    check_platforms,
    help_text,
    models_of,
    parse_flags,
    read_models,
    reread_models,
    tags_of,
)
from serving.errors import Code, ServingError
from serving.protos import model_server_config_pb2
from serving.versions import All, Latest, Specific
from user_error import UserError


def config(text: str) -> model_server_config_pb2.ModelServerConfig:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--port=1"], {"port": 1}),
    (["--port", "1"], {"port": 1}),
    (["--enable_batching"], {"enable_batching": True}),
    (["--enable_batching=TRUE"], {"enable_batching": True}),
    (["--enable_batching=1"], {"enable_batching": True}),
    (["--enable_model_warmup=false"], {"enable_model_warmup": False}),
    (["--enable_batching", "--port", "3"], {"enable_batching": True, "port": 3}),
    (["--model_name="], {"model_name": ""}),
    (["--model_name=a=b"], {"model_name": "a=b"}),
    (["--drain_seconds=0.5"], {"drain_seconds": 0.5}),
    (["--port=1", "--port=2"], {"port": 2}),
    (["--port= +2"], {"port": 2}),
    (["", "--port=1", "--"], {"port": 1}),
    (["--file_system_poll_wait_seconds", "-1"], {"file_system_poll_wait_seconds": -1}),
])
def test_flags_are_read(arguments: list[str], expected: dict[str, object]) -> None:
    assert parse_flags(arguments) == dataclasses.replace(Flags(), **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--prot=1"], "unknown argument: --prot=1 (did you mean --port?"),
    (["word"], "unknown argument: word"),
    (["-port=1"], "unknown argument: -port=1"),
    (["--", "--port=1"], "unknown argument: --"),
    (["--port=4x"], "Couldn't interpret value 4x for flag port."),
    (["--port=1_0"], "Couldn't interpret value 1_0 for flag port."),
    (["--port=x"], "Couldn't interpret value x for flag port. It takes a whole number"),
    (["--enable_batching=maybe"], "Couldn't interpret value maybe for flag enable_batching. It takes true or false"),
    (["--drain_seconds=x"], "Couldn't interpret value x for flag drain_seconds. It takes a number"),
    (["--port"], "unknown argument: --port (it needs a value: --port=VALUE)"),
    (["--port", "--enable_batching"], "unknown argument: --port (it needs a value"),
])
def test_a_wrong_flag_is_one_line_that_says_what_to_do(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_flags(arguments)
    assert str(error.value).startswith(message)
    assert "usage: python -m serving serve" in str(error.value)


def test_flags_without_effect_are_named_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    parse_flags(["--port=1", "--num_unload_threads=2", "--skip_initialize_tpu"])
    [record] = caplog.records
    assert record.getMessage() == (
        "accepted without effect here: --num_unload_threads, --skip_initialize_tpu")


def test_help_names_every_flag() -> None:
    text = help_text()
    assert all(name in text for name in FLAGS)


def test_every_flag_is_documented() -> None:
    page = Path("docs/serving.md").read_text()
    assert [name for name in FLAGS if f"`--{name}" not in page] == []


def test_models_are_read() -> None:
    models = models_of(config("""model_config_list {
        config { name: "a" base_path: "/a" model_platform: "tensorflow" model_version_policy { all {} } }
        config { name: "b" base_path: "/b" model_type: TENSORFLOW
                 model_version_policy { specific { versions: 3 versions: 4 } }
                 version_labels { key: "stable" value: 3 } }
        config { name: "c" base_path: "/c" model_platform: "tensorflow" model_version_policy { latest {} } } }"""))
    assert models == [Model("a", "/a", All()), Model("b", "/b", Specific(frozenset({3, 4})), {"stable": 3}, "", 1),
                      Model("c", "/c", Latest(1))]
    check_platforms(models)


@pytest.mark.parametrize(("text", "code", "message"), [
    ('config { name: "m" base_path: "/a" }', Code.INVALID_ARGUMENT,
     "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
     "model name is m"),
    ('config { name: "m" base_path: "/a" model_type: TENSORFLOW model_platform: "tensorflow" }',
     Code.INVALID_ARGUMENT, "Illegal setting both"),
    ('config { name: "m" base_path: "/a" model_platform: "torch" }', Code.INVALID_ARGUMENT,
     "Model m requests unsupported platform torch"),
    ('config { name: "m" base_path: "/a" model_type: OTHER }', Code.INVALID_ARGUMENT,
     "ModelServerConfig::model_type choice 2 not supported."),
    ('config { name: "m" base_path: "a" model_platform: "tensorflow" }', Code.INVALID_ARGUMENT,
     "Expected model m to have an absolute path or URI; got base_path()=a"),
    ('config { name: "m" base_path: "/a" model_platform: "tensorflow" } '
     'config { name: "m" base_path: "/b" model_platform: "tensorflow" }', Code.INVALID_ARGUMENT,
     "Illegal to list model m multiple times in config list"),
])
def test_a_wrong_model_is_refused(text: str, code: Code, message: str) -> None:
    with pytest.raises(ServingError) as error:
        check_platforms(models_of(config(f"model_config_list {{ {text} }}")))
    assert error.value.code is code
    assert error.value.message.startswith(message)


@pytest.mark.parametrize(("text", "message"), [
    ('model_platform: "torch"', "Illegal to change a model's platform. For model m platform was tensorflow and new "
                                "platform requested is torch"),
    ('model_type: OTHER', "ModelServerConfig::model_type choice 2 not supported."),
    ('', "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
         "model name is m"),
])
def test_a_known_model_keeps_its_platform(text: str, message: str) -> None:
    models = models_of(config(f'model_config_list {{ config {{ name: "m" base_path: "/a" {text} }} }}'))
    check_no_platform_changes(["other"], models)
    with pytest.raises(ServingError) as error:
        check_no_platform_changes(["m"], models)
    assert (error.value.code, error.value.message) == (Code.INVALID_ARGUMENT, message)


def test_a_known_model_may_name_its_platform_by_model_type_or_model_platform() -> None:
    check_no_platform_changes(["m"], models_of(config(
        'model_config_list { config { name: "m" base_path: "/a" model_type: TENSORFLOW } }')))


@pytest.mark.parametrize("text", ["# nothing", "custom_model_config {}"])
def test_a_file_that_was_a_list_has_to_stay_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(ServingError, match="Cannot transition to requested config") as error:
        reread_models(Flags(model_config_file=str(file)))
    assert error.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(("flag", "tags"), [
    ("", ["serve"]), ("serve", ["serve"]), ("serve,gpu", ["serve", "gpu"]), ("serve,", ["serve", ""])])
def test_tags(flag: str, tags: list[str]) -> None:
    assert tags_of(Flags(saved_model_tags=flag)) == tags


def test_a_config_file_wins_over_a_base_path(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text('model_config_list { config { name: "m" base_path: "/a" model_platform: "tensorflow" } }')
    flags = Flags(model_config_file=str(file), model_name="x", model_base_path="/x")
    assert read_models(flags) == [Model("m", "/a")]


@pytest.mark.parametrize(("text", "message"), [
    ("this { is : not", '1:6: Message type "tensorflow.serving.ModelServerConfig" has no field named "this".'),
    ("model_config_list {\n config {\n  newest  # why\n   {} } }",
     '4:4: Message type "tensorflow.serving.ModelConfig" has no field named "newest".'),
    ("nonsense", '1:9: Message type "tensorflow.serving.ModelServerConfig" has no field named "nonsense".'),
    ("nonsense\n", '2:1: Message type "tensorflow.serving.ModelServerConfig" has no field named "nonsense".'),
    ("model_config_list: 5", '1:20: Expected "{", found "5".'),
    ("model_config_list {", "1:20: Expected identifier, got: "),
    ("model_config_list { config { name: m } }", "1:36: Expected string, got: m"),
    ("model_config_list { config { name 'm' } }", """1:35: Expected ":", found "'m'"."""),
    ('model_config_list { config { name: "m" name: "n" } }',
     '1:44: Non-repeated field "name" is specified multiple times.'),
    ("model_config_list { config { model_type: TORCH } }",
     '1:48: Unknown enumeration value of "TORCH" for field "model_type".'),
    ('model_config_list { config { version_labels { key: "a" value: 99999999999999999999 } } }',
     "1:63: Integer out of range (99999999999999999999)"),
    ('model_config_list { config { version_labels { key: "a" value: "1" } } }', '1:63: Expected integer, got: "1"'),
    ("model_config_list { } }", "1:23: Expected identifier, got: }"),
    ("model_config_list < > model_config_list < >",
     '1:41: Non-repeated field "model_config_list" is specified multiple times.'),
])
def test_the_place_of_an_error_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "f"
    file.write_text(text)
    with pytest.raises(ServingError) as error:
        text_proto.read(str(file), model_server_config_pb2.ModelServerConfig())
    assert error.value.code is Code.INVALID_ARGUMENT
    assert error.value.message == (f"Invalid protobuf file: '{file}': Error parsing text-format "
                                   f"tensorflow.serving.ModelServerConfig: {message}")


@pytest.mark.parametrize(("content", "code", "message"), [
    (None, Code.NOT_FOUND, "; No such file or directory"),
    (b"", Code.INVALID_ARGUMENT, "; Invalid argument"),
    (b"\xff\xfe", Code.INVALID_ARGUMENT, "it is not text"),
])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, code: Code, message: str) -> None:
    file = tmp_path / "f"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ServingError) as error:
        text_proto.read(str(file), text_proto.message("SSLConfig"))
    assert error.value.code is code
    assert str(file) in error.value.message
    assert message in error.value.message
