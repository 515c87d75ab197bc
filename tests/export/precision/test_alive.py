"""The proof that requests leave a version's process alive, and what it says if one does not."""
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_session import build, seeded
from int8_graphs import Int8Graph, written
from numpy.typing import NDArray

from export import saved_model
from export.graph import Graph
from export.loaded import LoadedModel
from export.precision.alive import BATCHES, Expected, made_for, proven_alive
from export.precision.guard import guarded
from export.runtime import tf
from export.samples import Maker
from user_error import FailedError

IMAGE = (None, 8, 8, 4)
KEY = "serving_default"


def images(batch: int) -> dict[str, NDArray[Any]]:
    return {"x": np.abs(seeded((batch, 8, 8, 4), batch))}


def one_conv() -> Graph:
    made = Int8Graph()
    return made.graph(made.dequantize(made.conv(made.quantize(made.image("x", IMAGE)), seeded((3, 3, 4, 4))), "y"))


def added() -> Graph:
    """Two inputs whose convolutions are added inside the second one."""
    made = Int8Graph()
    a, b = (made.conv(made.quantize(made.image(name, IMAGE)), seeded((3, 3, 4, 4), 1)) for name in "xs")
    return made.graph(made.dequantize(made.conv(a, seeded((3, 3, 4, 4), 2), summand=b), "y"))


def floats(make: Callable[[Any], Any], shape: tuple[int | None, ...] = IMAGE) -> Graph:
    def nodes() -> None:
        tf.identity(make(tf.compat.v1.placeholder(tf.float32, shape, "x")), "y")
    return Graph.from_graph_def(build(nodes), ["x"], ["y"])


def reshaped(x: Any, batch: Any) -> Any:
    """Fails at run time unless there are `batch` examples."""
    return tf.reshape(x, tf.stack([batch, 8, 8, 4]))


def test_a_process_that_an_empty_batch_ends_is_named(tmp_path: Path) -> None:
    version = written(one_conv(), tmp_path / "1")
    with pytest.raises(FailedError, match="serving_default' at batch 0: its process ended with SIGABRT "
                                          r"\('data_buffer' Must be non NULL\)"):
        proven_alive(version, ["serve"], KEY, images)


def test_all_batches_several_at_once_and_other_shapes(tmp_path: Path) -> None:
    version = written(guarded(one_conv()), tmp_path / "1")
    reference = written(floats(lambda x: tf.nn.relu(tf.nn.conv2d(x, seeded((3, 3, 4, 4)), 1, "SAME"))), tmp_path / "2")
    proof = proven_alive(version, ["serve"], KEY, images, [4], Expected(reference, ["serve"]))
    assert proof.batches == dict.fromkeys(sorted({*BATCHES, 4}), "answered")
    assert (proof.differences, proof.at_once) == ([], 12)
    assert [told.split(":")[0] for told in proof.shapes.values()] == ["refused"] * 8
    assert "[2,8,8] is not compatible with expected shape [?,8,8,4]" in proof.shapes["input 'x' of shape [2, 8, 8]"]
    assert str(proof) == ("alive: batch 0, 1, 2, 3, 4, 5, 7, 17, 100, 257 answered; 12 requests at once; 8 of other "
                          "shapes")


def test_a_process_that_another_shape_ends_is_named(tmp_path: Path) -> None:
    version = written(floats(lambda x: tf.nn.conv2d(x, seeded((3, 3, 4, 4)), 1, "SAME")), tmp_path / "1")
    with pytest.raises(FailedError, match=r"with input 'x' of shape \[2, 8, 8\]: its process ended with SIGABRT"):
        proven_alive(version, ["serve"], KEY, images)


def test_a_batch_that_only_the_reference_answers_is_named(tmp_path: Path) -> None:
    least = written(floats(lambda x: reshaped(x, tf.minimum(tf.shape(x)[0], 17))), tmp_path / "1")
    any_batch = written(floats(lambda x: x + 1.0), tmp_path / "2")
    with pytest.raises(FailedError, match=r"at batch 100: it is refused: .*; .*/2 at that size is answered"):
        proven_alive(least, ["serve"], KEY, images, reference=Expected(any_batch, ["serve"]))
    with pytest.raises(FailedError, match=r"at batch 100: it is answered; .*/1 at that size is refused: "):
        proven_alive(any_batch, ["serve"], KEY, images, reference=Expected(least, ["serve"]))


