"""export.optimize, export.verify and benchmark.compare as a user's script calls them, each in a fresh interpreter."""
import os
import subprocess
import sys
from pathlib import Path

import engine_versions
import pytest
from tiny_saved_model import write_tiny_saved_model

ROOT = Path(__file__).resolve().parents[2]


def _run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """The script as a file outside the checkout, without `if __name__`, as users write it."""
    (folder / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # What is compared is run by LiteRT, whose processes start without TensorFlow.
    engine_versions.litert(tmp_path / "models/mine/original/1")
    engine_versions.litert(tmp_path / "models/mine/far/1", 2.0)
    write_tiny_saved_model(tmp_path / "models/mine/other/1", scale=2)
    return tmp_path


def test_optimize_and_verify_return_what_the_commands_print_and_print_nothing(folder: Path) -> None:
    done = _run(folder, """
import export
made = export.optimize("models/mine/original", to="models/mine/optimized", batches=(1, 3))
assert made.path.as_posix() == "models/mine/optimized/1" and (made.path / "saved_model.pb").is_file()
assert made.made.equality.equal and made.made.nodes[1] <= made.made.nodes[0]
assert made.to_json()["pipeline"] == "default" and made.to_json()["path"] == str(made.path)
again = export.optimize("models/mine/original", to="models/mine/optimized", batches=(1, 3), reuse=True)
assert again.path == made.path and again.made is None and str(again).endswith("is up to date")
assert export.verify("models/mine/original", made.path).equal
unequal = export.verify("models/mine/original", "models/mine/other")
assert not unequal.equal and "'y'" in unequal.why_not()
""")
    assert done.stdout == ""


def test_errors_are_user_errors_with_their_reason(folder: Path) -> None:
    _run(folder, """
import export, benchmark
from user_error import UserError
def refused(words, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except UserError as error:
        assert words in str(error), str(error)
        assert "\\n" not in str(error)
    else:
        raise AssertionError(words)
refused("nowhere", export.optimize, "nowhere.keras", to="out")
refused("no transform", export.optimize, "models/mine/original", to="out", transforms="fold_nothing")
refused("names a folder", export.optimize, "models/mine/original", to="")
refused("positive", export.optimize, "models/mine/original", to="out", batches=())
refused("positive", export.verify, "models/mine/original", "models/mine/other", batches=(0,))
refused("nowhere", export.verify, "models/mine/original", "nowhere")
refused("no variant 'absent'", benchmark.compare, "original", "absent", model="mine")
refused("'faster'", benchmark.compare, "original", "other", model="mine", fail_if="cannot tell")
refused("no protocol 'smtp'", benchmark.compare, "original", "other", model="mine", protocol="smtp")
refused("at least 1", benchmark.compare, "original", "other", model="mine", batch=0)
refused("is no objective", benchmark.compare, "original", "other", model="mine", budget="soon")
refused("gives other answers than", benchmark.compare, "session:original@litert", "session:far@litert",
        model="mine", repeat=8, processes=1)
refused("r.json", benchmark.compare, "original", "other", model="mine", against="r.json")
""")


@pytest.mark.parametrize("first", ["import export.optimization, export.verification, benchmark.side_by_side\n",
                                   "import export.__main__, benchmark.__main__\n", "import export, benchmark\n"])
@pytest.mark.parametrize("second", ["", "import export.optimization, export.verification, benchmark.side_by_side\n"])
def test_the_functions_exist_in_every_order_of_imports(first: str, second: str) -> None:
    script = (f"{first}import export, benchmark\n{second}"
              "assert all(map(callable, (export.optimize, export.verify, benchmark.compare)))\n"
              "from export import optimize, verify, NotEqualError\nfrom benchmark import compare, Measured, report\n"
              "assert report.command and export.optimize is optimize\n"
              "assert not hasattr(export, 'absent')\n"
              "import sys; assert 'tensorflow' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_compare_returns_a_typed_result(folder: Path) -> None:
    engine_versions.litert(folder / "models/mine/twin/1")
    done = _run(folder, """
import benchmark
found = benchmark.compare("session:original@litert", "session:twin@litert", model="mine", batch=[1, 4], repeat=16,
                          processes=1, budget=["mean=1us", "max=100s"])
assert found.verdict in ("faster", "slower", "cannot tell")
assert [(each["protocol"], each["batch"]) for each in found.comparisons] == [("in-process", 1), ("in-process", 4)]
assert len(found.failures) == 2 and all("--budget mean" in each for each in found.failures), found.failures
found.save("r.json")
found.html("reports/r.html")
assert "session:twin" in str(found)
again = benchmark.compare("session:original@litert", "session:twin@litert", model="mine", batch=4, repeat=16,
                          processes=1, against="r.json")
assert len(again.result["against"]) == 1
""")
    assert done.stdout == ""
    assert (folder / "reports/r.html").is_file()


SNIPPET = '''
from pathlib import Path
import benchmark
import export

made: export.Optimized = export.optimize("models/mine/original", to=Path("models/mine/optimized"))
path: Path = made.path
equal: bool = export.verify("a", path).equal
found: benchmark.Measured = benchmark.compare("original", "optimized", model="mine", batch=[1, 8], budget="p99=50ms")
ratios: list[float] = [each["ratio"] for each in found.comparisons]
benchmark.compare("original", batch="many")
'''


def test_a_snippet_is_checked_by_mypy_strict(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(tmp_path / "snippet.py")], cwd=ROOT,
                          capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert errors, done.stdout + done.stderr
    assert all("snippet.py:11:" in line for line in errors), done.stdout  # the last line alone is wrong
