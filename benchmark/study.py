"""python -m benchmark study: repeats a published experiment, measures every step after it, and writes the result."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmark import report
from benchmark.options import announce
from benchmark.reports import study as pages
from benchmark.reports import study_page
from benchmark.reports.stored import load
from benchmark.reports.study_result import StudyResult
from benchmark.studies import g2p, keras, mnist, ssd
from benchmark.studies.result import conduct
from benchmark.studies.stages import Stages
from benchmark.studies.study import Study
from user_error import UserError
from whole_file import refuse_unwritable, write_json, write_text

STUDIES: dict[str, Study] = {each.STUDY.name: each.STUDY for each in (mnist, ssd, g2p, keras)}
DOCS = Path("docs")
_QUICK_SHARE = 5  # the quick form takes about a fifth of the full one


@click.command("study", epilog="\b\nThe studies:\n" + "\n".join(
    f"  {name:7}{each.title} ({each.article.author}, {each.article.year})" for name, each in STUDIES.items()) + """

\b
Examples:
  python -m benchmark study mnist --quick
  python -m benchmark study g2p
  python -m benchmark study keras --only text_classifier
  python -m benchmark study all --html reports/studies.html
  python -m benchmark report docs/proof/study_ssd.json --html reports/ssd.html
\b
A part that is measured is kept in --work, and not measured again by the next run: stop with Ctrl-C whenever you like.
The full form writes docs/proof/study_NAME.json, and from it the tables of docs/studies/NAME.md and its charts; the
quick form writes reports/study_NAME_quick.json. Nothing else should run on the machine while it measures.
""")
@click.argument("name", type=click.Choice([*STUDIES, "all"]))
@click.option("--quick", is_flag=True, help="Fewer requests and parts: some minutes, for a first look.")
@click.option("--again", is_flag=True, help="Measure every part, or those of --only, also if it is measured already.")
@click.option("--only", multiple=True, metavar="MODEL",
              help="Make and measure only this model (repeatable); the others are as an earlier run measured them.")
@click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True,
              help="Folder that contains <model>/<variant>/<version>; what is missing is made there.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("reports/studies"), show_default=True,
              help="Folder for the finished parts, with all their samples.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random inputs and of the bootstrap.")
@click.option("--cloud", "clouds", multiple=True, metavar="VARIANT=URL",
              help="Of mnist: also measure the endpoint that serves the variant, such as "
                   "original=vertex:projects/P/locations/L/endpoints/E; repeatable.")
@click.option("--html", "html_path", metavar="PATH", help="Write a report (one file, works offline) to PATH.")
@click.option("--json", "json_path", metavar="PATH",
              help="Write the result to PATH ('-': standard output), and leave docs/ as it is.")
def command(name: str, quick: bool, again: bool, only: tuple[str, ...], models: Path, work: Path, seed: int,
            clouds: tuple[str, ...], html_path: str | None, json_path: str | None) -> None:
    """Repeats a published experiment: the original and every step after it, measured in turns in one run."""
    chosen = list(STUDIES.values()) if name == "all" else [STUDIES[name]]
    if json_path and len(chosen) > 1:
        raise UserError("--json is for one study: each of 'all' writes its own file; name one study, or leave it out")
    if clouds:
        if name != "mnist":
            raise UserError("--cloud is of the study mnist: name that, or leave it out")
        chosen = [mnist.on_cloud(dict(map(_endpoint, clouds)))]
    known = {part.model for each in chosen for part in each.parts}
    if unknown := set(only) - known:
        raise UserError(f"--only {min(unknown)}: the study has no such model; it has {', '.join(sorted(known))}")
    chosen = [each for each in chosen if not only or {part.model for part in each.parts} & set(only)]
    for path in (html_path, json_path):
        if path not in (None, "-"):
            refuse_unwritable(Path(str(path)))
    announce("; ".join(f"{each.name}: about {_minutes(each, quick)} minutes" for each in chosen)
             + " of measuring, after the versions are made, on two cores where nothing else runs")
    results = [_run(each, quick, again, only, models, work, seed, json_path) for each in chosen]
    if html_path:
        write_text(html_path, pages.html(results[0]) if len(results) == 1 else pages.html_all(results))


def _endpoint(text: str) -> tuple[str, str]:
    variant, equals, url = text.partition("=")
    made = {"original", *(each.name for each in mnist.VARIANTS)}
    if not equals or not url or variant not in made:
        raise UserError(f"--cloud {text} is not VARIANT=URL: name one of {', '.join(sorted(made))}, as in "
                        "original=vertex:projects/P/locations/L/endpoints/E")
    return variant, url


def _run(study: Study, quick: bool, again: bool, only: tuple[str, ...], models: Path, work: Path, seed: int,
         json_path: str | None) -> StudyResult:
    work.mkdir(parents=True, exist_ok=True)
    form = "quick" if quick else "full"
    typed = f"python -m benchmark study {study.name}{' --quick' * quick}"
    result = conduct(study, models, Stages(work / f"{study.name}-{form}", again), quick, seed, typed, only)
    if json_path or quick or not DOCS.is_dir():
        to = json_path or f"reports/study_{study.name}_{form}.json"
        report.deliver(result, None, to)
    else:
        to = str(_proof(study))
        report.deliver(result, None, None)
        _publish(study, result)
    if to != "-":
        click.echo(f"Result: {Path(to).resolve()}", err=True)
    return result


def _publish(study: Study, result: StudyResult) -> None:
    """Writes the proof file, the charts, and the figures of the study's page."""
    write_json(_proof(study), result)
    study_page.write(DOCS / "studies", result)


def _proof(study: Study) -> Path:
    return DOCS / "proof" / f"study_{study.name}.json"


def _minutes(study: Study, quick: bool) -> int:
    """What the full form took when it was last measured, else what the study's own file says; a part of it, if quick.
    """
    minutes: float = study.about_minutes
    if _proof(study).is_file():
        stored: Any = load(_proof(study))
        minutes = stored["took_s"] / 60
    return max(1, round(minutes / (_QUICK_SHARE if quick else 1)))
