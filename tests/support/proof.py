"""Long proofs: the full number of cases that the project claims, written row by row to docs/proof/NAME.json.

A row that is in the file is not measured again, so a run that was stopped can be resumed. It is measured again when
the code that it depends on has changed.
"""
import ast
import hashlib
import json
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cpu_class

ROOT = Path(__file__).resolve().parents[2]
_HAS_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Proof:
    """docs/proof/NAME.json: {"command", "seed", "rows": {KEY: {"commit", "code", "measured", "cpu_class",
    ...figures}}}.

    `about`: the folders and files whose content the figures depend on, from the project's root.
    """

    def __init__(self, name: str, seed: int, about: Sequence[str], command: str = "") -> None:
        self.path = ROOT / "docs" / "proof" / f"{name}.json"
        self.code = _digest(about)
        self.content: dict[str, Any] = {"command": command or f"make proof ONLY={name}", "seed": seed, "rows": {}}
        if self.path.exists():
            self.content["rows"] = json.loads(self.path.read_text())["rows"]

    def row(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The figures of one row: from the file if the code is the same; otherwise measured and saved."""
        rows = self.content["rows"]
        if rows.get(key, {}).get("code") != self.code:
            self.save(key, measure())
        return dict(rows[key])

    def save(self, key: str, figures: dict[str, Any]) -> None:
        """Writes the figures of a row, with what they were measured on."""
        rows = self.content["rows"]
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True,
                                check=True).stdout.strip()
        measured = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
        rows[key] = {"commit": commit, "code": self.code, "measured": measured,
                     "cpu_class": str(cpu_class.current()), **figures}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1, sort_keys=True) + "\n")
        partial.replace(self.path)


def _digest(about: Sequence[str]) -> str:
    """A digest of the code without comments, docstrings and layout, since no figure depends on those."""
    missing = [name for name in about if not (ROOT / name).exists()]
    assert not missing, missing
    files = [path for name in about
             for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*.py"))]
    whole = hashlib.sha256()
    for path in sorted(files):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, _HAS_DOCSTRING) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        whole.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + ast.dump(tree).encode() + b"\0")
    return whole.hexdigest()[:16]
