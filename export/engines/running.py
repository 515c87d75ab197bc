"""A version run as the server runs it with an engine, for proofs."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from export.tensors import Array, numpy_dtype
from serving.config import Flags
from serving.engines.choice import Engines
from serving.errors import ServingError
from serving.memory import MemoryLimit
from user_error import UserError


class Running:
    """Runs tensors of a servable by name, as a Session does."""

    def __init__(self, servable: Any) -> None:
        self._servable = servable
        self._dtypes = {info.name: info.dtype for one in servable.metadata.signature_def.values()
                        for info in one.inputs.values()}

    def run(self, fetches: Mapping[str, str], feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Raises ValueError for a refused request."""
        values = [np.asarray(value, numpy_dtype(self._dtypes[name])) for name, value in feeds.items()]
        try:
            answer = self._servable.run(list(feeds), values, list(fetches.values()))
        except ServingError as error:
            raise ValueError(str(error)) from None
        return dict(zip(fetches, answer, strict=True))


@contextmanager
def running_by(engine: str, path: str, tags: Sequence[str]  # decision 214
               ) -> Iterator[tuple[dict[str, Any], Running]]:
    """The SignatureDefs that the engine has, and what runs them. Raises UserError if it does not load."""
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    try:
        servable = Engines(_flags(engine, tags), MemoryLimit(-1)).load(Path(path).name, 1, Path(path))
    except ServingError as error:
        raise UserError(f"{path} does not load with {engine}: {error} {error.advice}") from None
    try:
        yield {key: SignatureDef.FromString(one.SerializeToString())
               for key, one in servable.metadata.signature_def.items()}, Running(servable)
    finally:
        servable.close()


def _flags(engine: str, tags: Sequence[str]) -> Flags:
    return Flags(saved_model_tags=",".join(tags), engine=engine)
