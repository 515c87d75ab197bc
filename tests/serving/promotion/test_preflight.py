"""Preflight: what a version must not do, and what clients may rely on."""
import json
from pathlib import Path
from typing import Any

import half_model
import numpy as np
import pytest
import tensorflow as tf
from saved_models import save_v1, signature

import cpu_class
from serving.client.payloads import TensorSpec
from serving.client.protocol import AnswerError, Signature
from serving.promotion import preflight
from serving.promotion.errors import GateFailedError, PromotionError
from serving.promotion.golden import Golden
from serving.promotion.private_server import private_server
from version_directory import MANIFEST

v1 = tf.compat.v1

X, Y = TensorSpec(np.dtype(np.float32), (-1, 4)), TensorSpec(np.dtype(np.float32), (-1, 2))
OLD = {"serving_default": Signature("predict", {"x": X}, {"y": Y})}


@pytest.mark.parametrize("new", [
    OLD, OLD | {"more": OLD["serving_default"]},
    {"serving_default": Signature("predict", {"x": X}, {"y": Y, "z": Y})}])
def test_clients_need_not_change(new: dict[str, Signature]) -> None:
    preflight.same_signatures(new, OLD)


@pytest.mark.parametrize(("new", "words"), [
    ({}, "signature 'serving_default' is gone"),
    ({"serving_default": Signature("predict", {"x": X, "k": X}, {"y": Y})}, "input 'k' of 'serving_default' is new"),
    ({"serving_default": Signature("predict", {}, {"y": Y})}, "input 'x' of 'serving_default' is gone"),
    ({"serving_default": Signature("predict", {"x": X}, {})}, "output 'y' of 'serving_default' is gone"),
    ({"serving_default": Signature("predict", {"x": Y}, {"y": Y})},
     r"input 'x' of 'serving_default' is float32 \[-1, 2\], and was float32 \[-1, 4\]"),
    ({"serving_default": Signature("predict", {"x": X}, {"y": TensorSpec(np.dtype(np.float64), (-1, 2))})},
     "is float64")])
def test_clients_would_have_to_change(new: dict[str, Signature], words: str) -> None:
    with pytest.raises(GateFailedError, match=words):
        preflight.same_signatures(new, OLD)


def _reads_a_file(version: Path) -> Path:
    with v1.Graph().as_default(), v1.Session() as session:
        name = v1.placeholder(tf.string, [], "name")
        save_v1(version, session, {"serving_default": signature({"name": name}, {"y": tf.io.read_file(name)})})
    return version


def test_a_version_that_touches_files_is_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    version = _reads_a_file(tmp_path / "1")
    with pytest.raises(GateFailedError, match=r"may harm: .*ReadFile.*; `--allow-op NAME` allows one"):
        preflight.scanned(version)
    preflight.scanned(version, ("ReadFile",))
    half_model.save(tmp_path / "2")
    preflight.scanned(tmp_path / "2")


def test_what_cannot_be_scanned_is_no_failed_gate(tmp_path: Path) -> None:
    with pytest.raises(PromotionError) as caught:
        preflight.scanned(tmp_path / "none")
    assert not isinstance(caught.value, GateFailedError)


@pytest.mark.parametrize(("there", "here", "fits"), [
    ("amx", "amx", True), ("amx", "avx2", False), (None, "avx2", True)])
def test_a_precision_chosen_on_another_class_of_cpu_is_refused(
        there: str | None, here: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"amx": {"amx_tile", "amx_int8", "amx_bf16", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni",
                     "avx512_bf16", "avx2", "fma"}, "avx2": {"avx2", "fma"}}
    monkeypatch.setattr(cpu_class, "current", lambda: cpu_class.of(flags[here], "x86_64", {}))
    (tmp_path / MANIFEST).parent.mkdir()
    if there:
        stated = str(cpu_class.of(flags[there], "x86_64", {}))
        (tmp_path / MANIFEST).write_text(json.dumps({"precision": "bfloat16", "cpu_class": stated}))
    if fits:
        preflight.fits_this_cpu(tmp_path)
    else:
        with pytest.raises(GateFailedError, match=r"was chosen on amx.*; this CPU is avx2"):
            preflight.fits_this_cpu(tmp_path)


class Mortal:
    """A private server that answers, refuses or dies, by the number of examples."""

    def __init__(self, refuses: int | None = None, dies: int | None = None) -> None:
        self.refuses, self.dies, self.dead, self.asked = refuses, dies, False, list[int]()

    def refuse_dead(self, doing: str) -> None:
        if self.dead:
            raise GateFailedError(f"the server ended {doing}")

    def client(self, name: str) -> Any:
        server = self

        class Client:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None: ...

            def predict(self, inputs: Any, signature_name: str) -> None:
                size = len(inputs["x"])
                server.asked.append(size)
                server.dead |= size == server.dies
                if size in (server.refuses, server.dies):
                    raise AnswerError("INTERNAL", "no")
        return Client()


GOLDEN = [Golden({"x": np.ones((3, 4), np.float32)}, "")]


@pytest.mark.parametrize("server", [Mortal(), Mortal(refuses=0), Mortal(refuses=256)])
def test_a_version_that_answers_usual_sizes_and_lives_passes(server: Any) -> None:
    preflight.lives(server, "candidate", GOLDEN, OLD)
    assert server.asked[:6] == list(preflight.SIZES)
    assert server.asked[6:] == [256] * 4


@pytest.mark.parametrize(("server", "words"), [
    (Mortal(refuses=2), "does not answer 2 examples: .*INTERNAL"),
    (Mortal(dies=0), "ended when it was asked about 0 examples"),
    (Mortal(dies=256), "ended when it was asked about 256 examples")])
def test_a_version_that_dies_or_does_not_answer_is_refused(server: Any, words: str) -> None:
    with pytest.raises(GateFailedError, match=words):
        preflight.lives(server, "candidate", GOLDEN, OLD)


def test_a_version_that_does_not_load_is_refused_with_its_reason(tmp_path: Path) -> None:
    half_model.save(tmp_path / "good")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/saved_model.pb").write_bytes(b"\xff no model")
    with pytest.raises(GateFailedError, match=r"saved_model\.pb"), private_server(
            {"production": tmp_path / "good", "candidate": tmp_path / "broken"}):
        pass
    with private_server({"production": tmp_path / "good"}) as server, server.client("production") as client:
        assert client.predict({"x": np.array([1.0], np.float32)})["y"].tolist() == [2.5]
