"""The targets of a measurement: `original`, `container:original`, `session:original@litert`, or a running server's
address."""
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from benchmark.targets import engines
from benchmark.targets.addresses import Access
from other_engines import TENSORFLOW
from serving.client.protocol import DEFAULT_SIGNATURE
from serving.protos import saved_model_pb2
from user_error import UserError
from version_directory import newest, read_model

PROTOCOLS = ("rest", "grpc")
SERVERS = ("embedded", "container", "binary")
IN_PROCESS = ("session", "predictor")
CLIENT_LOOP = "client-loop"


@dataclass(frozen=True)
class Target:
    """A variant under a backend, or a running server (backend "address"), or a server that `argv` starts ("command").

    In `argv`, {port} and {rest_port} are replaced by free ports; the program must report its status as TensorFlow
    Serving does. `engine`: what runs the model, "" where the name does not say; that is TensorFlow, but at an address.
    `kind`: CLIENT_LOOP, many calls are one request (see client_loop.py); of a target in process also what runs the
    version where that is no engine of the server's (see in_process/engine.py). Of a target in process: `threads` of
    one operation and between operations, 0 for what TensorFlow chooses, -1 for none but the one that asks; `python`,
    the interpreter of another environment. `env` and `prefix` are the process's environment and what stands before its
    command line.
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
    engine: str = ""
    kind: str = ""
    threads: int = 0
    python: str = ""

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

    @property
    def files(self) -> Sequence[Path] | None:  # decision 211
        """The files that its engine runs, where that is another than TensorFlow."""
        version = self.version_directory
        return engines.files(self.engine, version) if version else None

    @property
    def by_tensorflow(self) -> bool:
        return self.engine in ("", TENSORFLOW) and self.kind in ("", CLIENT_LOOP)


def find_target(text: str, models: Path, model: str, flags: Sequence[str] = (), signature: str = "",
                grappler: bool = True) -> Target:
    """The target `variant`, `backend:variant`, `variant@engine` or `backend:variant@engine` of models/<model>.

    Raises UserError if it or a version is missing, or if the engine cannot run the version.
    """
    backend, _, rest = text.rpartition(":")
    backend = backend or "embedded"
    variant, engine = engines.named(rest)
    if backend not in SERVERS + IN_PROCESS:
        raise UserError(f"no backend '{backend}' in '{text}': choose from {', '.join(SERVERS + IN_PROCESS)}")
    if backend == "predictor" and engine not in ("", TENSORFLOW):
        raise UserError(f"{text}: a predictor is TensorFlow's own; session:{rest} measures {engine} without a server")
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
    engines.refuse_unable(text, engine, backend in (*IN_PROCESS, "embedded"), version, signature or DEFAULT_SIGNATURE)
    return Target(text, model, backend, base.resolve(), flags=tuple(flags), signature=signature, grappler=grappler,
                  engine=engine)


def running_targets(urls: Sequence[str], grpcs: Sequence[str], model: str,
                    access: Access | None = None) -> list[Target]:
    """Servers that already run. The n-th gRPC address belongs to the same server as the n-th URL."""
    pairs = zip_longest(urls, grpcs)
    return [Target(url or grpc or "", model, "address", rest=url, grpc=grpc, access=access) for url, grpc in pairs]
