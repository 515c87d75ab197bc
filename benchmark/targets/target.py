"""The targets of a measurement: `original`, `container:original`, `session:original`, or a running server's address."""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from benchmark.targets.addresses import Access
from serving.protos import saved_model_pb2
from user_error import UserError
from version_directory import newest, read_model

PROTOCOLS = ("rest", "grpc")
SERVERS = ("embedded", "container", "binary")
IN_PROCESS = ("session", "predictor")


@dataclass(frozen=True)
class Target:
    """A variant under a backend, or a running server (backend "address"), or a server that `argv` starts ("command").

    In `argv`, {port} and {rest_port} are replaced by free ports; the program must report its status as TensorFlow
    Serving does.
    """

    name: str
    model: str
    backend: str = "embedded"
    base_path: Path | None = None
    rest: str | None = None
    grpc: str | None = None
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    signature: str = ""
    grappler: bool = True
    prefix: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    access: Access | None = None

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that the target supports; a server that is started here supports REST and gRPC."""
        if self.backend in IN_PROCESS:
            return (*PROTOCOLS, "in-process")
        if self.backend != "address":
            return PROTOCOLS
        return tuple(name for name, address in zip(PROTOCOLS, (self.rest, self.grpc), strict=True) if address)

    @property
    def version_directory(self) -> Path | None:
        """The version that a server serves by default: the newest."""
        return newest(self.base_path) if self.base_path else None


def find_target(text: str, models: Path, model: str, flags: Sequence[str] = (), signature: str = "",
                grappler: bool = True) -> Target:
    """The target `variant` or `backend:variant` of models/<model>. Raises UserError if it or a version is missing."""
    backend, _, variant = text.rpartition(":")
    backend = backend or "embedded"
    if backend not in SERVERS + IN_PROCESS:
        raise UserError(f"no backend '{backend}' in '{text}': choose from {', '.join(SERVERS + IN_PROCESS)}")
    base = models / model / variant
    if not (models / model).is_dir():
        there = sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []
        raise UserError(f"no model '{model}' in {models}/: there are {', '.join(there) or 'none'}; "
                        "make one with 'python -m export build', or name another with --model")
    if not base.is_dir() or not variant:
        there = sorted(path.name for path in (models / model).iterdir() if path.is_dir() and newest(path))
        raise UserError(f"no variant '{variant}' in {models / model}: there are {', '.join(there) or 'none'}")
    version = newest(base)
    if version is None:
        raise UserError(f"{base} has no version (a folder whose name is a number, with a saved_model.pb in it): "
                        f"make one with 'python -m export build' or 'python -m export optimize'")
    # A broken file is reported now, not after a server has started.
    read_model(version, saved_model_pb2.SavedModel())
    return Target(text, model, backend, base.resolve(), flags=tuple(flags), signature=signature, grappler=grappler)


def running_targets(urls: Sequence[str], grpcs: Sequence[str], model: str,
                    access: Access | None = None) -> list[Target]:
    """Servers that already run. The n-th gRPC address belongs to the same server as the n-th URL."""
    pairs = zip_longest(urls, grpcs)
    return [Target(url or grpc or "", model, "address", rest=url, grpc=grpc, access=access) for url, grpc in pairs]
