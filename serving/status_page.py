"""A page that shows models, versions, labels, traffic and the last promotions: from values, without anything loaded.

The values (all optional but `models`): {"title", "when", "drift": [text], "models": [{"name", "ready",
"not_ready_because", "versions": [{"version", "labels", "state", "variant", "digest", "engine", "requests", "errors",
"mean_ms", "p50_ms", "p99_ms"}], "example": {"to", "body"}}], "history": [records, oldest first]}.
"""
from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
# Nothing from elsewhere, and no script but this one, whatever names models have.
_ALLOWED = ("default-src 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'")
HEADERS = (("Content-Security-Policy", f"{_ALLOWED}; frame-ancestors 'none'"), ("X-Content-Type-Options", "nosniff"),
           ("Cache-Control", "no-store"))
TYPE = "text/html; charset=utf-8"
MOST_PROMOTIONS = 6
# Ratios that a chart shows.
_LEAST, _MOST, _WIDE = 0.5, 4.0, 280.0


def page(values: Mapping[str, Any], live: bool = False) -> str:
    """The whole page; `live`: it asks the server that it came from for `body` again and again, and has forms."""
    forms = "".join(_form(model) for model in values["models"]) if live else ""
    title = escape(str(values.get("title", "models")))
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{escape(_ALLOWED)}">'
            f'<style>{_STYLE}</style></head><body{" data-live=1" if live else ""}><h1>{title}</h1>'
            f'<p id="said" class="bad"></p><main id="live">{body(values)}</main>{forms}<script>{_SCRIPT}</script>'
            '</body></html>\n')


def body(values: Mapping[str, Any]) -> str:
    """What changes: models and promotions."""
    parts = [f'<p class="soft">{escape(str(values.get("when", "")))}</p>']
    parts += [f'<p class="bad">{escape(line)}</p>' for line in values.get("drift", ())]
    parts += [_model(model) for model in values["models"]] or ["<p>There is no model yet.</p>"]
    if found := values.get("history"):
        parts += ["<h2>Last promotions</h2>", '<div class="cards">',
                  *(_promotion(record) for record in list(reversed(found))[:MOST_PROMOTIONS]), "</div>"]
    return "".join(parts)


def _model(model: Mapping[str, Any]) -> str:
    ready = '<span class="good">ready</span>' if model["ready"] else (
        f'<span class="bad">not ready{": " if model.get("not_ready_because") else ""}'
        f'{escape(model.get("not_ready_because") or "")}</span>')
    share = model.get("share") or {}
    shared = (f'<p class="soft">canary: {share["percent"]:d} of 100 requests, copies of {share["mirror"]:d}, by '
              f'{escape(share["proxy"] or "clients")}</p>') if share.get("percent") or share.get("mirror") else ""
    columns = [("version", "number"), ("labels", ""), ("state", ""), ("variant", ""), ("engine", ""),
               ("digest", ""), ("requests", "number"), ("errors", "number"), ("mean ms", "number"),
               ("p50 ms", "number"), ("p99 ms", "number"), ("latency", "")]
    kept = [(title, kind) for title, kind in columns if title in ("version", "labels", "state", "latency") or any(
        one.get(title.replace(" ", "_")) is not None for one in model["versions"])]
    head = "".join(f'<th class="{kind}">{title}</th>' for title, kind in kept)
    rows = "".join("<tr>" + "".join(f'<td class="{kind}">{_cell(model["name"], one, title)}</td>'
                                    for title, kind in kept) + "</tr>" for one in model["versions"])
    return (f'<h2>{escape(model["name"])} {ready}</h2>{shared}<div class="scroll"><table><tr>{head}</tr>{rows}</table>'
            "</div>")


