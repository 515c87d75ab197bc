"""Runs TensorFlow Serving's own end-to-end tests, from a checkout of its sources, against the embedded server.

    python tests/support/upstream_tests.py CHECKOUT WORK RESULTS.json

Those tests look for the server and its models below WORK. This program runs in a separate process, since the package
of those tests has the same name as an installed one, and the servers that they start run until the process ends.
"""
import json
import os
import socket
import sys
import types
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_SERVER = '#!/bin/sh\ncd "{root}" && PYTHONPATH="{root}" exec "{python}" -m serving serve "$@"\n'


class _Outcomes(unittest.TextTestResult):
    """Keeps the outcome of each test, with the last line of the reason."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.outcomes: dict[str, str] = {}

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        reasons = [text for failed, text in [*self.errors, *self.failures] if failed is test]
        skipped = [text for left, text in self.skipped if left is test]
        lines = [line.strip() for line in (reasons or [""])[0].splitlines() if line.strip(" >\n")]
        reason = next((line for line in lines if line.startswith("details = ")), lines[-1] if lines else "")
        self.outcomes[test.id().rpartition(".")[2]] = (
            f"failed: {reason[:300]}" if reasons else f"skipped: {skipped[0]}" if skipped else "passed")


def prepare(checkout: Path, work: Path) -> None:
    """Makes the directory tree of a bazel run: a link to the models, and a script that starts the server."""
    tree = work / "tf_serving" / "tensorflow_serving"
    (tree / "model_servers").mkdir(parents=True)
    (tree / "servables").symlink_to(checkout.resolve() / "tensorflow_serving" / "servables")
    server = tree / "model_servers" / "tensorflow_model_server"
    server.write_text(_SERVER.format(root=ROOT, python=sys.executable))
    server.chmod(0o755)
    os.environ |= {"TEST_SRCDIR": str(work), "TEST_TMPDIR": str(work), "TF_CPP_MIN_LOG_LEVEL": "2"}


def free_port() -> int:
    """A free port: replaces the only function of the package portpicker that the tests call."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main() -> None:
    checkout, work, results = (Path(word).resolve() for word in sys.argv[1:])
    prepare(checkout, work)
    sys.modules["portpicker"] = types.ModuleType("portpicker")
    sys.modules["portpicker"].pick_unused_port = free_port  # type: ignore[attr-defined]
    import tensorflow.compat.v1 as tf
    import tensorflow_serving
    from tensorflow.python.platform import flags
    tensorflow_serving.__path__.append(str(checkout / "tensorflow_serving"))
    flags.os = os  # one test reads flags.os.environ, which TensorFlow's flags no longer have
    from tensorflow_serving.model_servers import tensorflow_model_server_test
    tf.enable_eager_execution()
    flags.FLAGS(sys.argv[:1])
    suite = unittest.TestLoader().loadTestsFromTestCase(tensorflow_model_server_test.TensorflowModelServerTest)
    names = [test for test in suite if not test.id().endswith("test_session")]  # part of tf.test, always skipped
    ran = unittest.TextTestRunner(resultclass=_Outcomes, verbosity=2).run(unittest.TestSuite(names))
    assert isinstance(ran, _Outcomes)
    results.write_text(json.dumps(ran.outcomes, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
