"""TensorBoard's "capture profile" against a server: a trace is written, for clients on this machine only."""
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from serving.profiler import _CLASSES, Profiler


class RefusedError(Exception):
    """The exception that grpcio raises when a call is aborted."""


def context(peer: str) -> Any:
    def abort(code: grpc.StatusCode, text: str) -> None:
        raise RefusedError(code, text)

    return SimpleNamespace(peer=lambda: peer, abort=abort)


def ask(profiler: Profiler, peer: str = "ipv4:127.0.0.1:5", **fields: Any) -> Any:
    handle = profiler.handlers()["Profile"].unary_unary
    assert handle is not None
    request = _CLASSES["ProfileRequest"](**fields)
    return _CLASSES["ProfileResponse"].FromString(handle(request.SerializeToString(), context(peer)))


def test_a_trace_is_written_to_the_directory_that_the_client_names(tmp_path: Path) -> None:
    answer = ask(Profiler(threading.Event()), duration_ms=50, repository_root=str(tmp_path / "p"), session_id="s",
                 host_name="me")
    assert not answer.empty_trace
    assert (tmp_path / "p" / "s" / "me.xplane.pb").stat().st_size > 0


@pytest.mark.parametrize(("peer", "fields", "code", "text"), [
    ("ipv4:10.0.0.1:5", {"duration_ms": 1}, grpc.StatusCode.PERMISSION_DENIED, "for clients on that machine only"),
    ("ipv6:[2001:db8::1]:5", {"duration_ms": 1}, grpc.StatusCode.PERMISSION_DENIED, "for clients on that machine only"),
    ("unix:", {"duration_ms": 0}, grpc.StatusCode.INVALID_ARGUMENT, "duration_ms has to be 1 to 600000; was 0"),
    ("unix:", {"duration_ms": 1, "repository_root": "p", "session_id": "s"}, grpc.StatusCode.INVALID_ARGUMENT,
     "repository_root has to be an absolute path, and session_id a name; they were 'p' and 's'"),
    ("unix:", {"duration_ms": 1, "repository_root": "/p", "session_id": "../s"}, grpc.StatusCode.INVALID_ARGUMENT,
     "session_id a name"),
])
def test_what_is_refused(peer: str, fields: dict[str, Any], code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        ask(Profiler(threading.Event()), peer, **fields)
    assert refused.value.args[0] is code
    assert text in refused.value.args[1]


def test_one_profile_at_a_time(tmp_path: Path) -> None:
    stopping = threading.Event()
    profiler = Profiler(stopping)
    with profiler._busy, pytest.raises(RefusedError, match="another profile is being taken"):
        ask(profiler, duration_ms=1, repository_root=str(tmp_path), session_id="s")
