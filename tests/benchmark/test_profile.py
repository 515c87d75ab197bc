"""Flame graphs, instruction sets and time by operation: the pure functions, and a real trace of TensorFlow."""
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_saved_model import write_tiny_saved_model

import cpu_class
from benchmark.issuing import sampling
from benchmark.reports import flame
from benchmark.reports.profile import html, operation_rows
from benchmark.targets.target import Target

STACKS = ["main (a.py:1);run (a.py:2);_call (tensorflow/python/client/session.py:1483);futex (libc.so.6) 30",
          "main (a.py:1);parse (a.py:9) 10",
          "main (a.py:1);_find_and_load (<frozen importlib>:1);exec (b.py:1) 500", "not a stack",
          "0x7f (libc.so.6);main (a.py:1);_run (h.py:3);PyThread_acquire_lock_timed (libpython);0x7f (libc.so.6) 900",
          "0x7f (libc.so.6);main (a.py:1);run (a.py:2);__call__ (tensorflow/python/client/session.py:9);std::x (l) 4"]


def test_a_flame_graph_adds_up_and_leaves_out_imports_and_idle_threads() -> None:
    root = flame.tree(STACKS)
    assert root.samples == 44
    assert list(root.callees) == ["main (a.py:1)"]
    main = root.callees["main (a.py:1)"]
    assert main.samples == sum(callee.samples for callee in main.callees.values()) == 44
    assert flame.hottest(root) == [
        ("Session.run", 34), ("parse (a.py:9)", 10)]


def test_below_session_run_are_the_traced_operations_by_scope() -> None:
    root = flame.tree(STACKS)
    flame.with_operations(root, {"model;dense;MatMul;MatMul": 30.0, "model;dense;Relu;Relu": 10.0, "out;Add": 10.0})
    run = root.callees["main (a.py:1)"].callees["run (a.py:2)"].callees["Session.run"]
    assert run.samples == 34
    assert {name: frame.samples for name, frame in run.callees.items()} == pytest.approx({"model": 27.2, "out": 6.8})
    dense = run.callees["model"].callees["dense"]
    widths = {name: frame.samples for name, frame in dense.callees.items()}
    assert widths == pytest.approx({"MatMul": 20.4, "Relu": 6.8})
    assert root.samples == 44
    assert "Relu: 15.5%" in flame.svg(root)


def test_a_box_is_as_wide_as_its_share() -> None:
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', flame.svg(flame.tree(STACKS[:3])))]
    assert sorted(widths)[:2] == pytest.approx([0.25 * flame.WIDTH - 0.5, 0.75 * flame.WIDTH - 0.5])
    assert "parse (a.py:9): 25.0%" in flame.svg(flame.tree(STACKS[:3]))


def test_names_are_escaped() -> None:
    assert "std::vector&lt;int&gt;" in flame.svg(flame.tree(["std::vector<int> 3"]))


def test_instructions_are_read_from_the_logs() -> None:
    flags = {"avx", "avx2", "fma"}
    log = ("To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow\n"
           "onednn_verbose,v1,info,cpu,isa:Intel AVX2\n")
    assert sampling.instructions(log, flags) == {
        "cpu": ["AVX", "AVX2", "FMA"], "not_in_tensorflow_build": ["AVX2", "FMA"], "onednn": "Intel AVX2"}
    assert sampling.instructions("", flags)["onednn"] is None


def test_operations_of_both_targets_are_shown_side_by_side() -> None:
    before = [{"op": "Mul", "us": 5e3, "count": 2}, {"op": "X", "us": 1, "count": 1}]
    rows = operation_rows([before, [{"op": "Conv2D", "us": 9e3, "count": 3}]])
    assert rows == [("Conv2D", "", "", "9.000", "3"), ("Mul", "5.000", "2", "", ""), ("X", "0.001", "1", "", "")]


def test_tensorflow_traces_the_operations_of_a_model(tmp_path: Path) -> None:
    write_tiny_saved_model(tmp_path / "tiny/original/1")
    target = Target("original", "tiny", base_path=tmp_path / "tiny/original")
    inputs = {"x": np.ones((5, 4), np.float32)}
    (first, second), log = sampling.traced([target, replace(target, name="twin")], "", inputs, 3, True, tmp_path)
    ops, twin = first["operations"], second["operations"]
    assert any(stack.endswith("MatMul") for stack in first["scopes"])
    assert sum(first["scopes"].values()) > 0
    counts = {op["op"]: op["count"] for op in ops}
    assert any("MatMul" in op and count == 1 for op, count in counts.items())
    assert {op["op"]: op["count"] for op in twin} == counts
    assert (tmp_path / "twin.timeline.json").stat().st_size > 100
    found = sampling.instructions(log, cpu_class.flags())
    assert set(found["not_in_tensorflow_build"]) <= set(sampling.INSTRUCTIONS) | {"SSE3", "SSE4.1"}
    page = html({"profiles": [{"target": "original", "operations": ops, "flame": "<svg></svg>"}], "instructions": found,
                 "batch": 5, "model": "tiny", "inputs": "ones",
                 "environment": {"cpu": "x", "cpu_quota": 1.0, "time": "now"}})
    assert page.index("MatMul") < page.index("Flame graph")
