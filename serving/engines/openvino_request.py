"""One request at a time to a compiled graph of OpenVINO: values in, values out, an end at the deadline."""
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

import ml_dtypes
import numpy as np

from serving.engines.openvino_runtime import openvino
from serving.errors import timed_out
from serving.servable import Array


class Request:
    """An infer request, with the values that it was last given, whose memory it reads."""

    def __init__(self, compiled: Any) -> None:
        self.compiled: Any = None
        self.use(compiled)
        self._values: Sequence[Array] = ()

    def use(self, compiled: Any) -> None:
        """Makes it one of this compiled graph, if it is of another."""
        if self.compiled is not compiled:
            self._request = compiled.create_infer_request()
            self.compiled = compiled

    def run(self, values: Sequence[Array], ends: float | None, here: bool) -> None:
        """Raises DEADLINE_EXCEEDED at `ends` (perf_counter), RuntimeError with OpenVINO's reason.

        here: it runs in the calling thread, which is quicker by some 20 us, and does not end at `ends`.
        """
        values = [value if value.flags.c_contiguous and value.flags.writeable else value.copy() for value in values]
        for place, value in enumerate(values):
            self._request.set_input_tensor(place, _tensor(value))
        self._values = values
        if here:
            self._request.infer(share_outputs=True)
            return
        self._request.start_async()
        if ends is None:
            self._request.wait()
            return
        left = ends - perf_counter()
        if not self._request.wait_for(int(left * 1000) if left > 0 else 0):
            self._request.cancel()
            with suppress(RuntimeError):  # "Infer Request was canceled"
                self._request.wait()
            raise timed_out()

    def forget(self) -> None:
        """Forgets the values that it was given."""
        self._values = ()

    def output(self, number: int, dtype: np.dtype[Any]) -> Array:
        """A copy, since the next run writes into the same memory."""
        found = self._request.get_output_tensor(number).data
        return np.array(found if found.dtype == dtype else found.view(dtype))


def _tensor(value: Array) -> Any:
    if value.dtype == ml_dtypes.bfloat16:  # numpy has no such type of its own, and OpenVINO takes its bits
        return openvino.Tensor(value.view(np.float16), value.shape, openvino.Type.bf16)
    return openvino.Tensor(value, shared_memory=True)
