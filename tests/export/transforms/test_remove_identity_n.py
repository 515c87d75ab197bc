from graph_session import build, compared, ops, reasons, tf, transformed

v1 = tf.compat.v1


def test_readers_of_identity_n_read_its_inputs():
    def make():
        x = v1.placeholder(tf.float32, [2], "x")
        a, b = tf.raw_ops.IdentityN(input=[x * 2.0, x + 1.0])
        tf.subtract(a, b, name="y")
    before = build(make)
    after, _ = transformed(before, ["x"], ["y"], "remove_identity_n")
    assert "IdentityN" not in ops(after)
    assert compared(before, after, ["y"], {"x": [1.0, 2.0]}).equal
    kept, report = transformed(before, ["x"], ["y", "IdentityN:1"], "remove_identity_n")
    assert ops(kept)["IdentityN"] == 1
    assert reasons(report) == ["it is a requested input or output"]


def test_identity_n_that_others_wait_for_stays():
    def make():
        a, _ = tf.raw_ops.IdentityN(input=[v1.placeholder(tf.float32, [2], "x"), tf.constant(2.0)])
        with tf.control_dependencies([a]):
            tf.constant(3.0, name="y")
    _, report = transformed(build(make), ["x"], ["y"], "remove_identity_n")
    assert reasons(report) == ["it orders other nodes by control inputs"]
