"""cpu_class: the class of a CPU from its flags, lowered by oneDNN's variable, and what it runs."""
import platform
import subprocess
import sys

import pytest

import cpu_class

AVX2 = ["sse4_2", "avx", "avx2", "fma"]
AVX512 = [*AVX2, "avx512f"]
VNNI = [*AVX512, "avx512_vnni"]
BF16 = [*VNNI, "avx_vnni", "avx512_bf16"]
AMX = [*BF16, "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"]


@pytest.mark.parametrize(("flags", "machine", "text", "has_bf16", "has_int8"), [
    (AMX, "x86_64", "amx", True, True),
    (BF16, "x86_64", "avx512_vnni with bf16", True, True),
    (VNNI, "AMD64", "avx512_vnni", False, True),
    (AVX512, "x86_64", "avx512", False, False),
    ([*AVX2, "avx_vnni"], "x86_64", "avx2 with vnni", False, True),
    (AVX2, "x86_64", "avx2", False, False),
    (["sse4_2", "avx"], "x86_64", "x86_64", False, False),
    (["asimd", "asimddp", "i8mm", "bf16"], "aarch64", "arm64 with bf16", True, True),
    (["asimd", "asimddp"], "aarch64", "arm64", False, True),
    ([], "arm64", "arm64", False, False)])
def test_the_class_is_read_from_the_flags(flags: list[str], machine: str, text: str, has_bf16: bool,
                                          has_int8: bool) -> None:
    found = cpu_class.of(flags, machine, {})
    assert (str(found), found.has_bf16, found.has_int8) == (text, has_bf16, has_int8)
    assert found.forced_by is None


@pytest.mark.parametrize(("flags", "limit", "text"), [
    (AMX, "AVX512_CORE_AMX", "amx"),
    (AMX, "AVX10_1_512", "avx512_vnni with bf16"),
    (AMX, "avx512_core_bf16", "avx512_vnni with bf16"),
    (AMX, "AVX512_CORE_VNNI", "avx512_vnni"),
    (BF16, "AVX512_CORE_AMX", "avx512_vnni with bf16"),
    (BF16, "Avx512_Core", "avx512"),
    (BF16, "AVX2_VNNI", "avx2 with vnni"),
    (VNNI, "AVX2_VNNI", "avx2"),
    (BF16, "AVX2", "avx2"),
    (BF16, "SSE41", "x86_64")])
def test_the_variable_of_onednn_lowers_the_class(flags: list[str], limit: str, text: str) -> None:
    found = cpu_class.of(flags, "x86_64", {"ONEDNN_MAX_CPU_ISA": limit})
    assert str(found) == text
    lowered = text != str(cpu_class.of(flags, "x86_64", {}))
    assert found.forced_by == (f"ONEDNN_MAX_CPU_ISA={limit}" if lowered else None)


@pytest.mark.parametrize("environment", [{"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, {"ONEDNN_MAX_CPU_ISA": "AVX3"},
                                         {"ONEDNN_MAX_CPU_ISA": ""}, {"OMP_NUM_THREADS": "1"}])
def test_a_value_that_onednn_does_not_know_changes_nothing(environment: dict[str, str]) -> None:
    assert cpu_class.of(BF16, "x86_64", environment) == cpu_class.of(BF16, "x86_64", {})


def test_onednns_old_variable_counts_where_the_new_one_is_not_set() -> None:
    assert str(cpu_class.of(AMX, "x86_64", {"DNNL_MAX_CPU_ISA": "AVX2"})) == "avx2"
    both = {"DNNL_MAX_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    assert str(cpu_class.of(AMX, "x86_64", both)) == "avx512"


def test_bfloat16_does_not_run_where_avx512_is_forced_away() -> None:
    assert not cpu_class.of(VNNI, "x86_64", {"ONEDNN_MAX_CPU_ISA": "AVX2"}).runs_bf16
    assert cpu_class.of(AVX2, "x86_64", {}).runs_bf16
    assert cpu_class.of(AMX, "x86_64", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}).runs_bf16


def test_8_bit_contractions_run_on_every_x86_class_with_or_without_instructions_for_them() -> None:
    assert cpu_class.of(AVX2, "x86_64", {}).runs_int8
    assert not cpu_class.of(["asimddp"], "aarch64", {}).runs_int8


def test_the_limit_does_not_concern_arm64() -> None:
    assert cpu_class.of(["asimddp"], "aarch64", {"ONEDNN_MAX_CPU_ISA": "AVX2"}).forced_by is None


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or platform.system() != "Linux",
                    reason="reads /proc/cpuinfo of an x86 CPU")
def test_this_machine_has_a_class_and_can_be_forced_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert "sse4_2" in cpu_class.flags()
    assert cpu_class.current().forced_by is None
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert str(cpu_class.current()) == platform.machine()


def test_it_imports_no_tensorflow_and_no_numpy() -> None:
    subprocess.run([sys.executable, "-c", "import cpu_class, sys\ncpu_class.current()\n"
                    "assert not {'numpy', 'tensorflow', 'psutil'} & sys.modules.keys()"], check=True)
