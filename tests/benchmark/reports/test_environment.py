"""The conditions that a result is stored with: the class of CPU in them, and in what a reader sees."""
import json
from pathlib import Path
from typing import Any

import pytest

import cpu_class
from benchmark.reports import several
from benchmark.reports.environment import cpu_model, described_class, environment

STORED = json.loads((Path(__file__).with_name("data") / "compare.json").read_text())


def test_the_class_and_the_variable_that_forces_it_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    recorded = environment()
    assert recorded["cpu_class"] == str(cpu_class.current())
    assert recorded["cpu_class_forced_by"] == cpu_class.current().forced_by
    assert recorded["variables"]["ONEDNN_MAX_CPU_ISA"] == "SSE41"


@pytest.mark.parametrize(("lines", "name"), [
    ({"model name": "AMD EPYC", "cpu family": "25", "model": "17"}, "AMD EPYC (family 25, model 17)"),
    ({"model name": "Intel(R) Xeon(R)"}, "Intel(R) Xeon(R)")])
def test_a_cpu_is_named_with_its_family_and_model(lines: dict[str, str], name: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_class, "cpuinfo", lines.get)
    assert cpu_model() == name


def _with(**conditions: Any) -> Any:
    return {**STORED, "environment": {**STORED["environment"], **conditions}}


def test_results_of_two_classes_are_said_to_differ() -> None:
    forced = _with(cpu_class="avx2", cpu_class_forced_by="ONEDNN_MAX_CPU_ISA=AVX2", cpu_flags=["avx2"])
    assert described_class(forced["environment"]) == "avx2, forced by ONEDNN_MAX_CPU_ISA=AVX2"
    found = several.differences(["a", "b"], [_with(cpu_class="amx", cpu_flags=[]), forced])
    assert "b differs from a in the class of CPU: avx2, forced by ONEDNN_MAX_CPU_ISA=AVX2 instead of amx" in found


def test_an_older_result_of_the_same_class_does_not_differ() -> None:
    flags = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]
    old, new = (_with(cpu_class=name, cpu_flags=flags) for name in ("avx512_vnni", "avx512_vnni with bf16"))
    assert not [line for line in several.differences(["a", "b"], [old, new]) if "class" in line]
