"""Says in one line that a version was chosen on another class of CPU than this one, and what that means.

    python3 -m serving.chosen_elsewhere BASE_PATH [MODEL]     prints the line about the newest version, or nothing

Needs the standard library only, so that tfserving.sh can use it without the project's packages.
"""
import sys
from pathlib import Path

import cpu_class
from cpu_class import CpuClass
from user_error import UserError
from version_directory import newest, read_manifest

# The kinds of contractions in a version, by the manifest's "precision".
_KINDS = {"bfloat16": ("bfloat16",), "int8": ("int8",), "mixed": ("int8", "bfloat16")}
# Classes without instructions for int8: what is made there has weights of seven bits, which overflow nowhere.
_SEVEN_BITS = ("avx2", "avx512")  # decision 194
_AGAIN = "optimize it on this machine (python -m export optimize ... --precision auto)"


def sentence(version: str, precision: str, there: str, here: CpuClass) -> str | None:
    """What to say about a version (such as "mnist/3") whose manifest names its precision and a class of CPU.

    there: str() of the class on which it was chosen. None if this CPU is of the same class.
    """
    if there == str(here):
        return None
    forced = f" ({here.forced_by})" if here.forced_by else ""
    meaning = next((found for kind in _KINDS.get(precision, ()) if (found := _trouble(kind, there, here))),
                   f"{precision} runs here, but another precision may be faster here")
    return f"{version} was chosen on {there}; this CPU is {here}{forced}: {meaning}; {_AGAIN}"


def of_version(name: str, path: Path) -> str | None:
    """The line about a version directory of the model `name`; None if there is nothing to say."""
    manifest = read_manifest(path) or {}
    precision, there = manifest.get("precision"), manifest.get("cpu_class")
    if not isinstance(precision, str) or not isinstance(there, str):
        return None
    return sentence(f"{name}/{path.name}", precision, there, cpu_class.current())


def _trouble(kind: str, there: str, here: CpuClass) -> str | None:
    """What a CPU of this class lacks for contractions of a kind; None if it has instructions for them."""
    if kind == "int8":
        if not here.runs_int8:
            return "int8 kernels of oneDNN are not there, so it will not load or not answer"
        if not here.has_int8:
            overflow = "" if there in _SEVEN_BITS else ", and sums may overflow, so its answers may be wrong"
            return f"int8 has no instructions here: slower than float32 is likely{overflow}"
        return None
    if not here.runs_bf16:
        return "bfloat16 does not run here: requests fail or end the server"
    return None if here.has_bf16 else "bfloat16 has no instructions here: slower than float32 is likely"


if __name__ == "__main__":
    base, name = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else Path(sys.argv[1]).parent.name
    try:
        version = newest(base)
        if version and (line := of_version(name, version)):
            print(line)
    except (OSError, UserError) as error:
        sys.exit(f"error: {error}")
