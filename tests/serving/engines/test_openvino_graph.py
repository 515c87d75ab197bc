"""How a graph of OpenVINO is run: turns and deadlines, threads, and the memory of large requests."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino_models
import pytest
from graph_session import seeded
from openvino_models import images, loaded, scores

from export.runtime import tf
from serving.engines import openvino_graph
from serving.errors import Code, ServingError
from serving.memory import MemoryLimit

ROOT = Path(__file__).resolve().parents[3]
v1 = tf.compat.v1


def test_a_request_waits_for_its_turn_until_its_deadline(path: Path) -> None:
    made = loaded(path)
    graph = made._graphs[0]
    with graph._pool.worker(None), pytest.raises(ServingError, match="Timed out") as refused:
        scores(made, images(1), timeout_s=0.01)
    assert refused.value.code is Code.DEADLINE_EXCEEDED
    assert scores(made, images(1), timeout_s=60).shape == (1, 5)
    made.close()


def slow() -> None:
    x = v1.placeholder(tf.float32, (None, 64), "x")
    y = x
    for index in range(300):
        y = tf.nn.relu(tf.matmul(y, tf.constant(seeded((64, 64), index) / 8)))
    tf.identity(y, "y")


def test_a_run_ends_at_its_deadline(tmp_path: Path) -> None:
    made = loaded(openvino_models.write(tmp_path / "1", slow, {"s": ({"x": "x"}, {"y": "y"})}))
    x = seeded((20_000, 64))
    with pytest.raises(ServingError, match="Timed out") as refused:
        scores(made, x, timeout_s=1e-6)
    assert refused.value.code is Code.DEADLINE_EXCEEDED
    with pytest.raises(ServingError, match="Timed out"):
        scores(made, x, timeout_s=0.02)
    np.testing.assert_allclose(scores(made, x[:2], 60), openvino_models.answers(x[:2], nodes=slow), rtol=1e-3)
    made.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_with_a_timeout_of_zero_only_what_is_known_to_be_quick_is_run(path: Path, threads: int) -> None:
    made = loaded(path, threads=threads)
    with pytest.raises(ServingError, match="Timed out"):
        scores(made, images(1), timeout_s=0)
    made._graphs[0]._pace.quick_bytes = images(1).nbytes
    assert scores(made, images(1), timeout_s=0).shape == (1, 5)
    made.close()


def test_a_graph_whose_work_depends_on_values_is_never_quick(tmp_path: Path) -> None:
    def nodes() -> None:
        tf.tile(v1.placeholder(tf.float32, (None, 4), "x"), v1.placeholder(tf.int32, (2,), "n"), name="y")
    tiled = loaded(openvino_models.write(tmp_path / "1", nodes, {"s": ({"x": "x", "n": "n"}, {"y": "y"})}))
    x, n = np.ones((1, 4), np.float32), np.array([2, 1], np.int32)
    for _ in range(20):
        assert tiled.run(["x:0", "n:0"], [x, n], ["y:0"])[0].shape == (2, 4)
    assert tiled._graphs[0]._pace.quick_bytes == -1
    tiled.close()


def test_a_request_that_memory_has_no_room_for_is_refused(path: Path) -> None:
    made = loaded(path, memory=MemoryLimit(100_000))
    assert scores(made, images(64)).shape == (64, 5)
    with pytest.raises(ServingError, match="a request of 4096 examples would take some") as refused:
        scores(made, images(4096))
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    made.close()


def test_what_a_very_large_request_took_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loaded(path)
    wanted = openvino_models.answers(images(60_000))
    scores(made, images(2))  # the first run of a process takes memory that has nothing to do with the request
    monkeypatch.setattr(openvino_graph, "worth_keeping", lambda taken: taken <= 4 << 20)
    graph, released = made._graphs[0], []
    real = graph._compiled.release_memory
    monkeypatch.setattr(type(graph._compiled), "release_memory", lambda self: released.append(real()))
    scores(made, images(3))
    assert not released
    np.testing.assert_allclose(scores(made, images(60_000)), wanted, atol=1e-6)
    assert len(released) == 1
    np.testing.assert_allclose(scores(made, images(3)), openvino_models.answers(images(3)), atol=1e-6)
    assert len(released) == 1
    made.close()


def test_many_batch_sizes_do_not_take_memory_each(path: Path) -> None:
    """In a process of its own. Without a limit each size would keep its kernels: 0.2 MB with these few layers."""
    code = ("import sys; sys.path.insert(0, 'tests/support')\n"
            "import json, psutil, numpy as np; from pathlib import Path\n"
            "from serving.engines import openvino_graph\n"
            "from serving.engines.openvino_files import read_openvino_files\n"
            "from serving.memory import MemoryLimit\n"
            "openvino_graph._SIZES_KEPT = int(sys.argv[2])\n"
            "graph = openvino_graph.Graph(read_openvino_files(Path(sys.argv[1])).graphs[0], 'float32',\n"
            "                             openvino_graph.Resources(1, 1, MemoryLimit(-1)))\n"
            "big, process, found = np.ones((500, 6, 6, 3), np.float32), psutil.Process(), []\n"
            "for last in (500, 200, 350, 500):\n"
            "    for size in range(last - 149, last + 1): graph.run([big[:size]], [0], None, None)\n"
            "    found.append(process.memory_info().rss)\n"
            "print(json.dumps(found))\n")

    def grown(kept: int) -> int:
        done = subprocess.run([sys.executable, "-c", code, str(path), str(kept)], cwd=ROOT, capture_output=True,
                              text=True, check=True)
        first, *_, last = json.loads(done.stdout)
        return int(last - first)
    limited, unlimited = grown(openvino_graph._SIZES_KEPT), grown(100_000)
    assert limited < 0.7 * unlimited, (limited, unlimited)


def wide() -> None:
    x = v1.placeholder(tf.float32, (None, 32, 32, 3), "x")
    y = tf.nn.relu(tf.nn.conv2d(x, seeded((3, 3, 3, 64)), 1, "SAME"))
    tf.reduce_mean(tf.nn.conv2d(y, seeded((3, 3, 64, 8)), 4, "SAME"), [1, 2], name="y")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_after_a_request_without_memory_others_are_answered(tmp_path: Path, threads: str) -> None:
    """In a process of its own, whose address space ends soon, and without the limit that would refuse the request."""
    path = openvino_models.write(tmp_path / "1", wide, {"s": ({"x": "x"}, {"y": "y"})})
    code = ("import resource, sys; from pathlib import Path; import numpy as np\n"
            "from serving.engines.openvino_files import read_openvino_files\n"
            "from serving.engines.openvino_graph import Graph, Resources\n"
            "from serving.errors import Code, ServingError\n"
            "from serving.memory import MemoryLimit\n"
            "graph = Graph(read_openvino_files(Path(sys.argv[1])).graphs[0], 'float32',\n"
            "              Resources(int(sys.argv[2]), 1, MemoryLimit(-1)))\n"
            "x = np.ones((3000, 32, 32, 3), np.float32)\n"
            "before = graph.run([x[:2]], [0], None, None)[0]\n"
            "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
            "resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)\n"
            "for timeout_s in (None, 60, None):\n"
            "    try: graph.run([x], [0], timeout_s, None)\n"
            "    except ServingError as error: assert error.code is Code.RESOURCE_EXHAUSTED, error\n"
            "    else: raise AssertionError('there was memory, or the error was hidden')\n"
            "    assert (graph.run([x[:2]], [0], timeout_s, None)[0] == before).all()\n"
            "print('answered')\n")
    done = subprocess.run([sys.executable, "-c", code, str(path), threads], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert (done.stdout, done.returncode) == ("answered\n", 0), done.stderr


def test_threads_are_those_that_it_is_given(path: Path) -> None:
    """OpenVINO alone would take all CPUs of the machine. A stream has one thread at least."""
    for threads, streams, wanted in ((1, 1, 1), (2, 1, 2), (2, 2, 2), (1, 2, 2)):
        made = loaded(path, streams, threads=threads)
        graph = made._graphs[0]
        assert graph._settings["INFERENCE_NUM_THREADS"] == wanted
        assert graph._compiled.get_property("INFERENCE_NUM_THREADS") == min(wanted, len(os.sched_getaffinity(0)))
        assert scores(made, images(2)).shape == (2, 5)
        made.close()


def test_with_one_cpu_nothing_runs_where_errors_are_hidden(path: Path) -> None:
    """However many threads are asked for, OpenVINO then has one."""
    code = ("import os, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
            "from pathlib import Path\n"
            "from serving.engines.openvino_files import read_openvino_files\n"
            "from serving.engines.openvino_graph import Graph, Resources\n"
            "from serving.memory import MemoryLimit\n"
            "files = read_openvino_files(Path(sys.argv[1])).graphs[0]\n"
            "print(Graph(files, 'float32', Resources(2, 1, MemoryLimit(-1)))._may_run_here)\n")
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
