import numpy as np
import pytest
from graph_session import compared, ops, reasons, seeded, session_run, tf, transformed
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm_graphs import INPUTS, ORDERS, UNITS, lstm, two_lstms

from export.transforms.fork_lstm import INSIDE
from export.variables import LOOPS

v1 = tf.compat.v1
FORK = "fork_lstm(most=450)"  # with 112 weights: for up to four rows
OUTPUTS = ("y", "hidden", "cell")


def forked(graph_def, outputs=OUTPUTS, inputs=("x",), count=1, transforms=FORK):
    after, report = transformed(graph_def, list(inputs), list(outputs), transforms)
    assert report.steps[-1].applied == count, reasons(report)
    return after


def equal(before, after, outputs=OUTPUTS, rows=(1, 4, 5, 9), steps=5):
    return all(compared(before, after, outputs, {"x": seeded((number, steps, INPUTS), number)}).equal
               for number in rows)


@settings(max_examples=12, derandomize=True, deadline=None)
@given(options=st.fixed_dictionaries({
    "every": st.booleans(), "order": st.sampled_from(ORDERS), "joined": st.booleans(), "swapped": st.booleans(),
    "bias": st.sampled_from(("BiasAdd", "AddV2", "")), "steps": st.sampled_from((None, 1, 5))}))
def test_block_and_loop_give_the_answer(options):
    graph_def = lstm(**options)
    after = forked(graph_def)
    assert (ops(after)["BlockLSTMV2"], ops(after)["StatelessWhile"]) == (1, 1)
    assert equal(graph_def, after, steps=options["steps"] or 5)


def test_the_block_is_for_few_rows_and_the_loop_for_more():
    graph_def = lstm()
    after = forked(graph_def)
    # A block that answers zeros shows where it is used.
    weights = next(node for node in after.node if node.name.endswith("block/weights"))
    weights.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.zeros((INPUTS + UNITS, 4 * UNITS), np.float32)))
    assert [equal(graph_def, after, ("hidden",), (rows,)) for rows in (1, 4, 5, 9)] == [False, False, True, True]


@pytest.mark.parametrize("every", [True, False])
def test_without_rows(every):
    graph_def = lstm(every=every)
    assert equal(graph_def, forked(graph_def), rows=(0,))


def test_without_steps_the_loop_answers():
    graph_def = lstm(steps=None)
    after = forked(graph_def, ("hidden", "cell"))
    assert equal(graph_def, after, ("hidden", "cell"), rows=(2,), steps=0)


@pytest.mark.parametrize("steps", [5, None])
def test_an_lstm_that_reads_the_states_of_another(steps):
    graph_def = two_lstms(steps)  # the second with 128 weights: for up to three rows
    after = forked(graph_def, ("second/y",), count=2)
    assert equal(graph_def, after, ("second/y",))


def test_first_states_of_known_shape():
    graph_def = lstm(rows=3, change={"first": lambda _: tf.constant(seeded((3, UNITS)))})
    assert equal(graph_def, forked(graph_def), rows=(3,))


def printed(result, cell, *_):
    with tf.control_dependencies([tf.print("a step")]):
        return tf.identity(result), cell


@pytest.mark.parametrize(("reason", "options"), [
    ("its type is not float32", {"dtype": tf.float64}),
    ("its weights are not constant", {"change": {
        "weights": lambda one: one * v1.placeholder_with_default(np.float32(1), (), "factor")}}),
    ("its loop does more with the states than to keep them, such as a mask", {"change": {
        "next": lambda result, cell, hidden, time: (tf.where(time < 3, result, hidden), cell)}}),
    ("its cell state is not that of the step before", {"change": {
        "next": lambda result, cell, hidden, time: (cell, result)}}),
    ("it adds the result of Sigmoid", {"change": {"sum": lambda one, _: one + tf.sigmoid(one)}}),
    ("its loop has effects", {"change": {"next": printed}}),
    ("it keeps more than its hidden states", {"change": {"kept": lambda result: -result}}),
    ("what it adds is no bias", {"change": {"sum": lambda one, _: one + tf.constant(seeded((1, 4 * UNITS)))}}),
    ("it multiplies its input or its hidden state twice", {"change": {
        "sum": lambda one, step: one + tf.matmul(step, tf.constant(seeded((INPUTS, 4 * UNITS))))}}),
    ("the number of its turns is not that of its steps", {"change": {"turns": lambda time, _: time < 4}}),
    ("the number of its turns is not that of its steps", {"steps": None, "change": {
        "turns": lambda time, _: time < 4}}),
    ("its loop may end before the last step", {"change": {
        "turns": lambda time, count: tf.logical_or(time < count, time < 2)}}),
    ("its first states may have another shape than its later ones", {"change": {
        "first": lambda _: v1.placeholder(tf.float32, (None, UNITS), "state")}}),
    ("its first states may have another shape than its later ones", {"change": {
        "first": lambda rows: tf.zeros((rows * 1, UNITS))}}),
    ("its first states may have another shape than its later ones", {"change": {"columns": 1}}),
    ("it does not multiply both its input and its hidden state", {"change": {
        "products": lambda step, hidden, kernel, recurrent, both: tf.matmul(step, kernel)}}),
    ("its weights do not have four columns per unit", {"change": {
        "products": lambda step, hidden, kernel, recurrent, both: tf.matmul(step, tf.constant(seeded((INPUTS, 1))))
        + tf.matmul(hidden, recurrent)}}),
    ("what it multiplies is not its input and its hidden state", {"change": {
        "products": lambda step, hidden, kernel, recurrent, both: tf.matmul(tf.concat((hidden, step), 1), both)}}),
    ("it does not read one step of a tensor per turn", {"change": {"place": lambda time: 4 - time}}),
    ("its input has no steps", {"steps": 0}),
    ("it keeps its hidden states at other places than their steps", {"every": True, "change": {
        "at": lambda time: 4 - time}}),
    ("its list has other places than for the hidden states", {"every": True, "change": {
        "places": lambda count: count + 1}}),
    ("it has 112 weights, and the block is for up to 111 (most)", {}),
])
def test_refusals(reason, options):
    graph_def = lstm(**options)
    transforms = "fork_lstm(most=111)" if "(most)" in reason else FORK
    after, report = transformed(graph_def, ["x"], ["hidden"], transforms)
    assert reasons(report) == [reason]
    assert ops(after) == ops(graph_def)


@pytest.mark.parametrize("change", [
    {"gate": tf.nn.relu}, {"candidate": tf.nn.softsign}])
def test_another_cell_is_left(change):
    _, report = transformed(lstm(change=change), ["x"], ["y"], FORK)
    assert (report.steps[0].applied, reasons(report)) == (0, [])


def loop_of(graph_def):
    return next(node for node in graph_def.node if node.op in LOOPS)


def test_what_is_requested_stays():
    graph_def = lstm()
    name = loop_of(graph_def).name
    _, report = transformed(graph_def, ["x"], [f"{name}:3"], FORK)
    assert reasons(report) == ["it is itself a requested input or output"]


@pytest.mark.parametrize("name", ["Const", "Const_1"])
def test_what_is_fed_stays(name):
    graph_def = lstm()
    assert any(node.name == name and node.op == "Const" for node in graph_def.node)
    _, report = transformed(graph_def, ["x", name], ["y"], FORK)
    assert reasons(report) == ["its weights are not constant"]


def test_a_transposed_factor():
    graph_def = lstm(units=3)
    for function in graph_def.library.function:
        for node in function.node_def:
            if node.op == "MatMul":
                node.attr["transpose_a"].b = True
    assert reasons(transformed(graph_def, ["x"], ["y"], FORK)[1]) == ["a factor of its products is transposed"]


def test_gates_that_are_split_by_rows():
    graph_def = lstm()
    for function in graph_def.library.function:
        for node in [node for node in function.node_def if node.op == "Split"]:
            node.input[0] = "rows:output:0"
            rows = function.node_def.add(name="rows", op="Const")
            rows.attr["dtype"].type = tf.int32.as_datatype_enum
            rows.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0))
    assert reasons(transformed(graph_def, ["x"], ["y"], FORK)[1]) == ["its gates are not split by columns"]


def test_more_loop_variables():
    graph_def = lstm(change={"also": lambda one: one * 2.0})
    assert reasons(transformed(graph_def, ["x"], ["y"], FORK)[1]) == ["its loop computes more than an LSTM"]


def test_another_result_of_the_loop_that_is_read():
    graph_def = lstm()
    counter = graph_def.node.add(name="turns", op="Identity", input=[f"{loop_of(graph_def).name}:2"])
    counter.attr["T"].type = tf.int32.as_datatype_enum
    _, report = transformed(graph_def, ["x"], ["y", "turns"], FORK)
    assert reasons(report) == ["'turns' reads another of its results"]


@pytest.mark.parametrize(("reason", "change"), [
    ("it is not on a CPU", lambda loop: setattr(loop, "device", "/device:GPU:0")),
    ("XLA compiles it", lambda loop: setattr(loop.attr["_XlaMustCompile"], "b", True))])
def test_where_it_runs(reason, change):
    graph_def = lstm()
    change(loop_of(graph_def))
    assert reasons(transformed(graph_def, ["x"], ["y"], FORK)[1]) == [reason]


def test_a_loop_that_waits_for_another():
    graph_def = two_lstms()
    first, second = (node for node in graph_def.node if node.op in LOOPS)
    second.input.append(f"^{first.name}")
    assert equal(graph_def, forked(graph_def, ("second/y",), count=2), ("second/y",))


def test_what_waits_for_the_loop_waits_for_either():
    graph_def = lstm()
    graph_def.node.add(name="after", op="NoOp", input=[f"^{loop_of(graph_def).name}"])
    y = next(node for node in graph_def.node if node.name == "hidden")
    y.input.append("^after")
    after = forked(graph_def)
    assert equal(graph_def, after)


def test_a_second_run_changes_nothing():
    once = forked(lstm())
    twice, report = transformed(once, ["x"], ["y"], FORK)
    assert reasons(report) == [INSIDE]
    assert ops(twice) == ops(once)


def test_in_a_branch_it_stays():
    graph_def = lstm()
    # What goes into the loop comes out of one side of a Switch.
    switch = graph_def.node.add(name="side", op="Switch", input=["x", "few"])
    switch.attr["T"].type = tf.float32.as_datatype_enum
    few = graph_def.node.add(name="few", op="Placeholder")
    few.attr["dtype"].type = tf.bool.as_datatype_enum
    for node in graph_def.node:
        if node.op == "Transpose" and node.input[0] == "x":
            node.input[0] = "side:1"
    _, report = transformed(graph_def, ["x", "few"], ["y"], FORK)
    assert reasons(report) == [INSIDE]


def test_the_answer_is_as_near_to_the_exact_one_as_the_loops():
    graph_def = lstm(steps=None)
    after = forked(graph_def)
    x = seeded((3, 200, INPUTS)) * 3
    exact = session_run(lstm(steps=None, dtype=tf.float64), ["hidden"], {"x": x.astype(np.float64)})["hidden"]
    errors = [np.abs(session_run(one, ["hidden"], {"x": x})["hidden"] - exact).max() for one in (graph_def, after)]
    assert errors[1] < 2 * errors[0] + 1e-6
