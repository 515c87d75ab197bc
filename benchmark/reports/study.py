"""The report of `study`: the way to the fastest step, the article's table beside ours, all measurements, the goals."""
from base64 import b64encode
from collections.abc import Sequence
from html import escape

from rich.markup import escape as escape_markup
from rich.table import Table

from benchmark.reports import charts, study_tables, terminal, way
from benchmark.reports.op_counts import Variant as Variant
from benchmark.reports.page import card, cards, figure, figures, page, result_page, table
from benchmark.reports.study_result import Article as Article
from benchmark.reports.study_result import Limit as Limit
from benchmark.reports.study_result import Missing as Missing
from benchmark.reports.study_result import PublishedTable as PublishedTable
from benchmark.reports.study_result import Row as Row
from benchmark.reports.study_result import StudyGoal as StudyGoal
from benchmark.reports.study_result import StudyPart as StudyPart
from benchmark.reports.study_result import StudyResult as StudyResult
from benchmark.reports.study_tables import Grid
from benchmark.reports.way import Published as Published
from benchmark.reports.way import Step as Step
from benchmark.reports.way import Way as Way
from benchmark.verdicts.scenario import protocol_name

NEEDED = StudyResult.__required_keys__
LABEL = 19  # characters that fit beside a bar


def tables(result: StudyResult) -> list[Table]:
    """The way, then the rows of each part, then what the machine could do."""
    opening = terminal.ruled(f"{result['title']}: {result['way']['title']}", ("", "ratio, 95 %", "verdict", "figure"),
                             ("", "verdict", "figure"))
    for step in result["way"]["steps"]:
        opening.add_row(*map(escape_markup, (step["label"], study_tables.ratio(step["ratio"], step["ci95"]),
                                             step["verdict"], step["note"])))
    for each in result["way"]["published"]:
        opening.add_row(escape_markup(each["label"]), way.ratio_text(each["ratio"]), "published", "")
    limits = [_for_terminal("Against the machine", study_tables.limits(result))] if result["limits"] else []
    return [opening, *map(_part_for_terminal, result["parts"]), *limits]


def lines(result: StudyResult) -> list[str]:
    """Whether each goal was met, what could not be run, and the notes of the parts."""
    said = [f"{'Met' if goal['met'] else 'NOT met'}: {goal['goal']}: {goal['seen']}" for goal in result["goals"]]
    said += [f"Does not run: {each['what']}: {each['why']}" for each in result["does_not_run"]]
    return [escape_markup(" ".join(line.split())) for line in
            [*said, *(note for part in result["parts"] for note in part["notes"])]]


def html(result: StudyResult) -> str:
    return result_page(result["title"], _sections(result, "h2"), result)


def html_all(results: Sequence[StudyResult]) -> str:
    """One page of several studies, with a list of contents."""
    contents = "".join(f'<li><a href="#study-{escape(each["study"])}">{escape(each["title"])}</a>: '
                       f"{escape(_in_short(each))}</li>" for each in results)
    parts = [f"<ul>{contents}</ul>"]
    for each in results:
        grid = study_tables.machine(each)
        parts += [f'<h2 id="study-{escape(each["study"])}">{escape(each["title"])}</h2>', *_sections(each, "h3"),
                  f'<h3 class="part">Conditions</h3>{_table(grid)}']
    about = "Each study repeats a published experiment; its conditions are at its end."
    return page("Studies", about, parts, {"studies": list(results)})


def _in_short(result: StudyResult) -> str:
    best = way.fastest(result["way"])
    here = f"{way.ratio_text(best['ratio'])}, {best['label']}" if best else "no step is proven faster"
    published = "".join(f"; {each['label']}: {way.ratio_text(each['ratio'])}" for each in result["way"]["published"])
    return f"{here} ({result['way']['title']}){published}"


