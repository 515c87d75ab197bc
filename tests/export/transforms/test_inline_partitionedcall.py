import pytest
from graph_session import build, compared, ops, reasons, seeded, session_run, tf, transformed
from transform_oracle import ORACLE

v1 = tf.compat.v1
NAME = "inline_partitionedcall"


@tf.function
def inner(x, y):
    return x * 2.0 + y, tf.reduce_sum(x)


@tf.function
def outer(x):
    first, total = inner(x, tf.constant([1.0, 2.0]))
    second, _ = inner(first, x * total)
    return tf.identity(second), total


def nested():
    first, second = outer(v1.placeholder(tf.float32, [2], "x"))
    tf.identity(first, "y")
    tf.identity(second, "z")


def test_nested_and_shared_functions_are_inlined():
    before = build(nested)
    after, _ = transformed(before, ["x"], ["y", "z"], NAME)
    assert "PartitionedCall" not in ops(after)
    assert ops(after)["AddV2"] == 2
    assert not after.library.function
    assert compared(before, after, ["y", "z"], {"x": [1.0, 2.0]}).equal
    tool = ORACLE.transform(before, ["x"], ["y", "z"], NAME)
    assert compared(tool, after, ["y", "z"], {"x": [1.0, 2.0]}).equal


def test_a_requested_call_keeps_its_tensors():
    def make():
        outer(v1.placeholder(tf.float32, [2], "x"))
    before = build(make)
    outputs = ["PartitionedCall", "PartitionedCall:1"]
    after, _ = transformed(before, ["x"], outputs, "default")
    assert compared(before, after, outputs, {"x": [1.0, 2.0]}).equal


def counting():
    variable = v1.Variable(10.0, use_resource=True, name="v")
    tf.group(variable.initializer, name="init")

    @tf.function
    def count(x):
        variable.assign_add(x)
        return x + 1.0
    x = v1.placeholder(tf.float32, [], "x")
    tf.identity(count(x), "y")
    with tf.control_dependencies([count(x * 2.0)]):
        tf.identity(variable.read_value(), "after")


def test_effects_happen_once_and_before_the_calls_readers():
    before = build(counting)
    after, _ = transformed(before, ["x"], ["y", "after", "init"], "default")
    assert "StatefulPartitionedCall" not in ops(after)
    for graph_def in (before, after):
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
        with v1.Session(graph=graph) as session:
            session.run("init")
            assert session.run("y:0", {"x:0": 5.0}) == 6.0
            assert session.run("after:0", {"x:0": 0.0}) == 15.0
            assert session.run("after:0", {"x:0": 1.0}) == 17.0


def test_nodes_that_the_call_waited_for_run_first():
    def make():
        x = v1.placeholder(tf.float32, [2], "x")
        with tf.control_dependencies([tf.raw_ops.Assert(condition=tf.reduce_all(x > 0), data=[x])]):
            result, _ = outer(x)
        tf.identity(result, "y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], NAME)
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal
    with pytest.raises(tf.errors.InvalidArgumentError):
        session_run(after, ["y"], {"x": [-1.0, 2.0]})


def test_calls_in_the_bodies_of_loops_and_branches_are_inlined_too():
    @tf.function
    def repeated(x):
        _, result = tf.while_loop(lambda i, _: i < 3, lambda i, value: (i + 1, inner(value, x)[0]), [tf.constant(0), x])
        return tf.cond(tf.reduce_sum(result) > 0, lambda: inner(result, result)[0], lambda: result)

    def make():
        tf.identity(repeated(v1.placeholder(tf.float32, [2], "x")), "y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "default")
    assert not any("PartitionedCall" in item.op for function in after.library.function for item in function.node_def)
    assert after.library.function
    for sign in (1.0, -1.0):
        assert compared(before, after, ["y"], {"x": [sign, 2.0 * sign]}).equal


def test_every_transform_works_in_the_bodies_of_loops():
    def step(i, value):
        product = tf.matmul(value, tf.constant(seeded([3, 3], 1))) * tf.constant(seeded([3], 2))
        return i + 1, tf.identity(product) + tf.sqrt(tf.constant([4.0, 9.0, 16.0]))

    def make():
        _, result = tf.while_loop(lambda i, _: i < 2, step, [tf.constant(0), v1.placeholder(tf.float32, [2, 3], "x")])
        tf.identity(result, "y")
    before = build(make)
    after, report = transformed(before, ["x"], ["y"], "default")
    bodies = [item.op for function in after.library.function for item in function.node_def]
    assert "MatMul" in bodies
    assert not {"Mul", "Sqrt"} & set(bodies)
    assert (bodies.count("BiasAdd"), bodies.count("AddV2")) == (1, 2)  # the bias; the loop's two counters
    assert compared(before, after, ["y"], {"x": seeded([2, 3])}).equal
    assert all(step.error == "" for step in report.steps)


def test_refuses_a_missing_function():
    before = build(nested)
    del before.library.function[:]
    _, report = transformed(before, ["x"], ["y", "z"], NAME)
    assert "is not in the library" in reasons(report)[0]


def test_refuses_recursion():
    before = build(nested)
    for function in before.library.function:
        for item in function.node_def:
            if item.op == "PartitionedCall":
                item.attr["f"].func.name = function.signature.name
                del item.input[1:]
                del item.attr["Tin"].list.type[1:]
    _, report = transformed(before, ["x"], ["y", "z"], NAME)
    assert any("calls itself" in reason for reason in reasons(report))


def test_refuses_what_is_compiled_as_one_unit():
    def make():
        tf.identity(tf.function(lambda x: x + 1.0, jit_compile=True)(v1.placeholder(tf.float32, [2], "x")), "y")
    after, report = transformed(build(make), ["x"], ["y"], NAME)
    assert any("compiled as one unit" in reason for reason in reasons(report))
    assert any("PartitionedCall" in op for op in ops(after))


def test_a_call_in_a_v1_loop_stays_in_it():
    from graph_session import v1_control_flow

    @tf.function
    def grow(x):
        return x * tf.constant([2.0, 3.0]) + tf.ones([2])
    grow.get_concrete_function(tf.TensorSpec([2]))

    def make():
        x = v1.placeholder(tf.float32, [2], "x")
        loop = v1.while_loop(lambda i, _: i < 3, lambda i, value: (i + 1, grow(value)), [0, x])
        tf.identity(loop[1], "y")
    with v1_control_flow():
        before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "default")
    assert "PartitionedCall" not in ops(after)
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal
