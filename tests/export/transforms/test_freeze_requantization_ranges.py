import pytest
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_oracle import ORACLE

from export.tensors import to_array
from export.transform import TransformError

NAME = "freeze_requantization_ranges"
R = tf.raw_ops


def _graph():
    """y = x quantized to 32 bits and requantized to 8 by the range that the node 'range' finds."""
    def make():
        x = tf.compat.v1.placeholder(tf.float32, (None,), "x")
        wide = R.QuantizeV2(input=x, min_range=-100.0, max_range=100.0, T=tf.qint32, mode="MIN_FIRST")
        found = R.RequantizationRange(input=wide.output, input_min=wide.output_min, input_max=wide.output_max,
                                      name="range")
        narrow = R.Requantize(input=wide.output, input_min=wide.output_min, input_max=wide.output_max,
                              requested_output_min=found.output_min, requested_output_max=found.output_max,
                              out_type=tf.quint8)
        R.Dequantize(input=narrow.output, min_range=narrow.output_min, max_range=narrow.output_max, mode="MIN_FIRST",
                     name="y")
    return build(make)


def _line(low, high, name="range"):
    return f"W0000 00:00 logging_ops.cc:79] ;{name}__print__;__requant_min_max:[{low}][{high}]\n"


def _frozen(graph_def):
    return tuple(float(to_array(node.attr["value"].tensor)) for node in graph_def.node
                 if node.name in ("range/frozen_min", "range/frozen_max"))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-50, 0, width=32), st.floats(0, 50, width=32)), min_size=1, max_size=40),
       st.integers(0, 50), st.integers(0, 50))
def test_the_ranges_of_the_tool(tmp_path_factory, limits: list[tuple[float, float]], low: int, high: int):
    log = tmp_path_factory.getbasetemp() / "ranges.log"
    log.write_text("other text [1][2]\n" + "".join(_line(*pair) for pair in limits) + ";a;b;__requant_min_max:[1]\n")
    text = f'{NAME}(min_max_log_file="{log}", min_percentile={low}, max_percentile={high})'
    graph_def = _graph()
    ours, report = transformed(graph_def, ["x"], ["y"], text)
    tool = ORACLE.transform(graph_def, ["x"], ["y"], text)
    assert report.steps[0].applied == 1
    assert _frozen(ours) == _frozen(tool)
    assert "RequantizationRange" not in ops(ours)
    assert compared(tool, ours, ["y"], {"x": seeded((20,))}).equal


def test_from_log_to_frozen_graph(tmp_path, capfd):
    """Logs a run and freezes the logged ranges; the answer is the same, without measuring ranges."""
    graph_def = _graph()
    logged, _ = transformed(graph_def, ["x"], ["y"],
                            'insert_logging(op=RequantizationRange, show_name=true, message="__requant_min_max:")')
    feeds = {"x": seeded((50,))}
    session_run(logged, ["y"], feeds)
    log = tmp_path / "ranges.log"
    log.write_text(capfd.readouterr().err)
    frozen, report = transformed(graph_def, ["x"], ["y"], f"{NAME}(min_max_log_file={log})")
    assert report.steps[0].applied == 1
    assert compared(graph_def, frozen, ["y"], feeds).equal


def test_percentiles_leave_out_the_extremes(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(_line(-number, number) for number in range(1, 21)))
    after, _ = transformed(_graph(), ["x"], ["y"],
                           f"{NAME}(min_max_log_file={log}, min_percentile=10, max_percentile=20)")
    assert _frozen(after) == (-18.0, 17.0)
    after, _ = transformed(_graph(), ["x"], ["y"],
                           f"{NAME}(min_max_log_file={log}, min_percentile=100, max_percentile=100)")
    assert _frozen(after) == (-1.0, 1.0)


def test_other_lines_of_the_log_are_ignored(tmp_path):
    log = tmp_path / "log"
    log.write_text(_line("nan", "inf") + _line("a", "b") + "\xff\n" + _line(-2, 3), encoding="latin-1")
    after, _ = transformed(_graph(), ["x"], ["y"], f"{NAME}(min_max_log_file={log})")
    assert _frozen(after) == (-2.0, 3.0)


@pytest.mark.parametrize(("content", "message"), [
    (None, "No such file"),
    ("nothing\n", "no ranges in min_max_log_file"),
    (_line(-1, 1, "rang"), r"the log names node 'rang', which is not in the graph \(did you mean 'range'"),
    (_line(-1, 1, "x"), "node 'x' of the log is Placeholder, not RequantizationRange"),
])
def test_a_log_that_does_not_fit_is_an_error(tmp_path, content, message):
    log = tmp_path / "log"
    if content is not None:
        log.write_text(content)
    with pytest.raises(TransformError, match=message):
        transformed(_graph(), ["x"], ["y"], f"{NAME}(min_max_log_file={log})")


def test_needs_a_log():
    with pytest.raises(TransformError, match="needs min_max_log_file"):
        transformed(_graph(), ["x"], ["y"], NAME)


def test_refuses_a_requested_range(tmp_path):
    log = tmp_path / "log"
    log.write_text(_line(-1, 1))
    graph_def = _graph()
    after, report = transformed(graph_def, ["x"], ["y", "range:1"], f"{NAME}(min_max_log_file={log})")
    assert reasons(report) == ["it is itself a requested input or output"]
    assert after == graph_def


def test_nodes_that_waited_for_the_range_wait_for_the_constants(tmp_path):
    log = tmp_path / "log"
    log.write_text(_line(-1, 1))
    graph_def = _graph()
    graph_def.node.add(name="late", op="NoOp", input=["^range"])
    after, _ = transformed(graph_def, ["x"], ["y", "late"], f"{NAME}(min_max_log_file={log})")
    assert list(after.node[-3].input) == ["^range/frozen_min"]
