"""Graphs of dense layers whose weights are large enough for fork_by_rows."""
from graph_session import build, seeded, tf

R, v1 = tf.raw_ops, tf.compat.v1


def dense(rows=None, inputs=512, columns=128, activation="Relu", bias="BiasAdd", dtype=tf.float32, **attrs):
    """y = activation(x @ W + b)"""
    def make():
        x = v1.placeholder(dtype, (inputs, rows) if attrs.get("transpose_a") else (rows, inputs), "x")
        shape = (columns, inputs) if attrs.get("transpose_b") else (inputs, columns)
        weights = tf.constant(seeded(shape) / 16, dtype, name="W")
        product = R.MatMul(a=x, b=weights, name="product", **attrs)
        addend = tf.constant(seeded((columns,), 1), dtype)
        added = {"BiasAdd": lambda: R.BiasAdd(value=product, bias=addend, name="added"),
                 "AddV2": lambda: R.AddV2(x=product, y=addend, name="added"), "": lambda: product}[bias]()
        (getattr(R, activation)(**{"x" if activation in ("Tanh", "Sigmoid") else "features": added}, name="y")
         if activation else tf.identity(added, "y"))
    return build(make)


def two_layers():
    """y1 = relu(relu(x @ W + b) @ V + c)"""
    def make():
        one = v1.placeholder(tf.float32, (None, 512), "x")
        for number, shape in enumerate(((512, 256), (256, 512))):
            weights, addend = tf.constant(seeded(shape, number) / 16), tf.constant(seeded(shape[1:], number))
            one = tf.nn.relu(tf.nn.bias_add(tf.matmul(one, weights), addend), name=f"y{number}")
    return build(make)


def loop(inside=True):
    """y = x, three times relu(x @ W + b); the weights are constants `inside` the loop, or come into it."""
    def make():
        def weights():
            return tf.constant(seeded((256, 256)) / 16, name="W"), tf.constant(seeded((256,)), name="b")

        def turn(number, one):
            factor, addend = weights() if inside else outer
            return number + 1, tf.nn.relu(tf.nn.bias_add(tf.matmul(one, factor), addend))
        x, outer = v1.placeholder(tf.float32, (None, 256), "x"), None if inside else weights()
        tf.identity(v1.while_loop(lambda number, _: number < 3, turn, [0, x])[1], "y")
    return build(make)
