"""What an engine does with a file of a version that was cut or altered: loaded and asked in a child process.

    outcomes("litert", version, "model.tflite", range(300), seed=1)  ->  {"refused": 140, "same": 120, ...}

The child ends if the file ends it; the next one goes on with the next case.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FLAGS: Mapping[str, str] = {"litert": "--prefer_tflite_model", "openvino": "--engine=openvino"}
KINDS = ("byte", "cut", "removed", "repeated")
_BATCHES = (1, 3, 16)


def altered(content: bytes, seed: int, case: int) -> tuple[str, bytes]:
    """The content as the case's number says: three of four have another byte, the rest is cut, or lost or doubled."""
    random = np.random.default_rng([seed, case])
    kind = KINDS[1 + case // 4 % 3] if case % 4 == 3 else KINDS[0]
    at = int(random.integers(len(content)))
    length = int(random.integers(1, max(len(content) // 4, 2)))
    if kind == "byte":
        return kind, content[:at] + bytes([content[at] ^ int(random.integers(1, 256))]) + content[at + 1:]
    if kind == "cut":
        return kind, content[:at]
    return kind, content[:at] + (content[at + length:] if kind == "removed" else
                                 content[max(at - length, 0):at] + content[at:])


def outcomes(engine: str, version: Path, file: str, cases: range, seed: int) -> dict[str, Any]:
    """How often each outcome was seen, and which cases ended the process: (case, kind, outcome).

    file: of the version, by its path within it. Outcomes: "refused" (not loaded), "not ready" (its first run fails),
    "requests fail", "same answers", "other answers", "ended by SIGNAL".
    """
    found: list[tuple[int, str, str]] = []
    with tempfile.TemporaryDirectory() as work:
        while len(found) < len(cases):
            command = [sys.executable, __file__, engine, str(version), file, str(seed),
                       str(cases.start + len(found)), str(cases.stop), work]
            before = len(found)
            child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            found += [tuple(json.loads(line)) for line in child.stdout.splitlines()]
            assert child.returncode <= 0, child.stderr
            if len(found) < len(cases):
                case = cases.start + len(found)
                kind = altered((version / file).read_bytes(), seed, case)[0]
                found.append((case, kind, f"ended by {-child.returncode}"))
            assert len(found) > before
    return {"cases": len(found), "outcomes": dict(sorted(Counter(outcome for *_, outcome in found).items())),
            "ended": [row for row in found if row[2].startswith("ended")]}


def state_checksum(version: Path, engine: str, file: str) -> None:
    """Writes the checksum of a version's file into its manifest, as the export does."""
    import hashlib
    manifest = version / "assets.extra" / "manifest.json"
    manifest.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256((version / file).read_bytes()).hexdigest()
    manifest.write_text(json.dumps({"engines": {engine: {"sha256": {file: digest}}}}))


def _answers(model: Any) -> list[Any]:
    signature = model.signatures["serving_default"]
    random = np.random.default_rng(7)
    answers = []
    for batch in _BATCHES:
        values = [random.standard_normal((batch, *spec.shape[1:])).astype(np.float32)
                  for spec in signature.inputs.values()]
        answers += model.run([spec.name for spec in signature.inputs.values()], values,
                             [spec.name for spec in signature.outputs.values()])
    return answers


def _outcome(engines: Any, path: Path, expected: Sequence[Any]) -> str:
    from serving.errors import ServingError
    try:
        model = engines.load("m", 1, path)
        model.try_out()
    except ServingError:
        return "refused"
    if not model.answers:
        return "not ready"
    try:
        answers = _answers(model)
    except (ServingError, KeyError, TypeError):  # its signature may have other names or no shape
        return "requests fail"
    same = len(answers) == len(expected) and all(map(_equal, answers, expected))
    return "same answers" if same else "other answers"


def _equal(one: Any, two: Any) -> bool:
    return one.shape == two.shape and np.allclose(one, two, atol=1e-6, equal_nan=True)


def _main(engine: str, version: Path, file: str, seed: int, first: int, end: int, work: Path) -> None:
    from serving.config import parse_flags
    from serving.engines.choice import Engines
    from serving.memory import MemoryLimit
    engines = Engines(parse_flags(["--model_name=m", f"--model_base_path={version.parent}", FLAGS[engine]]),
                      MemoryLimit())
    content = (version / file).read_bytes()
    expected = _answers(engines.load("m", 1, version))
    path = work / "1"
    for case in range(first, end):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(version, path)
        kind, changed = altered(content, seed, case)
        (path / file).write_bytes(changed)
        print(json.dumps((case, kind, _outcome(engines, path, expected))), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:7]), Path(sys.argv[7]))
