"""gates.toml: defaults, a root's own values, and what cannot be meant."""
from pathlib import Path

import pytest

from serving.promotion import settings
from serving.promotion.errors import PromotionError


def test_a_root_without_its_own_file_has_the_defaults(tmp_path: Path) -> None:
    found = settings.read(tmp_path)
    assert found.latency.least_ratio == 0.95
    assert found.bake.seconds == 60
    assert found.parity.top1_agreement == 0.99


def test_a_roots_own_values_replace_single_ones(tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text("[latency]\nleast_ratio = 1\nprotocol = 'rest'\n[bake]\nseconds = 5\n")
    found, default = settings.read(tmp_path), settings.read(tmp_path / "none")
    assert (found.latency.least_ratio, found.latency.protocol, found.bake.seconds) == (1.0, "rest", 5.0)
    assert isinstance(found.bake.seconds, float)
    assert (found.cost, found.latency.batch) == (default.cost, default.latency.batch)


@pytest.mark.parametrize(("text", "words"), [
    ("[speed]\nx = 1", r"no table \[speed\]: there are parity"), ("[latency]\nslow = 1", r"\[latency\] has no slow"),
    ("[latency]\nleast_ratio = 'much'", "should be as 0.95"), ("[latency]\nbatch = 1.5", "should be as 1"),
    ("[latency]\nbatch = true", "should be as 1"), ("latency = 1", "no table"), ("[latency", "gates.toml: "),
    ("[bake]\nrequests_per_second = 0", "must be above 0"), ("[bake]\nreplayed = -1", "must be 0 or more"),
    ("[latency]\nleast_ratio = 0.0", "must be above 0"), ("[bake]\nworst_ratio = 0", "must be above 0"),
    ("[bake]\nreplayed = 0", "must be above 0"),
    ("[bake]\nmax_error_ratio = 0.7", "must be 0.5 or less"), ("[bake]\ncontrol = 1", "should be as True"),
    ("[bake]\nundecided = 'wait'", "must be one of pass, pause")])
def test_what_cannot_be_meant_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(PromotionError, match=words):
        settings.read(tmp_path)
