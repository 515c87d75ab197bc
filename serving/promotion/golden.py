"""Golden requests: those of which it is known what a version answers.

One file serves as warm-up, as the parity gate's inputs, as load and as what is replayed to a canary: a TFRecord of
tensorflow.serving.PredictionLog, which `python -m serving record` and TensorFlow Serving's own request log write.
"""
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from serving import recording, tfrecord
from serving.client import payloads
from serving.client.payloads import Array, Arrays
from serving.client.protocol import Client, Signature
from version_directory import SAMPLES, WARMUP

# So many of a file are used, and so many are made of samples.
MOST = 64
BATCHES = (1, 2, 3, 7)


@dataclass(frozen=True)
class Golden:
    """A request, and what it must be answered with; None where that is not known."""

    inputs: Arrays
    signature: str
    expected: Mapping[str, Array] | None = None


def of_file(path: Path, most: int = MOST) -> list[Golden]:
    """The first predict requests of a file. Raises UserError for one that cannot be read."""
    return list(recorded(path, most))


def recorded(path: Path, most: int) -> Iterator[Golden]:
    """The same, one after the other."""
    for one in islice(recording.read(path), most):
        yield Golden(one.inputs, one.signature_name, one.outputs or None)


def kept(path: Path) -> list[Golden]:
    """The same; none without the file."""
    return of_file(path) if path.exists() else []


def as_file(requests: Iterable[Golden], model: str) -> bytes:
    """The same as `of_file` reads."""
    return b"".join(tfrecord.framed(recording.Predicted(
        model, one.inputs, one.signature, one.expected or {}).to_log().SerializeToString(deterministic=True))
        for one in requests)


def of_version(version: Path, signatures: Mapping[str, Signature]) -> list[Golden]:
    """The requests that a version's own files give; else they are made from its signatures, or by
    `python -m export samples`, which knows what a graph can take."""
    if found := of_files(version, signatures):
        return found
    if all(spec.dtype.kind == "f" for one in signatures.values() for spec in one.inputs.values()):
        return [Golden(payloads.make(one.inputs, batch, seed), name) for name, one in sorted(signatures.items())
                for seed, batch in enumerate(_batches(one)) if one.inputs]
    with TemporaryDirectory() as folder:
        made = Path(folder, "made.npz")
        subprocess.run([sys.executable, "-m", "export", "samples", str(version), "--out", str(made)], check=False,
                       capture_output=True)
        return _of_samples(made, signatures) if made.exists() else []


def of_files(version: Path, signatures: Mapping[str, Signature]) -> list[Golden]:
    """The requests of a version's warm-up file, or of its samples in several batch sizes; none if it has neither."""
    if (version / WARMUP).is_file():
        return of_file(version / WARMUP)
    return _of_samples(version / SAMPLES, signatures) if (version / SAMPLES).is_file() else []


def _of_samples(path: Path, signatures: Mapping[str, Signature]) -> list[Golden]:
    arrays = payloads.load_samples(path)
    found, start = [], 0
    for name, signature in sorted(signatures.items()):
        if not signature.inputs or not set(signature.inputs) <= set(arrays):
            continue
        for batch in _batches(signature):
            found.append(Golden(payloads.pick(arrays, signature.inputs, batch, start), name))
            start += batch
    return found


def _batches(signature: Signature) -> tuple[int, ...]:
    """As many requests of the only batch size that a signature takes, if it is fixed at one."""
    fixed = payloads.fixed_batches(signature.inputs)
    return (fixed[0],) * len(BATCHES) if fixed else BATCHES


def answered(requests: Iterable[Golden], client: Client) -> list[Golden]:
    """The requests with a server's answers. Raises AnswerError and UnreachableError."""
    return [replace(one, expected=client.predict(one.inputs, one.signature)) for one in requests]