def _cell(model: str, version: Mapping[str, Any], title: str) -> str:
    value = version.get(title.replace(" ", "_"))
    if title == "latency":
        shown = version.get("p50_ms", version.get("mean_ms"))
        return (f'<svg class="spark" role="img" aria-label="latency since this page is open" '
                f'data-key="{escape(model)}/{version["version"]}"'
                f'{f" data-value={shown:.4g}" if shown is not None else ""}></svg>')
    if title == "labels":
        return " ".join(f'<span class="label">{escape(str(label))}</span>' for label in value or ())
    if title == "state":
        kind = "good" if value == "AVAILABLE" else "unsure"
        return f'<span class="{kind}">{escape(str(value))}</span>'
    if value is None:
        return ""
    if title == "digest":
        return f"<code>{escape(str(value)[:12])}</code>"
    if title == "errors" and value:
        return f'<span class="bad">{value:,}</span>'
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else escape(
        str(value))


def _promotion(record: Mapping[str, Any]) -> str:
    outcome, version = str(record["outcome"]), escape(str(record.get("version") or ""))
    kind = "good" if outcome == "done" else "bad"
    said = "".join(f'<p class="soft">{escape(str(record[name]))}</p>' for name in ("why", "forced", "paused")
                   if record.get(name))
    gates = [*record.get("gates", ()), *(record[name] for name in ("replay", "bake") if name in record)]
    return (f'<div class="card"><h3>{escape(str(record["what"]))} {escape(str(record["model"]))} {version} '
            f'<span class="{kind}">{escape(outcome)}</span></h3>'
            f'<p class="soft">{escape(str(record.get("when", "")))}, {escape(str(record.get("who", "")))}</p>{said}'
            f"<ul>{''.join(map(_gate, gates))}</ul></div>")


def _gate(gate: Mapping[str, Any]) -> str:
    passed = gate.get("passed")
    kind, said = ("unsure", "not judged") if passed is None else ("good", "passed") if passed else ("bad", "failed")
    return (f'<li><span class="{kind}">{said}</span> {escape(str(gate.get("name")))}: {escape(str(gate.get("words")))}'
            f"{_chart(gate.get('figures') or {})}</li>")


def _chart(figures: Mapping[str, Any]) -> str:
    """The ratio of a latency with its interval, over 1 if the new version is faster; "" without one."""
    found = figures.get("typical", figures)
    ends: Sequence[Any] = found.get("ci95") or ()
    if "ratio" not in found or len(ends) != 2 or not all(isinstance(one, int | float) for one in (
            *ends, found["ratio"])):
        return ""
    low, ratio, high = (_place(float(one)) for one in (ends[0], found["ratio"], ends[1]))
    marks = "".join(f'<text x="{_place(one):.0f}" y="32" text-anchor="middle">{one:g}</text>' for one in (0.5, 1, 2, 4))
    return (f'<svg viewBox="0 0 300 34" role="img" aria-label="ratio {found["ratio"]:.3f}">'
            f'<line class="axis" x1="10" x2="290" y1="10" y2="10"/><line class="one" x1="{_place(1):.0f}" '
            f'x2="{_place(1):.0f}" y1="1" y2="19"/><line class="span" x1="{low:.1f}" x2="{high:.1f}" y1="10" y2="10"/>'
            f'<circle class="dot" cx="{ratio:.1f}" cy="10" r="3.5"/>{marks}</svg>')


def _place(ratio: float) -> float:
    share = math.log(min(_MOST, max(_LEAST, ratio)) / _LEAST) / math.log(_MOST / _LEAST)
    return 10 + share * _WIDE


def _form(model: Mapping[str, Any]) -> str:
    example = model.get("example")
    if not example:
        return ""
    return (f'<h2>Try {escape(model["name"])}</h2><form data-to="{escape(example["to"])}">'
            f'<textarea aria-label="request" spellcheck="false">{escape(example["body"])}</textarea>'
            "<p><button>Send</button></p><pre></pre></form>")


def values_of(state: Mapping[str, Any], title: str, records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The values for a page, from a state of now with models and perhaps drift. Only what JSON has is shown."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    found: dict[str, Any] = json.loads(json.dumps({**state, "title": title, "when": when, "history": list(records)},
                                                  default=str))
    return found
