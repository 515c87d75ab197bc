"""The options of reduced precision: what they allow, and that each has an effect or is refused."""
import pytest

from export.precision.ranges import METHODS
from export.precision.reduction import RANGES, STORAGE, Reduction
from export.precision.storage import KINDS
from user_error import UserError


@pytest.mark.parametrize(("given", "words"), [
    ({"precision": "float16"}, "--precision float16 is for --engine litert"),
    ({"precision": "dynamic"}, "--precision dynamic is for --engine litert"),
    ({"engine": "openvino", "precision": "dynamic"}, "--engine openvino has no --precision dynamic"),
    ({"precision": "int8", "ranges": "median"}, "--ranges median: choose from minmax, percentile, mse, kl"),
    ({"storage": "bfloat16"}, "--storage bfloat16: choose from float16, int8"),
    ({"precision": "int8", "storage": "int8"}, "--storage int8 is for weights of float32, and --precision int8 stores"),
    ({"max_error": 0.0}, "--max-error has no effect on --precision float32: it is for --precision bfloat16 or"),
    ({"max_accuracy_drop": 1.0}, "--max-accuracy-drop has no effect on --precision float32"),
    ({"interest": (1,)}, "--batch-of-interest has no effect on --precision float32"),
    ({"storage": "int8", "interest": (1,)}, "--batch-of-interest has no effect on --storage"),
    ({"keep": ()}, "--keep-float32 has no effect on --precision float32"),
    ({"precision": "bfloat16", "ranges": "kl"}, "--ranges has no effect on --precision bfloat16: it is for --precision "
                                                "int8 or --precision auto"),
    ({"unmeasured": True}, "--unmeasured has no effect on --precision float32"),
    ({"precision": "auto", "unmeasured": True}, "--unmeasured has no effect on --precision auto"),
    ({"engine": "litert", "precision": "bfloat16"},
     "--engine litert has no --precision bfloat16: choose from float32, float16, dynamic, int8"),
    ({"engine": "openvino", "precision": "auto"}, "--engine openvino has no --precision auto"),
    ({"engine": "onnx"}, "--engine onnx: choose from litert, openvino"),
    ({"engine": "litert", "storage": "int8"}, "--storage int8 is for weights of float32, and --engine litert stores"),
    ({"engine": "litert", "max_error": 0.1}, "--max-error has no effect on --engine litert --precision float32"),
    ({"engine": "litert", "precision": "int8", "ranges": "kl"}, "--ranges has no effect on --engine litert"),
    ({"engine": "openvino", "precision": "int8", "keep": ("a",)}, "--keep-float32 has no effect on --engine openvino"),
    ({"engine": "litert", "engines": "all"}, "--engines has no effect on --engine litert"),
    ({"precision": "int8", "engines": "all"},
     "--engines has no effect on --precision int8: it is for --precision auto"),
    ({"precision": "auto", "max_convert_time": 9.0},
     "--max-convert-time has no effect on --precision auto: it is for --engine or --engines all"),
    ({"precision": "auto", "max_time": 0.0}, "--max-time is above 0"),
    ({"max_time": 5.0}, "--max-time has no effect on --precision float32"),
    ({"precision": "int8", "max_error": -0.1}, "are at least 0"),
    ({"precision": "int8", "interest": ()}, "--batch-of-interest takes positive integers"),
    ({"precision": "int8", "interest": (0, 4)}, "--batch-of-interest takes positive integers"),
])
def test_refusals(given: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as refused:
        Reduction(**given)  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_float32_adds_nothing_to_a_recipe() -> None:
    assert Reduction().to_json() == {}
    assert not Reduction().asked
    assert Reduction(storage="int8").asked


def test_defaults() -> None:
    found = Reduction("int8")
    assert (found.drop, found.batches) == (0.5, (1, 32))
    assert Reduction("int8", max_accuracy_drop=0.0).drop == 0.0


def test_the_options_offer_what_there_is() -> None:
    """They are listed twice, since the modules that have them take long to import."""
    assert tuple(METHODS) == RANGES
    assert KINDS == STORAGE
