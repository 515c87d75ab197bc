"""python -m benchmark study: what it refuses, what it writes and where, and one whole run of a small study."""
import json
from pathlib import Path
from typing import Any

import engine_versions
import pytest
from click.testing import CliRunner, Result

from benchmark import study as command_module
from benchmark.__main__ import COMMANDS
from benchmark.reports import stored
from benchmark.studies.study import Article, Part, Step, Study, Way
from benchmark.study import STUDIES
from user_error import UserError

SMALL = Study("mnist", "A small study", Article("nobody", 2020, "Nothing", ""), (), (),
              (Part("alone", "In process", "tiny", (Step("original", "session:original@litert"),
                                                    Step("OpenVINO", "session:original@openvino")),
                    (2,), requests=8, quick=4, processes=1, warmup=1),),
              Way("alone", "in-process", 2, "two examples"), shown={("tiny", "original"): "original"})


def invoked(*arguments: str) -> Result:
    return CliRunner().invoke(COMMANDS, ["study", *arguments])


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model and docs/, in which `study mnist` is a small study."""
    engine_versions.both(tmp_path / "models/tiny/original/1")
    (tmp_path / "docs/proof").mkdir(parents=True)
    (tmp_path / "docs/studies").mkdir()
    (tmp_path / "docs/studies/mnist.md").write_text(
        "# By hand\n\n<!-- study: parts -->\n<!-- end of study: parts -->\n\nAlso by hand.\n")
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(STUDIES, "mnist", SMALL)
    return tmp_path


def test_a_model_that_the_study_does_not_have(small: Path) -> None:
    done = invoked("mnist", "--only", "other")
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "--only other: the study has no such model; it has tiny"
    # Of all studies, those that have the model.
    done = invoked("all", "--only", "tiny", "--quick")
    assert done.exit_code == 0
    assert "g2p" not in done.output


def test_the_full_form_writes_the_proof_its_page_and_its_chart(small: Path) -> None:
    done = invoked("mnist", "--html", "reports/mnist.html")
    assert done.exit_code == 0, done.output
    proof: Any = stored.load(small / "docs/proof/study_mnist.json")
    assert proof["quick"] is False
    assert proof["command"] == "python -m benchmark study mnist"
    assert len(proof["parts"][0]["rows"]) == 2
    page = (small / "docs/studies/mnist.md").read_text()
    assert page.startswith("# By hand\n")
    assert page.endswith("Also by hand.\n")
    assert "OpenVINO" in page
    assert (small / "docs/studies/mnist.svg").read_text().startswith("<svg")
    assert "A small study" in (small / "reports/mnist.html").read_text()
    assert sorted(path.name for path in (small / "reports/studies/mnist-full").iterdir()) == [
        "alone.json", "alone.raw.json"]
    # A second run takes what is measured from there, and the third one does not.
    again = invoked("mnist")
    assert "0 of 1 parts to measure" in again.output
    assert json.loads((small / "docs/proof/study_mnist.json").read_text())["parts"] == proof["parts"]
    assert invoked("mnist", "--again").exit_code == 0
    assert json.loads((small / "docs/proof/study_mnist.json").read_text())["parts"] != proof["parts"]


def test_the_quick_form_leaves_the_docs_as_they_are(small: Path) -> None:
    before = (small / "docs/studies/mnist.md").read_text()
    done = invoked("mnist", "--quick")
    assert done.exit_code == 0, done.output
    written: Any = stored.load(small / "reports/study_mnist_quick.json")
    assert written["quick"] is True
    assert {row["requests"] for row in written["parts"][0]["rows"]} == {4}
    assert (small / "docs/studies/mnist.md").read_text() == before
    assert list((small / "docs/proof").iterdir()) == []


def test_a_result_goes_where_it_is_asked_for(small: Path) -> None:
    done = invoked("mnist", "--quick", "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["study"] == "mnist"
    assert list((small / "docs/proof").iterdir()) == []


@pytest.mark.parametrize(("arguments", "words"), [
    (["all", "--json", "x.json"], "--json is for one study"),
    (["ssd", "--cloud", "original=vertex:x"], "--cloud is of the study mnist"),
    (["mnist", "--cloud", "vertex:x"], "is not VARIANT=URL"),
    (["mnist", "--cloud", "absent=vertex:x"], "name one of"),
    (["mnist", "--html", "/absent/folder/x.html"], "cannot write")])
def test_what_cannot_be_is_refused_before_anything_is_made(
        arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoked(*arguments)
    assert isinstance(done.exception, UserError), done.output
    assert words in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_time_is_said_before_it_begins(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: Any) -> None:
        raise UserError("not now")
    monkeypatch.setattr(command_module, "conduct", ends)
    assert "about 30 minutes" in invoked("mnist").output
    assert "about 6 minutes" in invoked("mnist", "--quick").output
