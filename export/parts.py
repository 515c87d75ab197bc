"""The tensors of a TensorInfo, each with a name: one tensor, or the parts of a sparse or ragged tensor.

    parts("ids", info) == {"ids": "ids:0"}  or  {"ids.values": "v:0", "ids.row_splits": "s:0"}

Code that feeds or fetches a signature uses these names, and so do the arrays in a file of samples.
"""
from __future__ import annotations

from typing import Any

COMPOSITES = ("coo_sparse", "composite_tensor")


def is_composite(info: Any) -> bool:
    """Whether it has several tensors. Clients cannot send or get those: TensorFlow Serving takes one tensor each."""
    return info.WhichOneof("encoding") in COMPOSITES


def kind(info: Any) -> str:
    """'dense', 'sparse', 'ragged', or TensorFlow's name for its class."""
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        return "sparse"
    if encoding != "composite_tensor":
        return "dense"
    spec = info.composite_tensor.type_spec
    name = type(spec).TypeSpecClass.Name(spec.type_spec_class)
    return {"RAGGED_TENSOR_SPEC": "ragged", "SPARSE_TENSOR_SPEC": "sparse"}.get(name, name)


def parts(key: str, info: Any) -> dict[str, str]:
    """Tensor names by part, in TensorFlow's own order."""
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        sparse = info.coo_sparse
        return {f"{key}.indices": sparse.indices_tensor_name, f"{key}.values": sparse.values_tensor_name,
                f"{key}.dense_shape": sparse.dense_shape_tensor_name}
    if encoding != "composite_tensor":
        return {key: info.name}
    names = [one.name for one in infos(key, info).values()]
    return dict(zip(infos(key, info), names, strict=True))


def infos(key: str, info: Any) -> dict[str, Any]:
    """TensorInfos by part. A sparse tensor has none for its parts: they are made from what is known about it."""
    encoding = info.WhichOneof("encoding")
    if encoding == "composite_tensor":
        components = list(info.composite_tensor.components)
        found: dict[str, Any] = {}
        for label, one in zip(_labels(kind(info), len(components)), components, strict=True):
            found.update(infos(f"{key}.{label}", one))
        return found
    if encoding != "coo_sparse":
        return {key: info}
    rank = -1 if info.tensor_shape.unknown_rank else len(info.tensor_shape.dim)
    made = {}
    for (label, name), dtype, shape in zip(
            parts(key, info).items(), (9, info.dtype, 9), ((-1, rank), (-1,), (rank,)), strict=True):
        made[label] = type(info)(name=name, dtype=dtype)
        for size in shape:
            made[label].tensor_shape.dim.add(size=size)
    return made


def _labels(kind: str, count: int) -> list[str]:
    if kind == "ragged":
        # The values of all rows, then the row ends of each ragged dimension, outermost first.
        return ["values", *(["row_splits"] if count == 2 else [f"row_splits_{index}" for index in range(count - 1)])]
    if kind == "sparse":
        return ["indices", "values", "dense_shape"]
    return [str(index) for index in range(count)]
