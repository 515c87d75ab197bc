"""Golden requests: read, written, and made."""
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.client.payloads import TensorSpec
from serving.client.protocol import Signature
from serving.promotion import golden
from serving.promotion.golden import Golden
from user_error import UserError
from version_directory import SAMPLES

ARRAYS = st.dictionaries(st.sampled_from("abc"), hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)),
                         min_size=1)


@given(st.lists(st.builds(Golden, ARRAYS, st.sampled_from(["", "serving_default"]), st.none() | ARRAYS), max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, requests: list[Golden]) -> None:
    path = tmp_path_factory.mktemp("golden") / "file"
    path.write_bytes(golden.as_file(requests, "m"))
    found = golden.kept(path)
    assert len(found) == len(requests)
    for one, other in zip(found, requests, strict=True):
        assert one.signature == other.signature
        for mine, its in ((one.inputs, other.inputs), (one.expected or {}, other.expected or {})):
            assert set(mine) == set(its)
            assert all(np.array_equal(mine[key], its[key], equal_nan=True) for key in mine)
    # The same bytes each time: their digest is in the history.
    assert golden.as_file(requests, "m") == path.read_bytes()


def test_a_file_is_read_so_far_and_one_that_is_not_there_has_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(golden.as_file([Golden({"x": np.full(1, n)}, "") for n in range(100)], "m"))
    assert len(golden.of_file(path)) == golden.MOST
    assert [one.inputs["x"].tolist() for one in golden.recorded(path, 3)] == [[0], [1], [2]]
    assert golden.kept(tmp_path / "nothing") == []


@pytest.mark.parametrize(("first", "sizes"), [(-1, [1, 2, 3, 7]), (8, [8, 8, 8, 8])])
@pytest.mark.parametrize("with_samples", [False, True])
def test_requests_are_made_in_the_sizes_that_a_signature_takes(
        first: int, sizes: list[int], with_samples: bool, tmp_path: Path) -> None:
    if with_samples:
        (tmp_path / SAMPLES).parent.mkdir()
        np.savez(tmp_path / SAMPLES, x=np.arange(50 * 3, dtype=np.float32).reshape(50, 3))
    takes = {"serving_default": Signature("predict", {"x": TensorSpec(np.dtype(np.float32), (first, 3))}, {})}
    found = golden.of_version(tmp_path, takes)
    assert [len(one.inputs["x"]) for one in found] == sizes
    assert len({one.inputs["x"].tobytes() for one in found}) == len(sizes)


def test_half_a_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(golden.as_file([Golden({"x": np.zeros(9)}, "")], "m")[:-5])
    with pytest.raises(UserError):
        golden.kept(path)
