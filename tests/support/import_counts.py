"""Counts a package's modules and the imports among them, by folder.

    python tests/support/import_counts.py benchmark
    python tests/support/import_counts.py benchmark --root path/to/another/checkout
"""
import argparse
import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imports_among(root: Path, package: str) -> dict[str, set[str]]:
    """{module: the modules of the same package that it imports}, by full names; `__init__.py` files are left out."""
    files = {".".join(path.relative_to(root).with_suffix("").parts): path for path in (root / package).rglob("*.py")
             if path.name != "__init__.py"}
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        found[module] = names & files.keys() - {module}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("--root", type=Path, default=ROOT)
    options = parser.parse_args()
    found = imports_among(options.root, options.package)

    def folder(module: str) -> str:
        return module.rpartition(".")[0]
    arrows = Counter((folder(module), folder(name)) for module, names in found.items() for name in names)
    print(f"{len(found)} modules, {arrows.total()} imports among them")
    for (importer, imported), count in sorted(arrows.items()):
        print(f"{count:5} {importer} -> {imported}")


if __name__ == "__main__":
    main()
