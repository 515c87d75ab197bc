"""What the status page of a running server shows."""
from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from serving import status_page
from serving.client import json_codec, payloads
from serving.errors import ServingError
from serving.http_message import Response
from serving.model_store import ModelStore
from serving.promotion import history
from serving.recent_traffic import RecentTraffic
from serving.servable import DEFAULT_SIGNATURE, ModelSpec
from serving.tensor_proto import numpy_dtype
from user_error import UserError

log = logging.getLogger("serving")
# A larger request is nothing to edit in a page.
_LONGEST_EXAMPLE = 64 << 10


class StatusPages:
    """Answers `/`, the page, and `/status`, what changes of it."""

    def __init__(self, store: ModelStore, traffic: RecentTraffic, config_file: str) -> None:
        self._store, self._traffic = store, traffic
        self._history = Path(config_file).with_name("history.jsonl") if config_file else None
        self._examples: dict[tuple[str, int], dict[str, str] | None] = {}
        self._read: tuple[tuple[int, int], Sequence[Mapping[str, Any]]] = (0, 0), ()

    def answer(self, path: str) -> Response | None:
        """None for another path."""
        if path not in ("/", "/status"):
            return None
        values = self._values(with_examples=path == "/")
        text = status_page.page(values, live=True) if path == "/" else status_page.body(values)
        # Names of models need not be valid UTF-8.
        return Response(200, text.encode("utf-8", "replace"), status_page.TYPE, status_page.HEADERS)

    def _values(self, with_examples: bool) -> dict[str, Any]:
        readiness, traffic, labels = self._store.readiness(), self._traffic.look(), self._store.labels()
        models = []
        for name, model in sorted(readiness.models.items()):
            try:
                known = self._store.status(ModelSpec(name))
            except ServingError:  # no version was ever found
                known = []
            models.append({
                "name": name, "ready": model.answers, "not_ready_because": "; ".join(map(str, model.missing)),
                "versions": [{"version": one.version, "state": one.state, "engine": one.engine or None,
                              "labels": [label for label, number in labels.get(name, {}).items()
                                         if number == one.version],
                              **traffic.get((name, one.version), {})} for one in known],
                "example": self._example(name) if with_examples else None})
        return status_page.values_of({"models": models}, "Models of this server", self._past())

    def _past(self) -> Sequence[Mapping[str, Any]]:
        """The last records of a production root, if its models.config is the one that is served."""
        if self._history is None or not self._history.is_file():
            return ()
        try:
            now = self._history.stat()
            if self._read[0] != (now.st_mtime_ns, now.st_size):
                records = history.readable(self._history).records[-status_page.MOST_PROMOTIONS:]
                self._read = (now.st_mtime_ns, now.st_size), records
            return self._read[1]
        except OSError as error:
            log.warning("%s: %s", self._history, error.strerror)
            return ()

    def _example(self, name: str) -> dict[str, str] | None:
        """A request made from the signature of the version that answers; None if it would be large, or none can be."""
        try:
            with self._store.pin(ModelSpec(name)) as servable:
                key, signature = (name, servable.version), servable.signatures.get(DEFAULT_SIGNATURE)
        except ServingError:
            return None
        if signature is None:
            return None
        if key not in self._examples:
            self._examples[key] = _made(name, signature.inputs)
        return self._examples[key]


def _made(name: str, inputs: Mapping[str, Any]) -> dict[str, str] | None:
    # A number takes a few characters: no large input is made only to be thrown away.
    if sum(math.prod(max(1, size) for size in one.shape or (1,)) for one in inputs.values()) > _LONGEST_EXAMPLE // 4:
        return None
    try:
        specs = {alias: payloads.TensorSpec(numpy_dtype(one.dtype), one.shape) for alias, one in inputs.items()}
        fixed = payloads.fixed_batches(specs)
        body = json_codec.request_body(payloads.make(specs, fixed[0] if fixed else 1)).decode()
    except (ValueError, TypeError, KeyError, UserError) as error:
        log.info("no example of a request to %s: %s", name, error)
        return None
    if len(body) > _LONGEST_EXAMPLE:
        return None
    return {"to": f"v1/models/{quote(name, safe='', errors='surrogateescape')}:predict", "body": body}
