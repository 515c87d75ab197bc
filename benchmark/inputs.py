"""Inputs for a benchmark: real samples where the model version brings them, else seeded ones from its metadata."""
from pathlib import Path

from serving.client import payloads
from serving.client.payloads import Arrays
from serving.client.protocol import Signature

SAMPLES = Path("assets.extra", "samples.npz")


def inputs_for(signature: Signature, batch: int, count: int, samples: Path | None, version: Path | None,
               seed: int) -> tuple[list[Arrays], str]:
    """`count` different inputs of `batch` examples, and in words where they are from.

    samples: an .npz with an array [n, ...] for each input (others, such as labels, are left out); without it that of
    the version directory, if it fits the signature.
    """
    specs = signature.inputs
    own = version / SAMPLES if version else None
    if samples is None and own and own.is_file() and set(specs) <= set(payloads.load_samples(own)):
        samples = own
    if samples is None:
        made: list[Arrays] = [payloads.make(specs, batch, seed + i) for i in range(count)]
        return made, f"random inputs from the model's metadata, seed {seed}"
    arrays = payloads.load_samples(samples)
    picked: list[Arrays] = [payloads.pick(arrays, specs, batch, i * batch) for i in range(count)]
    size = min(len(arrays[name]) for name in specs)
    return picked, f"{size:,} samples of {samples.name}, {count} different batches in turn"
