"""The report of a profile: flame graphs, time by operation before and after, CPU instructions."""
from html import escape
from typing import Any

from benchmark.reports import charts
from benchmark.reports.page import environment_table, figure, page, subtitle, table
from benchmark.reports.tables import instruction_line, operation_rows


def html(result: dict[str, Any]) -> str:
    profiles = result["profiles"]
    names = [profile["target"] for profile in profiles]
    parts = ["<h2>Time by operation</h2>", '<p class="soft">As Session.run executed them, after TensorFlow\'s own '
             f"rewriting, in turns: the median of the traced runs at batch {result['batch']}, summed over threads.</p>",
             '<div class="charts">']
    parts += [figure(f"Operations of {profile['target']}", charts.donut(
        [(op["op"], op["us"] / 1e3) for op in profile["operations"]], "ms")) for profile in profiles]
    parts += ["</div>", table(("operation", *(f"{name}: {what}" for name in names for what in ("ms", "runs"))),
                              operation_rows(profiles)), "<h2>CPU instructions</h2>"]
    parts += [f"<p>{escape(instruction_line(result['instructions']))}</p>"]
    for profile in profiles:
        parts += [f"<h2>Flame graph of {profile['target']}</h2>", '<p class="soft">Threads that Python knows, sampled '
                  "under load, callers above what they call; waiting for work, the start and imports are left out. "
                  "Blue is Python, orange is TensorFlow.</p>", f'<figure class="scroll">{profile["flame"]}</figure>']
    title = f"Where the time goes: {', '.join(names)}"
    return page(title, subtitle(result), [*parts, "<h2>Conditions</h2>", environment_table(result)],
                {**result, "profiles": [{**profile, "flame": "drawn above"} for profile in profiles]})
