"""Operations before and after: the rows of the table, and the rings."""
import re
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from benchmark.reports import op_counts, picture, stored
from benchmark.reports.op_counts import Variant

DATA = Path(__file__).with_name("data")
SVG = "{http://www.w3.org/2000/svg}"


def _variants(name: str = "study_ssd") -> list[Variant]:
    result: Any = stored.load(DATA / f"{name}.json")
    return list(result["variants"])


def _variant(name: str, size: int, **ops: int) -> Variant:
    return {"name": name, "bytes": size, "nodes": sum(ops.values()), "ops": ops}


def _drawn(variants: list[Variant]) -> ElementTree.Element:
    return ElementTree.fromstring(op_counts.svg("A detector", variants))


def _texts(drawn: ElementTree.Element) -> list[str]:
    return ["".join(each.itertext()) for each in drawn.iter(f"{SVG}text")]


def test_rows_are_sorted_by_the_originals_counts() -> None:
    variants = _variants()
    assert op_counts.head(variants) == ["operation", "original → optimized"]
    rows = op_counts.rows(variants)
    assert rows[:4] == [["Const", "396 → 165"], ["Identity", "386 → 0"], ["Conv2D", "77 → 77"], ["Relu6", "77 → 77"]]
    assert ["FusedBatchNorm", "77 → 0"] in rows
    assert ["BiasAdd", "12 → 89"] in rows
    assert rows[-2:] == [["all nodes", "1,254 → 612"], ["size on disk", "102 MB → 101 MB"]]


def test_a_third_variant_has_a_column_and_what_is_nowhere_a_dash() -> None:
    variants = _variants("study")
    assert op_counts.head(variants) == ["operation", "original → optimized", "int8"]
    rows = {row[0]: row[1:] for row in op_counts.rows(variants)}
    assert rows["QuantizeV2"] == ["–", "3"]
    assert rows["FusedBatchNormV3"] == ["4 → 0", "–"]


def test_rare_operations_are_summed_up() -> None:
    rows = op_counts.rows([_variant("a", 5, **{f"Op{i:02}": 50 - i for i in range(40)})], 30)
    assert len(rows) == 33
    assert rows[30] == ["10 other operations", str(sum(50 - i for i in range(30, 40)))]
    assert rows[31] == ["all nodes", f"{sum(50 - i for i in range(40)):,}"]


def test_many_variants_have_a_row_each() -> None:
    variants = _variants()
    assert op_counts.head_by_variant(variants)[:5] == ["", "size on disk", "nodes", "Const", "Identity"]
    assert op_counts.rows_by_variant(variants)[1][:5] == ["optimized", "101 MB", "612", "165", "0"]


def test_an_operation_is_counted_in_all_its_versions() -> None:
    variant = _variant("a", 5, FusedBatchNorm=2, FusedBatchNormV3=3, Const=4)
    pair = [variant, _variant("b", 5, Const=1)]
    assert op_counts.counts(pair, "FusedBatchNorm") == op_counts.counts(pair, "FusedBatchNormV3") == [5, 0]
    assert op_counts.counts(pair, "nodes") == [9, 1]
    assert op_counts.counts(pair, "Conv2D") == op_counts.counts(pair, "served: 1,000 batches, s") == []


def test_of_several_models_the_firsts_variants_have_rings() -> None:
    variants = [{**each, "name": f"{model}, {each['name']}"} for model in ("A", "B", "C") for each in _variants()]
    texts = _texts(_drawn(cast(list[Variant], variants)))
    assert texts.count("nodes") == 2
    assert texts.count("original") == texts.count("optimized") == 2  # below its ring, and above its column
    assert "operations of A and sizes" in texts
    assert {"A, original", "B, optimized", "C, original"} <= set(texts)  # all have a bar for their size


@pytest.mark.parametrize(("count", "text"), [(22_060_000, "22.1 MB"), (2_780_000, "2.78 MB"), (4_200, "4.2 kB"),
                                             (2_100_000_000, "2.1 GB"), (0, "0 kB")])
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert op_counts.size(count) == text


def test_slices_are_as_large_as_their_counts() -> None:
    drawn = _drawn([_variant("a", 5, Const=3, Conv2D=1)])
    large = {each.attrib["class"].split()[0]: re.findall(r" 0 (\d) 1 ", each.attrib["d"].partition("L")[0])
             for each in drawn.iter(f"{SVG}path") if "slice" in each.attrib["class"]}
    assert large == {"op0": ["1"], "op1": ["0"]}  # three quarters take the long way round


def test_an_operation_has_one_colour_and_its_counts_beside_it() -> None:
    drawn = _drawn(_variants())
    texts = _texts(drawn)
    for words in (["Const", "396", "165"], ["Conv2D", "77", "77"], ["BiasAdd", "12", "89"]):
        assert texts[texts.index(words[0]):][:3] == words
    assert texts.count("nodes") == 2
    assert {"1,254", "612", "11 others", "102 MB", "101 MB"} <= set(texts)
    colours = [each.attrib["class"].split()[0] for each in drawn.iter(f"{SVG}path") if "slice" in each.attrib["class"]]
    assert colours[:8] == [f"op{index}" for index in range(8)]


@pytest.mark.parametrize("variants", [
    [], [_variant("nothing", 0)], [_variant("one kind", 5, Const=3)],
    [_variant("a name that is far too long for the place that it has " + "x" * 90, 10 ** 9, **{
        f"Operation{index}WithALongName": 10 ** 6 + index for index in range(20)}) for _ in range(6)]],
    ids=["none", "no operations", "one operation", "six with long names"])
def test_any_variants_can_be_drawn(variants: list[Variant]) -> None:
    drawn = _drawn(variants)
    height = float(drawn.attrib["viewBox"].split()[3])
    for each in drawn.iter(f"{SVG}text"):
        size, wide = float(each.attrib["font-size"]), picture.width_of("".join(each.itertext()),
                                                                        float(each.attrib["font-size"]))
        assert size >= 12
        assert float(each.attrib["y"]) < height
        x = float(each.attrib["x"])
        left = x - wide if each.attrib.get("text-anchor") == "end" else x - wide / 2 if each.attrib.get(
            "text-anchor") else x
        assert left >= 0
        assert left + wide <= picture.WIDTH
    assert len(_texts(drawn)) >= 2 + 2 * len(variants)


def test_the_picture_says_its_figures_in_words() -> None:
    about = _drawn(_variants()).findtext(f"{SVG}desc") or ""
    assert "original: 1,254 nodes, 102 MB; 396 Const, 386 Identity" in about
    assert "optimized: 612 nodes" in about
