"""chosen_elsewhere: the line about a version that was chosen on another class of CPU than the one that it runs on."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cpu_class
from serving.chosen_elsewhere import of_version, sentence

AVX2 = cpu_class.of(["sse4_2", "avx", "avx2"], "x86_64", {})
AVX512 = cpu_class.of(["sse4_2", "avx", "avx2", "avx512f"], "x86_64", {})
VNNI = cpu_class.of(["sse4_2", "avx", "avx2", "avx512f", "avx512_vnni"], "x86_64", {})
BF16 = cpu_class.of(["sse4_2", "avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"], "x86_64", {})
FORCED = cpu_class.of(["sse4_2", "avx", "avx2", "avx512f"], "x86_64", {"ONEDNN_MAX_CPU_ISA": "AVX2"})
AMX = cpu_class.of(["sse4_2", "avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"], "x86_64", {})
ARM = cpu_class.of(["asimddp"], "aarch64", {})


@pytest.mark.parametrize(("precision", "there", "here", "words"), [
    ("int8", "amx", AVX2, "this CPU is avx2: int8 has no instructions here: slower than float32 is likely, and sums "
                          "may overflow, so its answers may be wrong; optimize it on this machine"),
    ("int8", "avx2 with vnni", AVX512, "likely, and sums may overflow, so its answers may be wrong"),
    ("int8", "avx512", AVX2, "int8 has no instructions here: slower than float32 is likely; optimize"),
    ("int8", "avx2", AVX512, "int8 has no instructions here: slower than float32 is likely; optimize"),
    ("int8", "amx", AVX512, "this CPU is avx512: int8 has no instructions here"),
    ("int8", "amx", ARM, "this CPU is arm64: int8 kernels of oneDNN are not there, so it will not load or not answer"),
    ("int8", "amx", BF16, "int8 runs here, but another precision may be faster here"),
    ("int8", "avx512_vnni", AMX, "this CPU is amx: int8 runs here, but another precision"),
    ("bfloat16", "amx", VNNI, "this CPU is avx512_vnni: bfloat16 has no instructions here: slower than float32 is "
                              "likely; optimize it on this machine (python -m export optimize ... --precision auto)"),
    ("bfloat16", "amx", FORCED, "this CPU is avx2 (ONEDNN_MAX_CPU_ISA=AVX2): bfloat16 does not run here: requests fail "
                                "or end the server"),
    ("bfloat16", "amx", BF16, "bfloat16 runs here, but another precision may be faster here"),
    ("mixed", "amx", AVX2, "int8 has no instructions here"),
    ("mixed", "amx", VNNI, "bfloat16 has no instructions here"),
    ("mixed", "amx", BF16, "mixed runs here, but another precision may be faster here"),
    ("float32", "avx2", AMX, "float32 runs here, but another precision may be faster here")])
def test_the_line_says_what_another_class_means(precision: str, there: str, here: cpu_class.CpuClass,
                                                words: str) -> None:
    line = sentence("mnist/3", precision, there, here)
    assert line is not None
    assert line.startswith(f"mnist/3 was chosen on {there}; this CPU is {here}")
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize("precision", ["int8", "bfloat16", "mixed", "float32"])
def test_nothing_is_said_on_the_same_class(precision: str) -> None:
    assert sentence("mnist/3", precision, "avx512_vnni with bf16", BF16) is None
    assert sentence("mnist/3", precision, "avx2", FORCED) is None


def _version(directory: Path, manifest: str) -> Path:
    version = directory / "mnist" / "fastest" / "3"
    (version / "assets.extra").mkdir(parents=True)
    (version / "saved_model.pb").touch()
    (version / "assets.extra" / "manifest.json").write_text(manifest)
    return version


@pytest.mark.parametrize("manifest", ["{}", "no JSON", '{"precision": "int8"}', '{"cpu_class": "amx"}',
                                      '{"precision": 8, "cpu_class": ["amx"]}'])
def test_a_manifest_without_class_or_precision_says_nothing(manifest: str, tmp_path: Path) -> None:
    assert of_version("mnist", _version(tmp_path, manifest)) is None


def test_a_version_without_a_manifest_says_nothing(tmp_path: Path) -> None:
    assert of_version("mnist", tmp_path) is None


@pytest.mark.parametrize(("there", "lines"), [("another class", 1), (str(cpu_class.current()), 0)])
def test_as_a_command_it_needs_the_standard_library_only(there: str, lines: int, tmp_path: Path) -> None:
    version = _version(tmp_path, json.dumps({"precision": "bfloat16", "cpu_class": there}))
    done = subprocess.run([sys.executable, "-S", "-m", "serving.chosen_elsewhere", str(version.parent), "mnist"],
                          capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == lines
    if lines:
        assert done.stdout.startswith("mnist/3 was chosen on another class; this CPU is ")
