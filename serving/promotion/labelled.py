"""Labelled samples: how many of them production's version and a new one have right, each sample asked once."""
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from serving.client import payloads
from serving.client.payloads import Array, Arrays
from serving.client.protocol import Client, Signature
from serving.promotion import gates
from serving.promotion.gates import NEW, OLD, Gate
from serving.promotion.settings import Accuracy
from version_directory import SAMPLES

# A request has so many examples, or fewer, if it would have more bytes.
_EXAMPLES, _BYTES = 64, 4 * 2**20


def accuracy(versions: Iterable[Path], signatures: Mapping[str, Signature], old: Client, new: Client,
             limits: Accuracy) -> Gate:
    """Whether the new version has as many right as the old one, of the samples of the first of `versions` that has
    labels, one integer for each example: the class that it should be. Raises AnswerError and UnreachableError."""
    found = next((one for version in versions if (one := _labelled(version, signatures))), None)
    counted = {} if found is None else _counted(*found, {OLD: old, NEW: new})
    gate = gates.accuracy({"accuracy": {"": counted}}, limits)
    if not counted:
        return gate
    examples = counted[OLD]["examples"]
    return replace(gate, words=f"of {examples:,} labelled samples, {gate.words}",
                   figures={**gate.figures, "examples": examples})


def _labelled(version: Path, signatures: Mapping[str, Signature]) -> tuple[str, Signature, Arrays, Array] | None:
    """The signature that the version's samples are of, the samples and their labels."""
    path = version / SAMPLES
    arrays = payloads.load_samples(path) if path.is_file() else {}
    for name, signature in sorted(signatures.items()):
        if signature.inputs and set(signature.inputs) <= set(arrays) and (
                labels := payloads.labels_of(arrays, signature.inputs)) is not None:
            return name, signature, arrays, labels
    return None


def _counted(name: str, signature: Signature, arrays: Arrays, labels: Array, clients: Mapping[str, Client]
             ) -> dict[str, dict[str, int]]:
    """{whose: {"right", "examples"}}, by the output that the old version has right most often; {} if none has classes.
    """
    if not len(labels):
        return {}
    batch = min(payloads.fixed_batches(signature.inputs), default=0)
    if not batch:
        one = payloads.pick(arrays, signature.inputs)
        batch = max(1, min(_EXAMPLES, _BYTES // max(1, sum(array.nbytes for array in one.values()))))
    right: Counter[tuple[str, str]] = Counter()
    for start in range(0, len(labels), batch):
        request, own = payloads.pick(arrays, signature.inputs, batch, start), labels[start:start + batch]
        for whose, client in clients.items():
            for output, array in client.predict(request, name).items():
                if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1 and len(array) == batch:
                    right[whose, output] += int((np.argmax(array, 1)[:len(own)] == own).sum())
    outputs = sorted(output for whose, output in right if whose == OLD)
    if not outputs:
        return {}
    chosen = max(outputs, key=lambda output: right[OLD, output])
    return {whose: {"right": right[whose, chosen], "examples": len(labels)} for whose in clients}
