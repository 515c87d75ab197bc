"""Inputs for a signature: random ones from its dtypes and shapes (seeded), or examples from a .npz of samples."""
import difflib
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serving import tensor_proto
from user_error import UserError

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

# The array of the samples that is no input: the right class of each example.
LABELS = "labels"
UNKNOWN_SIZE = 16
INTEGERS_BELOW = 10
_PADDED = ("bytes", "length")
_INDICES, _VALUES, _SHAPE = (re.compile(f"[._/]?({names})$|^({names})[._/]?") for names in (
    "indices", "values", "dense_shape|shape"))


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's dtype and shape in a signature. `object` is the dtype of strings (bytes).

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
    """The specs of a SignatureDef's inputs or outputs, without entries of no type, such as TF2's init op."""
    return {name: TensorSpec(tensor_proto.numpy_dtype(tensor.dtype), shape_of(tensor))
            for name, tensor in tensors.items() if tensor.dtype}


def misfits(inputs: Arrays, specs: Mapping[str, TensorSpec]) -> list[str]:
    """A sentence for each input whose shape the signature does not allow."""
    return [f"input '{name}' is {TensorSpec(array.dtype, array.shape)}, and the signature has {specs[name]}"
            for name, array in inputs.items()
            if name in specs and (shape := specs[name].shape) is not None and (len(shape) != array.ndim or any(
                size not in (-1, given) for size, given in zip(shape, array.shape, strict=True)))]


def make(specs: Mapping[str, TensorSpec], batch: int = 1, seed: int = 0) -> dict[str, Array]:
    """Random inputs: the same for the same specs, batch and seed, and different for every input's name.

    The leading unknown size becomes `batch`, others UNKNOWN_SIZE; an unknown rank becomes [batch]. Floats are in
    [0, 1), uint8 in 0..255 (pixels), other integers in 0..9, since they are mostly indices; strings are short words.
    For a model that needs special values (token ids, JPEG bytes, serialized examples) use samples. Raises UserError for
    a batch that the signature's fixed sizes do not allow.
    """
    check_batch(specs, batch)
    made = {name: _values(spec.dtype, _shape(spec, batch), np.random.default_rng([seed, *name.encode()]))
            for name, spec in specs.items()}
    for indices, values, shape in sparse_parts(specs):
        _make_sparse(made, (indices, values, shape), batch, np.random.default_rng([seed, *indices.encode()]))
    return made


def _make_sparse(made: dict[str, Array], parts: tuple[str, str, str], batch: int, random: np.random.Generator) -> None:
    """Makes the three parts a valid sparse tensor of `batch` rows, each with 1 to 3 values in ascending order."""
    indices, values, shape = parts
    rank = made[indices].shape[1]
    sizes = np.array([batch, *[UNKNOWN_SIZE] * (rank - 1)], np.int64)
    rows = []
    for row in range(batch):
        places = random.choice(np.prod(sizes[1:], dtype=int), min(3, np.prod(sizes[1:], dtype=int)), replace=False)
        rows += [(row, *np.unravel_index(place, sizes[1:])) if rank > 1 else (row,)
                 for place in sorted(places[:1 + int(random.integers(3))].tolist())][:None if rank > 1 else 1]
    made[indices] = np.array(rows, np.int64).reshape(-1, rank)
    made[values] = _values(made[values].dtype, (len(rows),), random)
    made[shape] = sizes


def check_batch(specs: Mapping[str, TensorSpec], batch: int) -> None:
    """Raises UserError unless an input takes any batch size, or all fixed batch sizes are `batch`."""
    if batch < 1:
        raise UserError(f"a batch has at least 1 example, not {batch}")
    if (sizes := fixed_batches(specs)) and batch not in sizes:
        raise UserError(f"the signature's batch size is fixed at {sizes[0]}: ask for that batch, not {batch}")


