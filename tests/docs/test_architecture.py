"""The rules of the source tree: which package may import which, and what a command's --help may import."""
import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("export", "serving", "benchmark", "loadtest")
API = (ROOT / "export/__init__.py", ROOT / "benchmark/__init__.py")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# The modules of these packages that a package may import; every package may also import top-level modules.
MAY_IMPORT = {  # decision 63
    "serving.client": ("serving.client", "serving.protos", "serving.tensor_proto", "serving.recording",
                       "serving.timing"),
    "serving": ("serving",),
    "benchmark": ("benchmark", "serving.client", "serving.protos", "serving.tensor_proto", "serving.recording"),
    # decisions 209 and 228
    "benchmark.targets.in_process": ("benchmark", "serving.client", "serving.protos", "serving.config",
                                     "serving.engines.choice", "serving.engines.cpus", "serving.errors",
                                     "serving.memory", "export.freeze", "export.graph", "export.graph_file",
                                     "export.precision", "export.runtime", "export.saved_model", "export.tensors"),
    "loadtest": ("benchmark.verdicts.histogram", "serving.client", "serving.protos", "serving.tensor_proto",
                 "serving.recording"),
    "export": ("export", "serving.client.payloads", "serving.client.answers"),
    # decision 214
    "export.engines": ("export", "serving.config", "serving.engines.choice", "serving.errors", "serving.memory"),
}
# The folders of benchmark follow the data, targets -> issuing -> verdicts -> reports. Each may import these.
WITHIN_BENCHMARK = {
    "targets": ("benchmark.targets", "benchmark.verdicts"),
    "issuing": ("benchmark.issuing", "benchmark.targets", "benchmark.verdicts"),
    "verdicts": ("benchmark.verdicts",),
    "reports": ("benchmark.reports", "benchmark.verdicts"),
}
# Test files that run many transforms; all others test one transform each.
ACROSS_TRANSFORMS = {"test_odd_graphs"}
# protos.py imports the message modules of the tensorflow package without TensorFlow (tests/serving/test_protos.py).
MAY_IMPORT_TENSORFLOW = ("export/", "serving/engines/", "serving/protos.py", "serving/profiler.py",
                         "serving/remote_path.py", "benchmark/targets/in_process/")


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, including imports inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def package_of(path: Path) -> str:
    relative = path.relative_to(ROOT).as_posix()
    within = ("serving/client/", "benchmark/targets/in_process/", "export/engines/")
    return next((folder.strip("/").replace("/", ".") for folder in within if relative.startswith(folder)),
                relative.split("/")[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    allowed = MAY_IMPORT[package_of(path)]
    for name in imported(path):
        if name.split(".")[0] in PACKAGES:
            assert any(name == prefix or name.startswith(prefix + ".") for prefix in allowed), name
        if name.split(".")[0] in ("tensorflow", "keras"):
            assert path.relative_to(ROOT).as_posix().startswith(MAY_IMPORT_TENSORFLOW), name


@pytest.mark.parametrize("folder", WITHIN_BENCHMARK)
def test_the_folders_of_benchmark_import_in_the_direction_of_the_data(folder: str) -> None:
    for path in (ROOT / "benchmark" / folder).rglob("*.py"):
        for name in imported(path):
            assert not name.startswith("benchmark.") or name.startswith(WITHIN_BENCHMARK[folder]), f"{path}: {name}"


def test_there_are_no_circular_imports() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
               for path in FILES if package_of(path) != "loadtest"}
    graph = {module: {name if name in modules else name.rpartition(".")[0] for name in imported(path)} - {module}
             for module, path in modules.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"],
                         ids=lambda path: path.relative_to(ROOT).as_posix())
def test_init_files_are_empty(path: Path) -> None:
    # Except transforms/__init__.py, the list of transforms, and the Python API, which imports its names when they are
    # used (see the next test).
    assert path.parent.name == "transforms" or path in API or path.read_text() == ""


def test_the_python_api_is_imported_name_by_name_when_it_is_used() -> None:
    script = ("import sys, export, benchmark\n"
              "begins = ('export.', 'benchmark.', 'numpy', 'click')\n"
              "loaded = [name for name in sys.modules if name.startswith(begins)]\n"
              "assert not loaded, loaded\n")
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    for path in API:
        names = set(re.search(r"__all__ = \[(.*)\]", path.read_text())[1].replace('"', "").split(", "))  # type: ignore
        taken = {child.stem for child in path.parent.iterdir()}
        assert not names & taken, "importing a module of the same name would replace the function"


@pytest.mark.parametrize("command", [
    ["export", "--help"], ["serving", "--help"], ["serving", "serve", "--help"], ["serving", "predict", "--help"],
    ["serving", "status", "--help"], ["benchmark", "--help"], ["benchmark", "compare", "--help"],
], ids=" ".join)
def test_help_leaves_tensorflow_unimported(command: list[str]) -> None:
    script = ("import runpy, sys\n"
              "module, *sys.argv[1:] = sys.argv[1:]\n"
              "try: runpy.run_module(module, run_name='__main__', alter_sys=False)\n"
              "except SystemExit as end: assert not end.code, end.code\n"
              "assert 'tensorflow' not in sys.modules\n")
    done = subprocess.run([sys.executable, "-c", script, *command], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_private_name_of_a_module_is_used_in_it(path: Path) -> None:
    """Needed since vulture reports unused names, but not those that begin with _."""
    tree = ast.parse(path.read_text())
    assigned = {name.id for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)
                for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
                if re.match(r"_[A-Za-z]", name.id)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    used |= set(re.findall(r"_\w+", " ".join(node.value for node in ast.walk(tree)
                                             if isinstance(node, ast.Constant) and isinstance(node.value, str))))
    assert assigned <= used, f"never used: {sorted(assigned - used)}"


TRANSFORMS = ROOT / "export/transforms"
TRANSFORM_NAMES = sorted(path.stem for path in TRANSFORMS.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize(("place", "names"), [
    ("export/transforms/__init__.py imports",
     [name.rpartition(".")[2] for name in imported(TRANSFORMS / "__init__.py")]),
    ("docs/transforms.md, section 'All of them', has a row for",
     re.findall(r"^\| `([a-z0-9_]+)` \|", (ROOT / "docs/transforms.md").read_text().partition("\n## All of them\n")[2],
                re.MULTILINE)),
    ("tests/export/transforms/ has test_NAME.py for",
     [path.stem.removeprefix("test_") for path in (ROOT / "tests/export/transforms").glob("test_*.py")
      if path.stem not in ACROSS_TRANSFORMS]),
], ids=["list", "docs", "tests"])
def test_a_transform_has_all_its_files(place: str, names: list[str]) -> None:
    assert sorted(names) == TRANSFORM_NAMES, f"{place} {set(names) ^ set(TRANSFORM_NAMES)}"


@pytest.mark.parametrize("name", TRANSFORM_NAMES)
def test_a_transform_is_registered_under_the_name_of_its_file(name: str) -> None:
    source = (TRANSFORMS / f"{name}.py").read_text()
    if f'_NAME = "{name}"' in source:
        source = source.replace("@transform(\n    _NAME,", f'@transform("{name}",')
    assert re.search(rf'^@transform\(\s*"{name}"[,)]', source, re.MULTILINE)


@pytest.mark.parametrize("name", TRANSFORM_NAMES)
def test_the_test_file_of_a_transform_tests_it(name: str) -> None:
    path = ROOT / f"tests/export/transforms/test_{name}.py"
    assert re.search(rf"\b{name}\b", path.read_text()), f"{path.name} never runs {name}"
    assert re.search(r"^def test_", path.read_text(), re.MULTILINE), f"{path.name} has no test"
