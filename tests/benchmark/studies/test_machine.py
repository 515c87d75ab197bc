"""The ceilings of this machine, and what a model computes, by child processes."""
from pathlib import Path

import pytest
import saved_models
import small_classifier

from benchmark.studies.machine import ceilings, work
from user_error import FailedError

pytestmark = pytest.mark.slow


def test_a_class_of_cpu_has_ceilings_of_its_own_precisions() -> None:
    found = ceilings(1, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert "float32" in found
    assert "bfloat16" not in found
    assert all(speed > 0 for speed in found.values())


def test_what_a_classifier_computes_for_an_example(tmp_path: Path) -> None:
    version = small_classifier.write(tmp_path / "small/original/1")
    assert work(version) == pytest.approx(2e-9 * (12 * 12 * 9 * 8 * 32 + 12 * 12 * 9 * 32 * 32 + 32 * 5))


def test_a_model_whose_sizes_are_not_known_is_a_reason(tmp_path: Path) -> None:
    saved_models.text_vectorization(tmp_path / "text/original/1")
    with pytest.raises(FailedError, match=r"^the multiplications of '\S+' \(MatMul\) cannot be counted: the shape of "
                                          r"'\S+' depends on more than the batch$"):
        work(tmp_path / "text/original/1")
