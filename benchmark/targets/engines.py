"""The engines that can run a version: what each needs to be measured, and how a server is told to use it."""
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from other_engines import ENGINES, LITERT, OPENVINO, OTHER_ENGINES
from user_error import UserError
from version_directory import read_manifest

# The flag by which a server is told to use an engine. TensorFlow Serving knows the first, and ignores the second (see
# `Instance.wait`).
_FLAGS = {LITERT.name: "--prefer_tflite_model", OPENVINO.name: "--engine=openvino"}


def named(text: str) -> tuple[str, str]:
    """`variant@engine` -> (variant, engine); the engine is "" if none is named. Raises UserError for an unknown one."""
    variant, at, engine = text.rpartition("@")
    if not at:
        return text, ""
    if "@" in variant:
        raise UserError(f"'{text}' has two '@', and the name of a variant has none: VARIANT@ENGINE, such as "
                        "optimized@litert")
    if engine not in ENGINES:
        raise UserError(f"no engine '{engine}' in '{text}': choose from {', '.join(ENGINES)}, as in "
                        f"{variant or 'optimized'}@litert")
    return variant, engine


def flags(engine: str) -> tuple[str, ...]:
    """The flags that make a server use the engine: none for TensorFlow, which every server uses."""
    return (_FLAGS[engine],) if engine in _FLAGS else ()


def refuse_unable(text: str, engine: str, here: bool, version: Path, signature: str) -> None:
    """Raises UserError, before anything is started, if the engine cannot run the version's signature.

    Args:
        text: what the user typed; here: whether this project's packages run the engine, and no container or binary.
    """
    beside = OTHER_ENGINES.get(engine)
    if beside is None:
        return
    if here and (why := beside.why_missing()):
        raise UserError(f"{text}: {why}")
    if not (version / beside.file).is_file():
        source, to = version.parent.with_name("original"), version.parent
        # An original keeps what was trained; what is made from it goes beside.
        to = to.with_name("optimized") if to == source else to
        raise UserError(f"{version} has no {beside.file}, which {engine} runs: make a version that has it with 'python "
                        f"-m export optimize {source if source.is_dir() else 'SOURCE'} --to {to} --engine {engine}'")
    reason = _left(engine, version).get(signature)
    if reason is not None:
        raise UserError(f"{engine} does not run signature '{signature}' of {version}: {reason}; name another with "
                        f"--signature, or measure {text.rpartition('@')[0]}")


def stated(engine: str, version: Path) -> dict[str, Any]:
    """What the version's manifest says of itself as the engine runs it; nothing if it has no readable manifest."""
    manifest = read_manifest(version) or {}
    if engine not in OTHER_ENGINES:
        return manifest
    found = manifest.get("engines")
    own = found.get(engine) if isinstance(found, dict) else None
    return own if isinstance(own, dict) else {}


def files(engine: str, version: Path) -> Sequence[Path] | None:
    """The files that the engine runs; None for TensorFlow, which runs the version."""
    if engine not in OTHER_ENGINES:
        return None
    file = version / OTHER_ENGINES[engine].file
    return [file] if engine == LITERT.name else sorted(path for path in file.parent.iterdir() if path.is_file())


def _left(engine: str, version: Path) -> dict[str, str]:
    """The signatures that are not converted, with the reasons."""
    found = stated(engine, version)
    if engine == OPENVINO.name:
        # The server follows this file, also in a version that has no manifest.
        listing = version / OPENVINO.file
        try:
            found = json.loads(listing.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{listing} cannot be read ({error}): make the version again with "
                            "'python -m export optimize ... --engine openvino'") from None
    left = found.get("left") if isinstance(found, dict) else None
    return left if isinstance(left, dict) else {}
