"""Inputs for a signature: made from its dtypes and shapes (seeded), or picked from a .npz of samples."""
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serving import tensor_proto
from user_error import UserError

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

UNKNOWN_SIZE = 16
INTEGERS_BELOW = 10


@dataclass(frozen=True)
class TensorSpec:
    """What a signature says of a tensor. `object` is the dtype of strings (bytes).

    An unknown size in `shape` is -1; a `shape` of None is an unknown rank.
    """
    dtype: np.dtype[Any]
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        name = "string" if self.dtype.kind == "O" else self.dtype.name
        return f"{name} of unknown rank" if self.shape is None else f"{name} {list(self.shape)}"


def shape_of(tensor: Any) -> tuple[int, ...] | None:
    """The shape in a TensorInfo message: -1 for an unknown size, None for an unknown rank."""
    return None if tensor.tensor_shape.unknown_rank else tuple(dim.size for dim in tensor.tensor_shape.dim)


def specs_of(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """Of a SignatureDef message's inputs or outputs, without those of no type: TF2's init op is listed as one."""
    return {name: TensorSpec(tensor_proto.numpy_dtype(tensor.dtype), shape_of(tensor))
            for name, tensor in tensors.items() if tensor.dtype}


def make(specs: Mapping[str, TensorSpec], batch: int = 1, seed: int = 0) -> dict[str, Array]:
    """Random inputs: the same for the same specs, batch and seed, and different for every input's name.

    The leading unknown size becomes `batch`, others UNKNOWN_SIZE; an unknown rank becomes [batch]. Floats are in
    [0, 1), uint8 in 0..255 (pixels), other integers in 0..9, since they are mostly indices; strings are short
    words. Where a model expects more (token ids, JPEG bytes, serialized examples) use samples. Raises UserError
    for a batch that the signature's fixed sizes do not allow.
    """
    check_batch(specs, batch)
    return {name: _values(spec.dtype, _shape(spec, batch), np.random.default_rng([seed, *name.encode()]))
            for name, spec in specs.items()}


def check_batch(specs: Mapping[str, TensorSpec], batch: int) -> None:
    """Raises UserError unless some input can be `batch` examples long, or all of them already are."""
    if batch < 1:
        raise UserError(f"a batch has at least 1 example, not {batch}")
    batched = [spec.shape for spec in specs.values() if spec.shape != ()]
    if batched and all(shape and shape[0] not in (-1, batch) for shape in batched):
        sizes = sorted({shape[0] for shape in batched if shape})
        raise UserError(f"the signature's batch size is fixed at {sizes[0]}: ask for that batch, not {batch}")


def load_samples(path: str | Path) -> dict[str, Array]:
    """The arrays of a .npz by name; their first axis counts examples. Strings come as bytes."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file of samples (numpy.savez writes one)") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a .npz file of arrays without Python objects ({error})") from None
    return {name: _strings(array) if array.dtype.kind in "US" else array for name, array in arrays.items()}


def pick(samples: Arrays, specs: Mapping[str, TensorSpec], batch: int = 1, start: int = 0) -> dict[str, Array]:
    """`batch` consecutive examples from example `start`, beginning again at the end; other arrays are ignored.

    Raises UserError when an input is missing or does not fit its dtype or shape.
    """
    check_batch(specs, batch)
    picked = {}
    for name, spec in specs.items():
        if name not in samples:
            raise UserError(f"the samples have no array '{name}'; they have: {', '.join(samples) or 'none'}")
        array = samples[name]
        if spec.shape == () or array.ndim == 0:
            picked[name] = array.reshape(())
            continue
        if not len(array):
            raise UserError(f"the samples of input '{name}' hold no example")
        rows = np.take(array, range(start, start + batch), axis=0, mode="wrap")
        if not _fits(rows.shape, spec.shape) or not np.can_cast(rows.dtype, spec.dtype, "same_kind"):
            raise UserError(f"the samples of input '{name}' are {TensorSpec(rows.dtype, rows.shape)}, "
                            f"but the signature takes {spec}")
        picked[name] = rows.astype(spec.dtype, copy=False)
    return picked


def _shape(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    if spec.shape is None:
        return (batch,)
    sizes = [UNKNOWN_SIZE if size < 0 else size for size in spec.shape]
    if sizes and spec.shape[0] < 0:
        sizes[0] = batch
    return tuple(sizes)


def _values(dtype: np.dtype[Any], shape: tuple[int, ...], random: np.random.Generator) -> Array:
    if dtype.kind == "O":
        letters = random.integers(ord("a"), ord("z") + 1, (int(np.prod(shape, dtype=int)), 8), np.uint8)
        return _strings(letters.view("S8")).reshape(shape)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind == "c":
        return (random.random(shape) + 1j * random.random(shape)).astype(dtype)
    if dtype == np.uint8:
        return random.integers(0, 256, shape, np.uint8)
    if dtype.kind in "iu":
        return random.integers(0, INTEGERS_BELOW, shape).astype(dtype)
    if dtype.names:  # TensorFlow's quantized types: integers under a name
        return random.integers(0, INTEGERS_BELOW, shape).astype(dtype[0]).view(dtype)
    if dtype.name.startswith(("int", "uint")):  # ml_dtypes' narrow integers
        return random.integers(0, 2, shape).astype(np.int8).astype(dtype)
    return random.random(shape).astype(dtype)


def _fits(shape: tuple[int, ...], allowed: tuple[int, ...] | None) -> bool:
    return allowed is None or (len(shape) == len(allowed)
                               and all(b < 0 or a == b for a, b in zip(shape, allowed, strict=True)))


def _strings(array: Array) -> Array:
    made = np.empty(array.size, object)
    made[:] = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    return made.reshape(array.shape)
