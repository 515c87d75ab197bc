"""models.config: one model's versions and labels change, and nothing else."""
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from serving.promotion.config_file import EMPTY, ConfigFile
from serving.promotion.plan import Served
from serving.protos import model_server_config_pb2
from user_error import UserError

BY_HAND = """# who to ask: the platform team
model_config_list: {
  config {  # the first one
    name: 'other' base_path: "/srv/#other" model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 2 } }
  }
  config <
    # do not touch
    name: "mnist"
    base_path: "/srv/production/mnist"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 2 }
    logging_config { sampling_config { sampling_rate: 0.5 } }
  >
}
"""
BASE = Path("/srv/production/mnist")
NEW = Served(frozenset({2, 3}), {"stable": 2, "canary": 3})


def _file(text: str) -> ConfigFile:
    return ConfigFile(Path("models.config"), text)


def test_it_reads_what_a_model_is_served_with() -> None:
    file = _file(BY_HAND)
    assert file.models == ["other", "mnist"]
    assert file.served("mnist") == Served(frozenset({1, 2}), {"stable": 2})
    assert file.served("other") == Served()  # a policy: the server chooses
    assert file.served("missing") == Served()


def test_what_was_written_by_hand_stays() -> None:
    found = _file(_file(BY_HAND).with_served("mnist", BASE, NEW))
    assert found.served("mnist") == NEW
    first, last = BY_HAND.index("config {"), BY_HAND.index("config <")
    assert found.text[:last] == BY_HAND[:last]
    assert first < last
    assert "# do not touch" in found.text
    assert found.entry("mnist").logging_config.sampling_config.sampling_rate == 0.5
    assert found.entry("other") == _file(BY_HAND).entry("other")


def test_a_model_without_versions_is_not_named_any_more() -> None:
    found = _file(_file(BY_HAND).with_served("mnist", BASE, Served()))
    assert found.models == ["other"]
    assert found.with_served("mnist", BASE, Served()) == found.text
    assert "mnist" not in found.text


@pytest.mark.parametrize("text", [EMPTY, "model_config_list {}", "# nothing yet\n", "model_config_list: <>",
                                  "model_config_list { config { name: 'a' base_path: '/a' } }"])
def test_a_model_is_added(text: str) -> None:
    before = _file(text)
    found = _file(before.with_served("mnist", BASE, NEW))
    assert found.models == [*before.models, "mnist"]
    assert found.served("mnist") == NEW
    assert found.entry("mnist").base_path == str(BASE)
    assert found.entry("mnist").model_platform == "tensorflow"
    assert _file(found.with_served("mnist", BASE, Served())).models == before.models


def test_models_in_brackets_get_blocks_of_their_own() -> None:
    text = ('# both\nmodel_config_list { config: [{ name: "a" base_path: "/a" }, '
            '{ name: "mnist" base_path: "/m" model_platform: "tensorflow" }] }')
    found = _file(_file(text).with_served("mnist", BASE, NEW))
    assert found.models == ["a", "mnist"]
    assert found.served("mnist") == NEW
    assert found.entry("mnist").base_path == "/m"
    assert "# both" in found.text


@pytest.mark.parametrize(("text", "words"), [
    ("model_config_list { config { name: 'a'", "Expected identifier"), ("not a config", "Invalid protobuf file"),
    ("", "the file is empty"), ("model_config_list { config { name: 'a' base_path: 'relative' } }", "absolute path")])
def test_a_file_that_a_server_would_refuse_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(UserError, match=words):
        ConfigFile.read(tmp_path / "models.config")


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
_MODELS = st.lists(st.builds(
    lambda name, versions, labels: model_server_config_pb2.ModelConfig(
        name=name, base_path="/" + name, version_labels=labels, model_platform="tensorflow",
        model_version_policy={"specific": {"versions": versions}}),
    _NAMES, st.lists(st.integers(1, 99), max_size=3), st.dictionaries(_NAMES, st.integers(1, 99), max_size=2)),
    max_size=4, unique_by=lambda model: model.name)


@given(_MODELS, st.booleans(), st.frozensets(st.integers(1, 99), min_size=1, max_size=3), st.integers(0, 4))
def test_whatever_the_names_are_one_model_changes(models: list, in_a_line: bool, versions: frozenset[int],
                                                  which: int) -> None:
    config = model_server_config_pb2.ModelServerConfig(model_config_list={"config": models})
    before = _file(text_format.MessageToString(config, as_one_line=in_a_line, as_utf8=in_a_line))
    name = models[which].name if which < len(models) else "a new one"
    wanted = Served(versions, {"stable": min(versions)})
    after = _file(before.with_served(name, BASE, wanted))
    assert after.served(name) == wanted
    assert [after.entry(model.name) for model in models if model.name != name] == [
        model for model in models if model.name != name]
    assert len(after.models) == len(models) + (which >= len(models) or not models)


@pytest.mark.parametrize(("policy", "kept"), [
    ("specific { versions: 3 versions: 9 }", {3, 9}), ("latest { num_versions: 1 }", {1, 2, 3}),
    ("all { }", {1, 2, 3})])
def test_versions_that_a_model_of_another_name_serves_are_known(policy: str, kept: set[int], tmp_path: Path) -> None:
    base = tmp_path / "mnist"
    base.mkdir()
    (tmp_path / "link").symlink_to(base)
    for path in (base, tmp_path / "link", f"{base}/"):
        file = _file(f"""model_config_list {{
            config {{ name: "mnist" base_path: "{base}" model_version_policy {{ specific {{ versions: 1 }} }} }}
            config {{ name: "alias" base_path: "{path}" model_version_policy {{ {policy} }} }}
            config {{ name: "other" base_path: "{tmp_path}" }} }}""")
        assert file.named_by_others("mnist", base, {1, 2, 3}) == kept
        assert file.named_by_others("alias", base, {1, 2, 3}) == {1}
        assert file.named_by_others("other", tmp_path, {1}) == set()
        assert (file.chooses_among("mnist", base) == "alias") is ("specific" not in policy)
