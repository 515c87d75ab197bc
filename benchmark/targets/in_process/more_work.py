"""Makes a variant that does N % more of the same work, to test that a comparison finds the difference.

    python -m benchmark.targets.in_process.more_work models/mnist/original/1 models/mnist/more-work/1 --percent 10

The first N % of each batch are appended to it before it runs, and their outputs are cut off. Answers and kernels are
the same; the time is longer by what N % more examples take.
"""
import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from version_directory import EXTRA

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def export(source: Path, target: Path, percent: float, signature_name: str = "serving_default") -> None:
    """Writes a SavedModel with this one signature; a rename makes the complete version visible."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(source))
    function = loaded.signatures[signature_name]
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
             for name, spec in function.structured_input_signature[1].items()}

    def more(**inputs: Any) -> dict[str, Any]:
        size = tf.shape(next(iter(inputs.values())))[0]
        extra = tf.cast(tf.math.ceil(tf.cast(size, tf.float32) * (percent / 100)), tf.int32)
        outputs = function(**{name: tf.concat([tensor, tensor[:extra]], 0) for name, tensor in inputs.items()})
        return {name: tensor[:size] for name, tensor in outputs.items()}

    module = tf.Module()
    module.loaded = loaded
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    concrete = tf.function(more).get_concrete_function(**specs)
    tf.saved_model.save(module, str(partial), signatures={signature_name: concrete})
    if (source / EXTRA).is_dir():
        shutil.copytree(source / EXTRA, partial / EXTRA)
    partial.rename(target)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmark.targets.in_process.more_work")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--percent", type=float, default=10.0)
    options = parser.parse_args()
    export(options.source, options.target, options.percent)


if __name__ == "__main__":
    main()