def fixed_batches(specs: Mapping[str, TensorSpec]) -> list[int]:
    """The batch sizes that a signature is fixed at, in order; none if one of its inputs takes any."""
    batched = [spec.shape for spec in specs.values() if spec.shape != ()]
    if any(not shape or shape[0] == -1 for shape in batched):
        return []
    return sorted({shape[0] for shape in batched if shape})


def load_samples(path: str | Path) -> dict[str, Array]:
    """The arrays of a .npz by name; their first axis counts examples. Strings come as bytes."""
    try:
        with open(path, "rb") as opened:
            # numpy takes any file that is no zip for a pickle, and advises to load it unsafely.
            if not zipfile.is_zipfile(opened):
                raise UserError(f"{path}: not a .npz file (numpy.savez writes one, with an array for each input)")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file of samples (numpy.savez writes one)") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a .npz file of arrays without Python objects ({error})") from None
    if not arrays:
        raise UserError(f"{path}: holds no array (numpy.savez takes them by name: one for each input)")
    return {name: _strings(array) if array.dtype.kind in "US" else (
        _padded(array) if array.dtype.names == _PADDED else array) for name, array in arrays.items()}


def save_samples(file: BinaryIO, arrays: Arrays) -> None:
    """Writes an .npz that `load_samples` reads, with the lengths of strings that end in zeros, which numpy cuts off."""
    stored: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.dtype != object:
            stored[name] = array
            continue
        values = array.ravel().tolist()
        longest = max(map(len, values), default=0) or 1
        plain = not any(value.endswith(b"\0") for value in values)
        made = np.array(values, f"S{longest}") if plain else np.array(
            [(value, len(value)) for value in values], [(_PADDED[0], f"S{longest}"), (_PADDED[1], "i8")])
        stored[name] = made.reshape(array.shape)
    np.savez(file, **stored)


def _padded(array: Array) -> Array:
    made = np.empty(array.size, object)
    made[:] = [value.ljust(length, b"\0") for value, length in array.ravel().tolist()]
    return made.reshape(array.shape)


