"""Inputs for a benchmark: real samples where the model version brings them, else seeded ones.

Seeded ones are made from the model's metadata, or, if the model needs better ones (see `first_answers`), from its
graph, by `python -m export samples`.
"""
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from benchmark.targets.export_command import export
from serving import recording
from serving.client import payloads
from serving.client.payloads import Array, Arrays
from serving.client.protocol import DEFAULT_SIGNATURE, Signature
from user_error import UserError
from version_directory import SAMPLES

MOST_RECORDED = 2000
DISTINCT = 4


@dataclass(frozen=True)
class Inputs:
    """What requests contain: the signature to call, and samples from a file or random inputs from a seed.

    samples: an .npz with an array [n, ...] for each input (other arrays, such as labels, are left out), or recorded
    traffic (a TFRecord of PredictionLog); if None, the .npz of the version directory is used if it fits the signature.
    """

    signature: str = ""
    samples: Path | None = None
    seed: int = 0
    # By batch size, what `export samples` made: the same for all targets, protocols and parts of a command.
    _exported: dict[int, list[Arrays]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def made(self, signature: Signature, batch: int, version: Path | None) -> bool:
        """Whether `batches` makes inputs from the signature alone, which says nothing of words, ids or file formats."""
        return self.samples is None and batch not in self._exported and self._own(signature, version) is None

    def from_graph(self, signature: Signature, batch: int, version: Path, count: int = DISTINCT) -> None:
        """Makes the inputs of `batches` from the model's graph. Raises ExportError with the reason if that fails."""
        requests = [self._from_graph(version, batch * count, self.seed)]
        if payloads.is_whole(requests[0], signature.inputs):
            # The parts of sparse and ragged tensors are one request, which must have `batch` examples; two requests
            # show whether the answers depend on them.
            requests = [self._from_graph(version, batch, self.seed + index) for index in range(2)]
        self._exported[batch] = requests

    def _from_graph(self, version: Path, examples: int, seed: int) -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "samples.npz")
            export("samples", str(version), "--out", str(path), "--examples", str(examples), "--seed", str(seed),
                   "--signature", self.signature or DEFAULT_SIGNATURE)
            return payloads.load_samples(path)

    def _own(self, signature: Signature, version: Path | None) -> Path | None:
        """The version's samples, if they fit the signature."""
        own = version / SAMPLES if version else None
        fits = own is not None and own.is_file() and set(signature.inputs) <= set(payloads.load_samples(own))
        return own if fits else None

    def batches(self, signature: Signature, batch: int, version: Path | None, count: int = DISTINCT
                ) -> tuple[list[Arrays], str]:
        """`count` different inputs of `batch` examples, and a description of where they come from."""
        specs = signature.inputs
        if batch in self._exported:
            own = self._exported[batch]
            return ([payloads.pick(own[i % len(own)], specs, batch, i * batch) for i in range(count)],
                    f"inputs made by python -m export samples, seed {self.seed}")
        samples = self.samples or self._own(signature, version)
        if samples is None:
            random: list[Arrays] = [payloads.make(specs, batch, self.seed + i) for i in range(count)]
            return random, f"random inputs from the model's metadata, seed {self.seed}"
        arrays = payloads.load_samples(samples) if samples.suffix == ".npz" else recorded(samples, specs)
        if self.samples:
            payloads.refuse_strangers(arrays, specs)
        picked: list[Arrays] = [payloads.pick(arrays, specs, batch, i * batch) for i in range(count)]
        size = payloads.examples(arrays, specs)
        return picked, f"{size:,} samples of {samples.name}, {count} different batches in turn"

    def labels(self, signature: Signature, batch: int, version: Path | None, count: int = DISTINCT
               ) -> list[Array] | None:
        """The right classes of the examples in `batches`, each example once: the last array may be shorter.

        None if the inputs are not samples with an array "labels" of one integer for each example.
        """
        path = self.samples or self._own(signature, version)
        if path is None or path.suffix != ".npz" or batch in self._exported:
            return None
        labels = payloads.labels_of(payloads.load_samples(path), signature.inputs)
        return None if labels is None else [labels[index * batch:(index + 1) * batch] for index in range(count)]


def recorded(path: Path, names: Iterable[str]) -> dict[str, Array]:
    """The examples of recorded requests in order, {input: [n, ...]}, of at most 2,000 requests.

    Raises UserError if no request has these inputs, or if their shapes differ.
    """
    wanted = sorted(names)
    fitting = (each.inputs for each in recording.read(path) if sorted(each.inputs) == wanted)
    requests = list(islice(fitting, MOST_RECORDED))
    if not requests:
        raise UserError(f"{path} holds no predict request with the inputs {', '.join(wanted)}")
    try:
        return {name: np.concatenate([inputs[name] for inputs in requests]) for name in wanted}
    except ValueError as error:
        raise UserError(f"{path}: its requests cannot be combined into batches: {error}") from None
