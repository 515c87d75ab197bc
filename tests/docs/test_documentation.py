"""The documentation is up to date: every command, make target, file and link in it exists."""
import importlib
import re
import subprocess
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PAGES = sorted(ROOT / name for name in TRACKED if name.endswith(".md"))
GROUPS = {package: importlib.import_module(f"{package}.__main__").COMMANDS
          for package in ("export", "serving", "benchmark")}
COMMANDS = [(package, name) for package, group in GROUPS.items() for name in group.list_commands(click.Context(group))]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def documents() -> str:
    return "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_point_to_existing_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_documents_exist(page: Path) -> None:
    known = set(COMMANDS)
    code = "\n".join(re.findall(r"`[^`]+`|^ {4}.*$", page.read_text(), re.MULTILINE))
    for package, name in re.findall(r"python -m (export|serving|benchmark) ([a-z][a-z_-]*)", code):
        assert (package, name) in known, f"python -m {package} {name}"
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    for target in re.findall(r"`make ([a-z]+)", page.read_text()):
        assert target in targets, f"make {target}"


@pytest.mark.parametrize(("package", "name"), COMMANDS, ids=[" ".join(pair) for pair in COMMANDS])
def test_every_command_is_documented_and_has_help(package: str, name: str) -> None:
    assert f"python -m {package} {name}" in documents()
    group = GROUPS[package]
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.help or command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{package} {name}: {parameter.opts} has no help"


@pytest.mark.parametrize("name", [name for package, name in COMMANDS if package == "export"])
def test_the_page_of_export_lists_each_command_and_says_more_of_it(name: str) -> None:
    page = text("docs/export.md")
    assert len(re.findall(rf"^\| `python -m export {name}( mnist)?` \|", page, re.MULTILINE)) == 1
    if name not in ("build", "transforms"):  # the table and the transforms' own page say all of these
        more = "\n".join(line for line in page.splitlines() if not line.startswith("|"))
        assert re.search(rf"python -m export {name}\b|`{name}`", more), f"no sentence is about {name}"


def test_decisions_are_numbered_once_and_complete() -> None:
    records = [name for name in TRACKED if re.fullmatch(r"docs/decisions/\d{4}-.*\.md", name)]
    numbers = [Path(name).name[:4] for name in records]
    assert len(set(numbers)) == len(numbers)
    for name, number in zip(records, numbers, strict=True):
        assert text(name).startswith(f"# {number}: "), f"{name}: its heading is '# {number}: TITLE'"
        for part in ("## Context", "## Decision", "## Consequence"):
            assert part in text(name), f"{name}: no {part}"


def test_the_image_tag_is_pinned_once() -> None:
    tags = {tag for name in ("tfserving.sh", "docker-compose.yml")
            for tag in re.findall(r"tensorflow/serving:([0-9.]+)", text(name))}
    assert len(tags) == 1


def test_versions_are_pinned_and_no_host_is_named() -> None:
    pins = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s/@]+", pin) for pin in pins)
    # Everything that pyproject.toml requires, extras included, is pinned.
    names = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    wanted = re.findall(r'^\s+"([A-Za-z][A-Za-z0-9._-]+)(?:[<>=;][^"]*)?",$', text("pyproject.toml"), re.MULTILINE)
    required = {re.sub(r"[-_.]+", "-", name).lower() for name in wanted if "." not in name}
    assert "tensorflow" in required
    assert required - names == set()


def test_readme_gives_the_main_commands() -> None:
    readme = text("README.md")
    for command in ("make demo", "make test", "./tfserving.sh optimized", "locust -f loadtest/"):
        assert command in readme
    for folder in ("export/", "serving/", "loadtest/", "benchmark/", "tests/"):
        assert f"`{folder}`" in readme


def test_contributing_names_every_test_helper() -> None:
    helpers = {path.stem for path in (ROOT / "tests/support").glob("*.py")}
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| \S.* \|$", text("CONTRIBUTING.md").partition("\n## Tests\n")[2],
                      re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == helpers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lines_are_at_most_120_columns(page: Path) -> None:
    # Neither a row of a table nor an address can be broken; in a study `benchmark.reports.study_page` writes them.
    study = page.parent.name == "studies"
    long = [number for number, line in enumerate(page.read_text().splitlines(), 1)
            if len(line) > 120 and not (study and (line.startswith("|") or re.fullmatch(r"\S+\]\(https?:\S+", line)))]
    assert not long, f"{page.relative_to(ROOT)}: lines {long} are longer than 120 columns"