def pick(samples: Arrays, specs: Mapping[str, TensorSpec], batch: int = 1, start: int = 0) -> dict[str, Array]:
    """`batch` consecutive examples from example `start`; after the last one the first follows.

    Arrays that are named like no input are ignored. An input that belongs to the request and not to an example (a
    scalar, or an input of fixed first size beside inputs of any batch size) gets its whole array, or one entry of an
    array with one more axis. If the arrays are one whole request (see `is_whole`), all are taken whole, whatever
    `batch` is. Raises UserError if an input is missing or does not fit its dtype or shape.
    """
    missing = [name for name in specs if name not in samples]
    if missing:
        raise UserError(f"the samples have no array '{missing[0]}'; they have: {', '.join(samples) or 'none'}; "
                        f"the inputs are: {_listed(specs)}")
    whole = is_whole(samples, specs)  # decision 121
    if not whole:
        check_batch(specs, batch)
    any_batch = _takes_any_batch(specs)
    picked = {}
    for name, spec in specs.items():
        array = samples[name]
        if not array.size and not whole:
            raise UserError(f"the samples of input '{name}' hold no example")
        if whole:
            rows = array
        elif spec.shape is not None and (not spec.shape or (any_batch and spec.shape[0] >= 0)):
            # The input belongs to the request: an array with one more axis has an entry for each request.
            rows = array[start // batch % len(array)] if array.ndim == len(spec.shape) + 1 else array
        elif spec.shape is not None and array.shape == spec.shape:
            rows = array
        else:
            rows = np.take(array, range(start, start + batch), axis=0, mode="wrap") if array.ndim else array
        rows = np.asarray(rows, dtype=array.dtype)
        if not _fits(rows.shape, spec.shape) or not np.can_cast(rows.dtype, spec.dtype, "same_kind"):
            raise UserError(f"the samples of input '{name}' are {TensorSpec(array.dtype, array.shape)}, "
                            f"but the signature takes {spec}")
        picked[name] = rows.astype(spec.dtype, copy=False)
    return picked


def is_whole(samples: Arrays, specs: Mapping[str, TensorSpec]) -> bool:
    """Whether the arrays are one whole request, and not one example per row.

    They are if their rows cannot belong to the same examples: their first sizes differ, they are the indices, values
    and shape of a sparse tensor, or one of them holds the row ends of another (a ragged tensor's row_splits).
    """
    lengths = {len(samples[name]) for name, spec in specs.items()
               if name in samples and samples[name].ndim and (spec.shape is None or spec.shape[:1] == (-1,))}
    return len(lengths) > 1 or bool(sparse_parts(specs)) or any(
        _ends_rows(samples[name], len(samples[other]))
        for other in specs for name in (f"{other}_1", f"{other}.row_splits")
        if name in specs and name in samples and other in samples and samples[other].ndim)


def examples(samples: Arrays, specs: Mapping[str, TensorSpec]) -> int:
    """How many examples the samples hold for a signature; 1 if they are one whole request."""
    if is_whole(samples, specs):
        return 1
    any_batch = _takes_any_batch(specs)
    lengths = [len(samples[name]) for name, spec in specs.items() if name in samples and samples[name].ndim
               and (spec.shape is None or (spec.shape and not (any_batch and spec.shape[0] >= 0)))]
    return min(lengths, default=1)


def labels_of(samples: Arrays, specs: Mapping[str, TensorSpec]) -> Array | None:
    """The right class of each example; None unless the samples have one integer for each."""
    labels = samples.get(LABELS)
    if (labels is None or labels.dtype.kind not in "iu" or is_whole(samples, specs)
            or labels.shape != (examples(samples, specs),)):
        return None
    return labels


def refuse_strangers(samples: Arrays, inputs: Iterable[str], besides: Sequence[str] = (LABELS,)) -> None:
    """Raises UserError for an array that is named like no input: a mistyped name would leave its input random."""
    known = sorted(set(inputs))
    strangers = [name for name in samples if name not in known and name not in besides]
    if strangers:
        matches = difflib.get_close_matches(strangers[0], known, n=1)
        hint = f" (did you mean '{matches[0]}'?)" if matches else ""
        raise UserError(f"the samples' array '{strangers[0]}' is no input{hint}; the inputs are: "
                        f"{', '.join(known) or 'none'}")


def sparse_parts(specs: Mapping[str, TensorSpec]) -> list[tuple[str, str, str]]:
    """The inputs that are the indices, values and dense shape of a sparse tensor, found by their shapes and names.

    TensorFlow 2 names them X, X_1 and X_2; people name them X_indices, X_values and X_dense_shape, or X_shape.
    """
    found = []
    for key, spec in specs.items():
        if spec.dtype != np.int64 or spec.shape is None or len(spec.shape) != 2 or spec.shape[0] != -1:
            continue
        root = _INDICES.sub("", key)
        for values, shape in ((f"{key}_1", f"{key}_2"), *(
                (value, other) for value in specs for other in specs
                if root != key and _VALUES.sub("", value) == root != value and _SHAPE.sub("", other) == root != other)):
            if values in specs and shape in specs and specs[values].shape == (-1,) and (
                    specs[shape].dtype == np.int64 and specs[shape].shape in ((spec.shape[1],), (-1,))):
                found.append((key, values, shape))
                break
    return found


def _ends_rows(ends: Array, length: int) -> bool:
    return bool(ends.dtype.kind == "i" and ends.ndim == 1 and len(ends) and ends[0] == 0 and ends[-1] == length
                and (np.diff(ends) >= 0).all())


def _takes_any_batch(specs: Mapping[str, TensorSpec]) -> bool:
    return any(spec.shape is None or spec.shape[:1] == (-1,) for spec in specs.values())


def _listed(specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f"'{name}' ({spec})" for name, spec in specs.items())


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
    if dtype.names:  # TensorFlow's quantized types: structured dtypes with one integer field
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
