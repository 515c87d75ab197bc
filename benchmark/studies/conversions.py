"""A version as other engines run it: ONNX Runtime, Intel Neural Compressor's int8, AMD's zenTF.

    made = to_onnx(version, models / "mnist" / "onnx")
    if isinstance(made, str): ...                       # why it does not run, in one line
    target = made.target("ONNX Runtime", "mnist")

What is converted becomes a version of its own beside the others, whole or not at all, and is kept as long as it is of
the same source. Nothing here imports TensorFlow: each step is a child process.
"""
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from benchmark.reports.environment import digest
from benchmark.studies.environments import LISTS, environment, finish
from benchmark.targets.child import python_module
from benchmark.targets.export_command import export
from benchmark.targets.in_process import signatures
from benchmark.targets.target import Target
from commandline import step
from serving.client import payloads
from serving.client.payloads import Arrays, specs_of
from serving.client.protocol import DEFAULT_SIGNATURE
from user_error import FailedError, UserError
from version_directory import EXTRA, MANIFEST, ONNX, SAMPLES, model_file, newest, versions

VENVS = Path("reports/studies/venvs")
# Of which source, and how, a version was converted.
RECORD = Path(EXTRA, "conversion.json")
# The newest set of operations that tf2onnx 1.17 writes.
OPSET = 18
# Both as AMD's guide states: zenTF's operations on, oneDNN's off.
ZENTF = (("TF_ENABLE_ZENDNN_OPTS", "1"), ("TF_ENABLE_ONEDNN_OPTS", "0"))
# The answers to other requests are a little further off than the worst that was seen; as `optimize --precision` has it.
_MARGIN = 2.0
_EXAMPLES = 100
P = ParamSpec("P")


@dataclass(frozen=True)
class Runs:
    """How a target runs it: its base path and fields of `Target`. `facts`: what is to be said of the conversion."""

    base_path: Path
    kind: str = ""
    env: tuple[tuple[str, str], ...] = ()
    python: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def target(self, name: str, model: str, **fields: Any) -> Target:
        """In process, without a server."""
        return Target(name, model, "session", self.base_path, kind=self.kind, env=self.env, python=self.python,
                      **fields)


def _or_reason(convert: Callable[P, Runs]) -> Callable[P, Runs | str]:
    @wraps(convert)
    def found(*args: P.args, **kwargs: P.kwargs) -> Runs | str:
        try:
            return convert(*args, **kwargs)
        except UserError as error:
            return str(error)
    return found


@_or_reason
def to_onnx(source: Path, base: Path, signature: str = DEFAULT_SIGNATURE) -> Runs:
    """The version `source` for ONNX Runtime: a version of `base` with assets.extra/model.onnx, made by tf2onnx from
    the graph that `python -m export freeze` makes; or why it does not run."""
    recipe = {"source": digest(source), "signature": signature, "tool": "tf2onnx", "opset": OPSET}
    definition = signatures.read(source, signature)

    def fill(version: Path, scratch: Path) -> None:
        frozen = _frozen(source, signature, scratch)
        (version / EXTRA).mkdir(exist_ok=True)
        finish("tf2onnx", python_module(
            "tf2onnx.convert", "--graphdef", str(frozen), "--opset", str(OPSET), "--inputs", _names(definition.inputs),
            "--outputs", _names(definition.outputs), "--output", str(version / ONNX)))
        _link(source, version)
    _kept_or_made(base, recipe, f"Convert {source} for ONNX Runtime", fill)
    return Runs(base, "onnxruntime", facts={"opset": OPSET})


@_or_reason
def neural_compressor(source: Path, base: Path, samples: Arrays | None = None, signature: str = DEFAULT_SIGNATURE,
                      venvs: Path = VENVS) -> Runs:
    """The version `source` in int8 by Intel Neural Compressor, a SavedModel that the stock runtime runs: a version of
    `base`; or why it does not run.

    samples: examples by input key, from which its ranges are; None: the version's own, or random ones. The manifest
    states the error that was seen on them, twice, as the budget of its answers: as for this project's own int8.
    """
    definition = signatures.read(source, signature)
    feeds = _samples(source, definition, samples)
    recipe = {"source": digest(source), "signature": signature, "tool": _pins("neural_compressor"),
              "samples": {key: [list(array.shape), float(np.sum(array)) if array.dtype.kind in "fiu" else None]
                          for key, array in feeds.items()}}

    def fill(version: Path, scratch: Path) -> None:
        python, said = environment("neural_compressor", venvs), scratch / "signature.pb"
        frozen = _frozen(source, signature, scratch)
        said.write_bytes(definition.SerializeToString())
        finish("Intel Neural Compressor", [
            str(python), "-m", "benchmark.targets.in_process.neural_compressor", str(frozen), str(said),
            str(_written(feeds, scratch)), "--to", str(version.resolve()), "--name", signature],
            cwd=scratch)
        (version / EXTRA).mkdir(exist_ok=True)
        facts = version / EXTRA / "int8.json"
        (version / "int8.json").rename(facts)
        errors = json.loads(facts.read_text())["errors"]
        (version / MANIFEST).write_text(json.dumps({"precision": "int8", "budget": {"signatures": {
            signature: {key: _MARGIN * error for key, error in errors.items()}}}}))
        if (source / SAMPLES).is_file():
            _hard_link(source / SAMPLES, version / SAMPLES)
    version = _kept_or_made(base, recipe, f"Quantize {source} by Intel Neural Compressor", fill)
    return Runs(base, facts=json.loads((version / EXTRA / "int8.json").read_text()))


