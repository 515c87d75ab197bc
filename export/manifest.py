"""assets.extra/manifest.json: a version's source, how it was made, and how equal it is. Needs no TensorFlow."""
import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from version_directory import MANIFEST, read_manifest, versions

RANDOM = "random"
ROOT = Path(__file__).resolve().parent.parent


def recipe(
        configuration: Mapping[str, Any], code: Iterable[Path], source: str | None = None) -> dict[str, Any]:
    """Everything that determines a version's content; equal recipes give interchangeable versions.

    configuration: the options that affect it, JSON values only. code: the source files that make the version.
    source: the digest of the source model (see `digest`), None if it is made from data alone.
    """
    made_from = {
        "source": source,
        "code": _digest_files(sorted(code), ROOT),
        "configuration": dict(configuration),
        "versions": {name: installed(name) for name in ("tensorflow", "keras", "numpy")},
    }
    # In the form in which it will be read back: a tuple becomes a list.
    return dict(json.loads(json.dumps(made_from)))


def digest(path: Path) -> str:
    """SHA-256 over the names and contents of a file or directory, except for the manifest."""
    if path.is_file():
        return _digest_files([path], path.parent)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.relative_to(path) != MANIFEST)
    return _digest_files(files, path)


def read(version: Path) -> dict[str, Any] | None:
    """A version's manifest; None if it has no readable one."""
    return read_manifest(version)


def write(version: Path, made_from: Mapping[str, Any], **facts: Any) -> None:
    target = version / MANIFEST
    target.parent.mkdir(exist_ok=True)
    content = {"tool": "tfserving-kit", **facts, "recipe": made_from}
    target.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def reusable(base: Path, wanted: Mapping[str, Any]) -> Path | None:
    """The newest version of `base`, if it was made by the recipe `wanted`; else None."""
    newest = next(reversed(versions(base).values()), None)
    found = read(newest) if newest else None
    return newest if found and found.get("recipe") == wanted else None


def weights_are_random(version: Path) -> bool:
    """Whether the manifest says that nothing was trained: `build` says it, and what is made from such a version."""
    found = read_manifest(version) or {}
    return RANDOM in (found.get("weights"), (found.get("facts") or {}).get("weights"))


def _digest_files(files: Iterable[Path], root: Path) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        total.update(f"{file.relative_to(root)}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"
