"""Files of OpenVINO that are not as they were made: each refused in a line that names it, the process alive."""
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import openvino_models
import pytest
from openvino_models import loaded

from export.runtime import tf
from serving.errors import Code, ServingError

ROOT = Path(__file__).resolve().parents[3]
v1 = tf.compat.v1


def listing(path: Path) -> Path:
    return path / "assets.extra" / "openvino" / "engine.json"


def refusal(path: Path) -> ServingError:
    with pytest.raises(ServingError) as refused:
        loaded(path)
    assert "\n" not in refused.value.message
    return refused.value


@pytest.fixture
def own(path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(path, tmp_path / "own"))


@pytest.mark.parametrize("name", ["0.xml", "0.bin"])
@pytest.mark.parametrize("damage", ["cut", "altered", "empty"])
def test_a_file_that_was_cut_or_altered_is_refused(own: Path, name: str, damage: str) -> None:
    file = listing(own).parent / name
    whole = file.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    file.write_bytes({"cut": whole[:-1], "altered": bytes(altered), "empty": b""}[damage])
    error = refusal(own)
    assert error.message == f"{file} cannot be used: it was cut or altered (its SHA-256 is not the one in engine.json)"
    assert error.code is Code.DATA_LOSS
    assert "python -m export optimize ... --engine openvino" in error.advice


def test_a_missing_file_is_named(own: Path) -> None:
    (listing(own).parent / "0.bin").unlink()
    assert refusal(own).message.endswith("openvino/0.bin; No such file or directory")


@pytest.mark.parametrize(("change", "words"), [
    ("{", "it is not JSON"), ("[]", "it has another form"), ({"precision": "int4"}, "its precision is 'int4', not one"),
    ({"graphs": []}, "it has another form"), ({"graphs": [{"model": "0.xml"}]}, "it has no 'weights'"),
    ({"left": []}, "it has another form"), ({"sha256": {}}, "it has no checksum of a file '0.xml'"),
    ({"graphs": [{"model": "../0.xml", "weights": "0.bin", "inputs": ["x:0"], "outputs": ["y:0"]}],
      "sha256": {"../0.xml": "", "0.bin": ""}}, "it has no checksum of a file '../0.xml'"),
    ({"graphs": [{"model": "0.xml", "weights": "0.bin", "inputs": "x:0", "outputs": ["y:0"]}]}, "it has another form"),
    ({"graphs": [{"model": "0.xml", "weights": "0.bin", "inputs": [], "outputs": ["y:0"]}]},
     "it has 1 inputs, and engine.json names 0"),
    ({"graphs": [{"model": "0.xml", "weights": "0.bin", "inputs": ["q:0"], "outputs": ["y:0"]}]},
     "its tensor 'q:0' is in no signature of saved_model.pb"),
])
def test_a_listing_that_is_not_as_it_should_be_is_refused(own: Path, change: Any, words: str) -> None:
    file = listing(own)
    file.write_text(change if isinstance(change, str) else json.dumps({**json.loads(file.read_text()), **change}))
    error = refusal(own)
    assert words in error.message
    assert error.message.startswith(str(file.parent))
    assert error.code is Code.DATA_LOSS


def test_a_graph_that_openvino_does_not_take_is_refused_in_one_line(own: Path) -> None:
    file = listing(own)
    (file.parent / "0.xml").write_text("<net></net>")
    content = json.loads(file.read_text())
    content["sha256"]["0.xml"] = hashlib.sha256(b"<net></net>").hexdigest()
    file.write_text(json.dumps(content))
    error = refusal(own)
    assert error.message.startswith(f"{file.parent}/0.xml cannot be used: OpenVINO does not take it: Unable to read")
    assert "src/" not in error.message


def test_a_graph_with_another_type_than_the_signature_is_refused(own: Path, tmp_path: Path) -> None:
    def nodes() -> None:
        x = v1.placeholder(tf.float64, (None, 6, 6, 3), "x")
        tf.reduce_sum(x, [1, 2], name="y")
    other = openvino_models.write(tmp_path / "other", nodes)
    shutil.rmtree(listing(own).parent)
    shutil.copytree(listing(other).parent, listing(own).parent)
    assert "its tensor 'x:0' is DT_DOUBLE, and DT_FLOAT in saved_model.pb" in refusal(own).message
