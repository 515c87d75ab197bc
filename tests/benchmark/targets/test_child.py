"""Child processes: they end when their parent ends, and errors give the reason why a child ended."""
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic

import psutil
import pytest

from benchmark.targets import starting
from benchmark.targets.child import PORTS, Child, Container, PortTakenError, free_ports
from benchmark.targets.starting import Instance
from benchmark.targets.target import Target
from user_error import UserError


def _python(code: str) -> Child:
    return Child("test child", [sys.executable, "-c", code])


def test_ports_are_free_different_and_not_ephemeral() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        assert port in PORTS
        with socket.socket() as each:
            each.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("code", "words"), [
    ("import sys; sys.exit('error: no such model')", "exit status 1): error: no such model"),
    ("import sys; print('2026-11-22 02:56:04,702 I Exporting HTTP/REST API'); sys.exit(3)",
     "exit status 3): its log does not say why"),
    ("import sys; sys.exit('error: no such model\\nerror: the server ended, with status 1; its reason is above')",
     "exit status 1): error: no such model"),
    ("import os; os.kill(os.getpid(), 9)", "signal SIGKILL): its log does not say why; was memory short")])
def test_the_error_for_a_child_that_ended_gives_the_reason(code: str, words: str) -> None:
    with _python(code) as child, pytest.raises(UserError) as caught:
        child.wait_until(lambda: False, 60, "while it was tested")
    assert words in str(caught.value)
    assert str(caught.value).startswith("the test child died while it was tested (")


def test_a_child_that_is_never_ready_is_stopped() -> None:
    with _python("import time; time.sleep(60)") as child, pytest.raises(UserError, match=r"was not ready after 0\.2 s"):
        child.wait_until(lambda: False, 0.2, "while it was tested")
    assert not child.alive


def test_a_child_that_ignores_sigterm_is_killed_with_its_own_children() -> None:
    code = ("import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
            "print('ready', child.pid, flush=True); time.sleep(60)")
    child = Child("test child", [sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.process.stdout is not None
    grandchild = int(child.process.stdout.readline().split()[1])
    child.stop(0.2)
    child.process.stdout.close()
    _gone(grandchild)


def test_a_container_on_another_machine_has_no_resident_memory_here(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with Container("test child", [sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        assert child.resident_bytes() is None
        # Here the test child stands for the container's process. It has no children, whose memory would be added.
        docker.write_text(f"#!/bin/sh\necho {child.process.pid}\n")
        assert child.resident_bytes() == pytest.approx(psutil.Process(child.process.pid).memory_info().rss, rel=0.5)


def test_children_do_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = ("import sys, time; from benchmark.targets.child import Child; "
            "child = Child('x', [sys.executable, '-c', 'import time; time.sleep(60)']); "
            "print(child.process.pid, flush=True); time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _gone(child)


def _gone(pid: int) -> None:
    deadline = monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert monotonic() < deadline


def test_if_a_port_is_taken_before_the_server_binds_it_another_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = "import sys; sys.exit('error: Failed to start server: 127.0.0.1:1 cannot be bound')"
    codes = [taken, taken, "import time; time.sleep(60)"]

    class ReadyWhenItSleeps(Instance):
        def wait(self) -> None:
            assert self.child is not None
            self.child.wait_until(lambda: "sleep" in self.child.argv[-1], 60, "while loading")  # type: ignore[union-attr]

    def start(target: Target) -> Instance:
        return ReadyWhenItSleeps(target, _python(codes.pop(0)), None, None)
    monkeypatch.setattr(starting, "start", start)
    with starting.start_all([Target("a", "m")], 1) as instances:
        assert instances["a"][0].child is not None
        assert instances["a"][0].child.alive
    assert codes == []
    codes += [taken] * 9
    with pytest.raises(PortTakenError), starting.start_all([Target("a", "m")], 1):
        pass


def test_a_process_is_waited_for_until_its_threads_are_idle(tmp_path: Path) -> None:
    stop, ready = tmp_path / "stop", tmp_path / "ready"
    code = (f"import pathlib, threading, time\n"
            f"def spin():\n"
            f"    while not pathlib.Path({str(stop)!r}).exists(): pass\n"
            f"threading.Thread(target=spin).start()\n"
            f"pathlib.Path({str(ready)!r}).touch()\n"
            f"time.sleep(60)\n")
    with _python(code) as child:
        child.wait_until(ready.exists, 30, "while it began to spin")
        busy = sum(_settled_after(child, 0.1) for _ in range(10))  # where it gets no core it seems idle
        stop.touch()
        child.settle(most_s=30)
        idle = sum(_settled_after(child, 0.1) for _ in range(10))
        assert busy > 2 * idle


def _settled_after(child: Child, most_s: float) -> float:
    began = monotonic()
    child.settle(most_s)
    return monotonic() - began


def test_a_process_that_is_gone_is_not_waited_for() -> None:
    with _python("") as child:
        child.process.wait(30)
        began = monotonic()
        child.settle(most_s=30)
        assert monotonic() - began < 15