@_or_reason
def zentf(source: Path, samples: Arrays | None = None, signature: str = DEFAULT_SIGNATURE, venvs: Path = VENVS) -> Runs:
    """The version `source` by TensorFlow with AMD's zenTF, in an environment of its own; or why it does not run.

    It is run once, and its operations are looked at: TensorFlow says nothing if it uses none of zenTF's.
    """
    feeds = _samples(source, signatures.read(source, signature), samples)
    python = environment("zentf", venvs)
    with step(f"Look whether zenTF runs {source}"), tempfile.TemporaryDirectory() as scratch:
        traced = Path(scratch, "traced.json")
        with traced.open("wb") as out:
            finish("TensorFlow with zenTF", [
                str(python), "-m", "benchmark.targets.in_process.trace", str(source), "--samples",
                str(_written(feeds, Path(scratch))), "--runs", "1", "--signature", signature, "--timeline",
                str(Path(scratch, "timeline.json"))], dict(ZENTF), stdout=out)
        counts = {each["op"]: int(each["count"]) for each in json.loads(traced.read_text())[0]["operations"]}
    own = {op: count for op, count in counts.items() if op.startswith("_Zen")}
    if not own:
        raise FailedError(f"none of the {sum(counts.values())} operations of {source} is one of zenTF's")
    return Runs(source.parent, env=ZENTF, python=str(python), facts={"operations": own})


def _frozen(source: Path, signature: str, scratch: Path) -> Path:
    frozen = scratch / "frozen.pb"
    export("freeze", str(source), "--signatures", signature, "--out", str(frozen))
    return frozen


def _names(tensors: Mapping[str, Any]) -> str:
    """The tensors' names, each once, without entries of no type, such as TF2's initialiser."""
    return ",".join(dict.fromkeys(tensor.name for _, tensor in sorted(tensors.items()) if tensor.dtype))


def _samples(version: Path, definition: Any, given: Arrays | None) -> dict[str, Any]:
    """At most 100 examples by input key: the given ones, the version's own, or random ones."""
    specs = specs_of(definition.inputs)
    arrays = given
    if arrays is None and (version / SAMPLES).is_file():
        arrays = payloads.load_samples(version / SAMPLES)
    if arrays is None or not set(specs) <= set(arrays):
        arrays = payloads.make(specs, 8, 0)
    return {key: np.asarray(arrays[key])[:_EXAMPLES] for key in specs}


def _written(feeds: Arrays, scratch: Path) -> Path:
    file = scratch / "samples.npz"
    with file.open("wb") as out:
        payloads.save_samples(out, feeds)
    return file


def _pins(name: str) -> str:
    return (LISTS / f"{name}.txt").read_text(encoding="utf-8")


def _kept_or_made(base: Path, recipe: Mapping[str, Any], title: str,
                  fill: Callable[[Path, Path], None]) -> Path:  # decision 227
    """The newest version of `base` if it was made by this recipe; else a new one, filled by `fill(version, a folder
    for what is not kept)`."""
    found = newest(base)
    if found is not None:
        with suppress(OSError, ValueError):
            if json.loads((found / RECORD).read_text(encoding="utf-8")) == recipe:
                return found
    with step(title), _staged(base) as version, tempfile.TemporaryDirectory() as scratch:
        fill(version, Path(scratch))
        (version / RECORD).write_text(json.dumps(recipe, indent=2))
    return base / version.name


@contextmanager
def _staged(base: Path) -> Iterator[Path]:
    """An empty directory that becomes the next version of `base` if the block ends without an error."""
    base.parent.mkdir(parents=True, exist_ok=True)
    number = max(versions(base), default=0) + 1
    staging = Path(tempfile.mkdtemp(prefix=f".{base.name}.part-", dir=base.parent))
    try:
        filled = staging / str(number)
        filled.mkdir()
        yield filled
        base.mkdir(exist_ok=True)
        filled.rename(base / str(number))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _link(source: Path, version: Path) -> None:
    """The files of the model, and its samples: not what describes it, nor the files of other engines."""
    own = [file for file in source.rglob("*") if file.is_file() and EXTRA not in file.relative_to(source).parts
           and (file.suffix != ".tflite")]
    assert model_file(source) in own
    for file in (*own, *(file for file in [source / SAMPLES] if file.is_file())):
        _hard_link(file, version / file.relative_to(source))


def _hard_link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _by_zentf(source: Path, _: Path) -> Runs | str:
    return zentf(source)


# By name: (version, base path for what is made) -> how a target runs it, or why it does not run.
TOOLS: Mapping[str, Callable[[Path, Path], Runs | str]] = {
    "onnx": to_onnx, "neural-compressor": neural_compressor, "zentf": _by_zentf}