def test_the_reference_is_asked_once_for_all_that_are_compared_with_it(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    reference, version = (written(floats(lambda x: x + 1.0), tmp_path / name) for name in "12")
    loaded: list[str] = []
    real = LoadedModel.loaded

    def counted(self: LoadedModel) -> None:
        loaded.append(self.path.name)
        real(self)
    monkeypatch.setattr(LoadedModel, "loaded", counted)
    expected = Expected(reference, ["serve"])
    for batches in ((), (), (4,)):
        assert not proven_alive(version, ["serve"], KEY, images, batches, expected).differences
    assert loaded == ["2", "1", "2", "2", "1"]  # the third comparison has a batch size that was not asked yet


def test_a_reference_that_ends_is_loaded_again_for_the_next_size(tmp_path: Path) -> None:
    dies = written(one_conv(), tmp_path / "1")  # at batch 0
    proof = proven_alive(written(floats(lambda x: x + 1.0), tmp_path / "2"), ["serve"], KEY, images,
                         reference=Expected(dies, ["serve"]))
    assert proof.differences[0].startswith("at batch 0: it is answered; ")
    assert "its process ended with SIGABRT" in proof.differences[0]


def test_batch_0_may_be_refused_or_answered(tmp_path: Path) -> None:
    refused = written(floats(lambda x: reshaped(x, tf.maximum(tf.shape(x)[0], 1))), tmp_path / "1")
    answered = written(floats(lambda x: x + 1.0), tmp_path / "2")
    proof = proven_alive(refused, ["serve"], KEY, images, reference=Expected(answered, ["serve"]))
    assert (proof.batches[0][:25], proof.batches[1]) == ("refused: Input to reshape", "answered")
    assert "batch 1, 2, 3, 5, 7, 17, 100, 257 answered, batch 0 refused;" in str(proof)
    assert proof.differences[0].startswith("at batch 0: it is refused: ")


def test_random_numbers_are_no_difference_between_alone_and_at_once(tmp_path: Path) -> None:
    version = written(floats(lambda x: x + tf.random.uniform([])), tmp_path / "1")
    assert proven_alive(version, ["serve"], KEY, images).at_once == 12


def test_a_process_that_ends_with_several_at_once_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = written(floats(lambda x: x + 1.0), tmp_path / "1")
    real = LoadedModel.run_at_once

    def raced(self: LoadedModel, requests: list[Any]) -> Any:
        if len(requests) > 1:
            self._process.kill()
        return real(self, requests)
    monkeypatch.setattr(LoadedModel, "run_at_once", raced)
    with pytest.raises(FailedError, match=r"with four requests at once \(batch 1\): its process ended with SIGKILL"):
        proven_alive(version, ["serve"], KEY, images)


def test_answers_that_several_at_once_mix_up_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = written(floats(lambda x: x + 1.0), tmp_path / "1")
    real = LoadedModel.run_at_once
    monkeypatch.setattr(LoadedModel, "run_at_once", lambda self, requests: real(self, requests)[::-1])
    with pytest.raises(FailedError, match=r"with four requests at once \(batch 257, 0, 1, 5\): batch 257 gets another "
                                          "answer than alone"):
        proven_alive(version, ["serve"], KEY, images)


@pytest.mark.parametrize(("shape", "size"), [((8, 8, 8, 4), 8), ((8, 8), 8), ((), 1)])
def test_a_fixed_size_is_the_only_one_asked(shape: tuple[int, ...], size: int, tmp_path: Path) -> None:
    version = written(floats(lambda x: x * 2.0, shape), tmp_path / "1")
    asked: list[int] = []

    def make(batch: int) -> Mapping[str, NDArray[Any]]:
        asked.append(batch)
        return {"x": seeded(shape) if shape else np.float32(3)}
    assert proven_alive(version, ["serve"], KEY, make).batches == {size: "answered"}
    assert asked == [size]


def test_inputs_of_two_sizes_do_not_reach_past_a_buffer(tmp_path: Path) -> None:
    def make(batch: int) -> dict[str, NDArray[Any]]:
        return {**images(batch), "s": images(1 if batch == 7 else batch)["x"]}
    with pytest.raises(FailedError, match="at batch 0: its process ended"):
        proven_alive(written(added(), tmp_path / "1"), ["serve"], KEY, make)
    proof = proven_alive(written(guarded(added()), tmp_path / "2"), ["serve"], KEY, make)
    assert set(proof.batches.values()) == {"answered"}


def test_requests_are_made_of_samples_or_of_the_signature(tmp_path: Path) -> None:
    version = written(floats(lambda x: x + 1.0), tmp_path / "1")
    maker = Maker(saved_model.read(version))
    real = images(5)["x"]
    for make in (made_for(maker, KEY), made_for(maker, KEY, {"x": real, "labels": np.arange(5)})):
        assert [make(batch)["x"].shape for batch in (0, 1, 7)] == [(0, 8, 8, 4), (1, 8, 8, 4), (7, 8, 8, 4)]
    np.testing.assert_array_equal(made_for(maker, KEY, {"x": real})(7)["x"], np.concatenate([real, real[:2]]))
