"""Models for tfserving.sh to host: halves and adds two, in the variants original and optimized."""
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tensorflow as tf

    root = tmp_path_factory.mktemp("models")
    for variant in ("original", "optimized"):
        module = tf.Module()
        module.scale = tf.Variable(0.5)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(x, module=module):
            return {"y": module.scale * x + 2.0}

        module.serve = serve
        tf.saved_model.save(module, str(root / "half" / variant / "7"), signatures=serve)
    # What a hosting script must not take for a version or a variant.
    (root / "half" / "original" / ".9.partial").mkdir()
    (root / "half" / "empty").mkdir()
    (root / "half" / "production").mkdir()
    return root
