"""Inputs for a benchmark: real samples if the model version has some, else seeded random ones from its metadata."""
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from serving import recording
from serving.client import payloads
from serving.client.payloads import Array, Arrays
from serving.client.protocol import Signature
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

    def batches(self, signature: Signature, batch: int, version: Path | None, count: int = DISTINCT
                ) -> tuple[list[Arrays], str]:
        """`count` different inputs of `batch` examples, and a description of where they come from."""
        specs, samples = signature.inputs, self.samples
        own = version / SAMPLES if version else None
        if samples is None and own and own.is_file() and set(specs) <= set(payloads.load_samples(own)):
            samples = own
        if samples is None:
            random: list[Arrays] = [payloads.make(specs, batch, self.seed + i) for i in range(count)]
            return random, f"random inputs from the model's metadata, seed {self.seed}"
        arrays = payloads.load_samples(samples) if samples.suffix == ".npz" else recorded(samples, specs)
        if self.samples:
            payloads.refuse_strangers(arrays, specs)
        picked: list[Arrays] = [payloads.pick(arrays, specs, batch, i * batch) for i in range(count)]
        size = payloads.examples(arrays, specs)
        return picked, f"{size:,} samples of {samples.name}, {count} different batches in turn"


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