def _sections(result: StudyResult, tag: str) -> list[str]:
    """The parts of the page, each below a heading of level `tag`."""
    def heading(text: str) -> str:
        return f'<{tag} class="part">{escape(text)}</{tag}>'
    picture = b64encode(way.svg(result).encode()).decode()
    # An image, not an inline drawing: its style sheet must not meet the page's, nor that of a second study.
    opening = (f'<img class="picture" alt="{escape(way.described(result["way"]))}" '
               f'src="data:image/svg+xml;base64,{picture}">')
    made = [f'<div class="charts"><div>{opening}</div><div>{heading("Beside the article")}{_article(result)}</div>'
            "</div>"]
    for part in result["parts"]:
        notes = "".join(f"<li>{escape(note)}</li>" for note in part["notes"])
        shown = _charts(part) + _table(study_tables.part(result, part)) if part["rows"] else ""
        made += [heading(part["title"]), shown, _soft(study_tables.below(result, part)),
                 f"<ul>{notes}</ul>" if notes else ""]
    if result["variants"]:
        made += [heading("Operations and sizes, before and after"), _variants(result)]
    for found in result.get("profiles", ()):
        made += [heading(f"Where the time goes: {found['title']}"),
                 _soft(f"{study_tables.TRACED} {study_tables.measured_on(result)}"),
                 _table(study_tables.profile(found))]
    if result["limits"]:
        made += [heading("Against the machine"), _soft(
            "Multiplications and additions of the contractions per second, beside what the fastest kernel of that "
            f"precision reaches here. {study_tables.measured_on(result)}"), _table(study_tables.limits(result))]
    if result["goals"]:
        made += [heading("Goals"), cards(card(goal["goal"], "met" if goal["met"] else "not met", goal["seen"],
                                              "faster" if goal["met"] else "slower") for goal in result["goals"])]
    if result["does_not_run"]:
        made += [heading("What does not run"), _table(study_tables.missing(result))]
    return made


def _article(result: StudyResult) -> str:
    article = result["article"]
    source = f'<a href="{escape(article["url"])}">{escape(article["title"])}</a>' if article["url"].startswith(
        ("https://", "http://")) else escape(article["title"])
    by = f"<p>{escape(article['author'])}, {article['year']}: {source}</p>" if article["author"] else ""
    said = "".join(f"<p>{escape(line)}</p>" for line in study_tables.beside_the_article(result))
    made = '<div class="below"></div>'.join(map(_table, study_tables.article(result)))
    return by + said + made + _soft(study_tables.measured_on(result))


def _charts(part: StudyPart) -> str:
    """Mean time or throughput of each target: one chart for each protocol and batch size."""
    rate, made = part["unit"] == "examples/s", []
    names = list(dict.fromkeys(row["target"] for row in part["rows"]))
    for rows in study_tables.groups(part["rows"]):
        title = f"{protocol_name(rows[0]['protocol'])}, batch {rows[0]['batch']}"
        bars = [charts.Bar(title, _short(row["label"]), row["examples_per_s" if rate else "mean_ms"], None,
                           names.index(row["target"])) for row in rows]
        made.append(figure(f"{title}: {'throughput' if rate else 'mean time'}",
                           charts.bars(bars, "/s" if rate else "ms")))
    return figures(made)


def _variants(result: StudyResult) -> str:
    variants = result["variants"]
    # Names are "MODEL, VARIANT" where a study has several models.
    split = [each["name"].rpartition(", ") for each in variants]
    names = list(dict.fromkeys(name for _, _, name in split))
    sizes = [charts.Bar(model or "on disk", _short(name), each["bytes"] / 1e6, None, names.index(name))
             for each, (model, _, name) in zip(variants, split, strict=True)]
    made = [figure(f"Operations of {each['name']}", charts.donut(list(each["ops"].items()), f"{each['nodes']:,} nodes"))
            for each in variants if each["ops"]]
    return figures([*made, figure("Size", charts.bars(sizes, "MB"))]) + '<div class="below">' + _table(
        study_tables.variants(result)) + "</div>"


def _short(text: str) -> str:
    return text if len(text) <= LABEL else f"{text[:LABEL - 1]}…"


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _table(grid: Grid) -> str:
    css = {index: "verdict" if name == "verdict" else "words" for index, name in enumerate(grid.head)
           if name in grid.words}
    return table(grid.head, grid.rows, grid.text, css)


def _part_for_terminal(part: StudyPart) -> Table:
    made = terminal.ruled(part["title"], ("", "where", "mean ms", "p99 ms", "ratio, 95 %", "verdict"),
                          ("", "where", "verdict"))
    for row in part["rows"]:
        made.add_row(*map(escape_markup, (
            row["label"], f"{protocol_name(row['protocol'])} {row['batch']}", charts.number(row["mean_ms"]),
            charts.number(row["p99_ms"]), "" if row["ratio"] is None else study_tables.ratio(row["ratio"], row["ci95"]),
            row["verdict"] if row["valid"] else "INVALID")))
    return made


def _for_terminal(title: str, grid: Grid) -> Table:
    made = terminal.ruled(title, grid.head, grid.head[:grid.text])
    for row in grid.rows:
        made.add_row(*map(escape_markup, row))
    return made
