"""The class of a CPU: the instructions that decide which kernels of oneDNN, TensorFlow's library, run and how fast.

A ratio of two models holds for one class only, so results, manifests and proof files name it. Needs no TensorFlow.
"""
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

# The flags that decide it, as /proc/cpuinfo names them: x86, then arm64.
FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx_vnni", "avx_vnni_int8", "avx_ne_convert", "avx512f", "avx512_vnni",
         "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16", "sve")
# oneDNN reads the first of these that is set, in any case, when it runs its first kernel.
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")

_AVX2 = ("sse4_2", "avx", "avx2", "fma")
_AVX512 = (*_AVX2, "avx512f")
_BF16 = (*_AVX512, "avx512_vnni", "avx512_bf16")
_FP16 = (*_BF16, "avx512_fp16", "avx_vnni")
_AMX = (*_FP16, "amx_tile", "amx_int8", "amx_bf16")
# The flags that are left under a limit. Other values, such as DEFAULT, limit nothing.
# Source: oneDNN 3.7, src/cpu/x64/cpu_isa_traits.hpp.
_LEFT = {
    "SSE41": ("sse4_2",),
    "AVX": ("sse4_2", "avx"),
    "AVX2": _AVX2,
    "AVX2_VNNI": (*_AVX2, "avx_vnni"),
    "AVX2_VNNI_2": (*_AVX2, "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    "AVX512_CORE": _AVX512,
    "AVX512_CORE_VNNI": (*_AVX512, "avx512_vnni"),
    "AVX512_CORE_BF16": _BF16,
    "AVX512_CORE_FP16": _FP16,
    "AVX10_1_512": _FP16,
    "AVX512_CORE_AMX": _AMX,
    "AVX10_1_512_AMX": _AMX,
}


@dataclass(frozen=True)
class CpuClass:
    """A class of CPU. str() is its whole name, such as "avx512_vnni with bf16": equal names, comparable ratios."""

    name: str  # amx, avx512_vnni, avx512, avx2, arm64; below those the architecture, such as x86_64
    has_bf16: bool  # instructions that multiply bfloat16; without them bfloat16 is slower than float32
    # Instructions that multiply 8-bit integers and add in 32 bits (VNNI, AMX, dot products of arm64). Without them
    # oneDNN adds in 16 bits, which overflow: 8-bit contractions are slower and less accurate.  # decision 175
    has_int8: bool
    runs_bf16: bool  # TensorFlow's bfloat16 contractions run; if not, a convolution fails and a MatMul ends the process
    runs_int8: bool  # TensorFlow's 8-bit contractions run
    forced_by: str | None = None  # the variable that lowers the class, such as "ONEDNN_MAX_CPU_ISA=AVX2"

    def __str__(self) -> str:
        if self.name == "avx2" and self.has_int8:
            return "avx2 with vnni"
        return f"{self.name} with bf16" if self.has_bf16 and self.name != "amx" else self.name


def current() -> CpuClass:
    """The class of this machine's CPU, lowered by ONEDNN_MAX_CPU_ISA if that is set."""
    return of(flags(), platform.machine(), os.environ)


def of(flags: Collection[str], machine: str, environment: Mapping[str, str]) -> CpuClass:
    """The class of a CPU with these flags.

    machine: as platform.machine() names it. environment: the variables that the process with the model will have.
    """
    whole = _of(frozenset(flags), machine)
    limit = next((f"{name}={environment[name]}" for name in LIMITS if environment.get(name)), "")
    left = _LEFT.get(limit.partition("=")[2].upper())
    if left is None or whole.name == "arm64":
        return whole
    lowered = _of(frozenset(flags) & frozenset(left), machine)
    if "avx512f" in flags and "avx512f" not in left:
        # TensorFlow asks the CPU whether to hand bfloat16 to oneDNN, which then refuses under this limit.
        lowered = replace(lowered, runs_bf16=False)
    return whole if lowered == whole else replace(lowered, forced_by=limit)


def flags() -> frozenset[str]:
    """The flags of this machine's CPU; none where there is no /proc/cpuinfo."""
    return frozenset((cpuinfo("flags") or cpuinfo("Features") or "").split())  # x86, arm64


def cpuinfo(key: str) -> str | None:
    """The first value of a key in /proc/cpuinfo, such as "model name"."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _of(flags: frozenset[str], machine: str) -> CpuClass:
    if machine.lower() in ("aarch64", "arm64"):
        # TensorFlow's packages for arm64 were not tried with 8-bit contractions.
        return CpuClass("arm64", "bf16" in flags, bool(flags & {"i8mm", "asimddp"}), True, False)
    name = next((name for flag, name in (("amx_tile", "amx"), ("avx512_vnni", "avx512_vnni"), ("avx512f", "avx512"),
                                         ("avx2", "avx2")) if flag in flags), machine)
    # Without AVX-512, TensorFlow computes bfloat16 with its own slow kernels.
    return CpuClass(name, bool(flags & {"avx512_bf16", "amx_bf16"}),
                    bool(flags & {"avx512_vnni", "amx_int8", "avx_vnni"}), True, "sse4_2" in flags)
