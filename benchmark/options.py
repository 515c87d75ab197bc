"""Options that the commands share."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmark import report
from benchmark.reports.head import Head
from benchmark.targets.addresses import Access
from benchmark.targets.inputs import Inputs
from benchmark.targets.source import Source
from benchmark.targets.target import PROTOCOLS, Target, running_targets
from benchmark.verdicts.demands import Demands
from commandline import json_option, progress_console
from serving.client.answers import Budget
from serving.client.objective import parse_objective
from serving.client.options import parse_headers
from serving.client.protocol import Tls
from user_error import UserError
from whole_file import refuse_unwritable, write_json

Command = TypeVar("Command", bound=Callable[..., Any])


class CommaList(click.ParamType[Any]):
    """Comma-separated values, each converted by `item`; duplicates are removed."""

    name = "list"

    def __init__(self, item: click.ParamType[Any]) -> None:
        self._item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(self._item.convert(part.strip(), param, ctx) for part in value.split(",")))


def comma_list(choices: Sequence[str]) -> CommaList:
    return CommaList(click.Choice(choices))


VERDICTS = ("slower", "equal", "faster")


class Percent(click.ParamType[float]):
    """A share such as 2% or 0.02, between 0 and 1."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            found = -1.0
        if not 0 <= found < 1:
            self.fail(f"'{value}' is no share: give one such as 2% or 0.02", param, ctx)
        return found


PERCENT = Percent()
numbers = CommaList(click.FloatRange(0, min_open=True))
positive_list = CommaList(click.IntRange(1))


protocol_option = click.option("--protocol", type=click.Choice(PROTOCOLS),
                               help="Protocol of the requests (default: grpc; in-process targets have none).")
batch_option = click.option("--batch", type=click.IntRange(1), default=1, show_default=True,
                            help="Examples per request.")
slo_option = click.option("--slo", metavar="pP=Nms", help="Latency objective, such as p99=50ms.")


@dataclass(frozen=True)
class Output:
    """The files that a result is written to; it is always shown on the terminal too."""

    html: str | None = None
    json: str | None = None

    def save(self, result: Head) -> None:
        """Writes what was measured so far, so that it is not lost if a later part crashes."""
        if self.json and self.json != "-":
            write_json(self.json, result)

    def deliver(self, result: Head) -> None:
        """Shows the result, and writes the files that were asked for."""
        report.deliver(result, self.html, self.json)


def announce(description: str) -> None:
    """Prints the plan of a command and its expected time to stderr, before the command begins."""
    progress_console().print(f"[green]✓[/green] Plan: {description}", soft_wrap=True)


def source_options(addresses: bool = True, grappler: bool = True) -> Callable[[Command], Any]:
    """The options for targets and inputs, as one parameter `source`.

    Args:
        addresses: whether to offer --url, --grpc and their options; grappler: whether to offer --grappler. A command
            offers only the options that it can honour.
    """
    offered = [*_SOURCE, *((_GRAPPLER,) if grappler else ()), *(_ADDRESSES if addresses else ())]

    def decorate(command: Command) -> Any:
        @wraps(command)
        def with_source(model: str, models: Path, signature: str, samples: Path | None, seed: int,
                        server_flags: tuple[str, ...], **others: Any) -> Any:
            running = _running(model, **{name: others.pop(name) for name in _ADDRESSED}) if addresses else []
            source = Source(model, models, Inputs(signature, samples, seed), server_flags,
                            others.pop("grappler") == "on" if grappler else True, tuple(running))
            return command(source=source, **others)
        decorated: Any = with_source
        for option in reversed(offered):
            decorated = option(decorated)
        return decorated
    return decorate


def _running(model: str, urls: tuple[str, ...], grpcs: tuple[str, ...], headers: tuple[str, ...],
             tls_authority: str | None, tls_certificate: str | None, tls_key: str | None, saved_model: str | None
             ) -> list[Target]:
    """The servers at --url and --grpc. Raises UserError for an option about them that has no effect."""
    tls = Tls(tls_authority, tls_certificate, tls_key)
    given = {"--header": headers, "--tls-authority": tls_authority, "--tls-certificate": tls_certificate,
             "--tls-key": tls_key, "--saved-model": saved_model}
    if not urls and not grpcs and (name := next((name for name, value in given.items() if value), None)):
        raise UserError(f"{name} is for servers that run already: name one with --url or --grpc")
    if tls != Tls() and not grpcs and all(url.startswith("http://") for url in urls):
        raise UserError(f"no request to {', '.join(urls)} is encrypted: with --tls-... name an https:// URL, or --grpc")
    access = Access(tuple(parse_headers(headers).items()), tls if tls != Tls() else None, saved_model)
    return running_targets(urls, grpcs, model, access)


_SOURCE = (
    click.option("--model", default="mnist", show_default=True, help="Name of the model."),
    click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True,
                 help="Folder that contains <model>/<variant>/<version>."),
    click.option("--signature", default="", help="Signature to call (default: serving_default)."),
    click.option("--samples", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="Inputs: an .npz of arrays by input name, or recorded traffic (default: the version's)."),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of random inputs and of the bootstrap."),
    click.option("--server-flag", "server_flags", multiple=True, metavar="FLAG",
                 help="Flag for each server that is started, such as --server-flag=--enable_batching; repeatable."))
_GRAPPLER = click.option("--grappler", type=click.Choice(("on", "off")), default="on", show_default=True,
                         help="TensorFlow's own graph optimizer, for in-process targets (session:, predictor:).")
_ADDRESSED = ("urls", "grpcs", "headers", "tls_authority", "tls_certificate", "tls_key", "saved_model")
_ADDRESSES = (
    click.option("--url", "urls", multiple=True, metavar="URL",
                 help="A server already running, as http(s)://host:port, or a Vertex AI endpoint, as "
                      "vertex:projects/P/locations/L/endpoints/E; repeatable."),
    click.option("--grpc", "grpcs", multiple=True, metavar="HOST:PORT",
                 help="The gRPC address of a server already running; the n-th belongs to the n-th --url."),
    click.option("--header", "headers", multiple=True, metavar="NAME:VALUE",
                 help="Header of every request to --url and --grpc; repeatable."),
    click.option("--tls-authority", metavar="FILE",
                 help="Certificate (PEM) of the authority to trust; encrypts --grpc too."),
    click.option("--tls-certificate", metavar="FILE", help="The client's own certificate (PEM)."),
    click.option("--tls-key", metavar="FILE", help="The key of --tls-certificate (PEM)."),
    click.option("--saved-model", metavar="DIR",
                 help="The model's version directory, for a --url that does not report signatures (Vertex AI, "
                      "most KServe runtimes)."))


def budget_options(command: Command) -> Any:
    """--atol, --rtol and --disagreement, as one parameter `budget`; None if none of them is given."""
    @wraps(command)
    def with_budget(atol: float | None, rtol: float | None, disagreement: float | None, **rest: Any) -> Any:
        given = any(value is not None for value in (atol, rtol, disagreement))
        return command(budget=Budget(rtol or 0.0, atol or 0.0, disagreement or 0.0) if given else None, **rest)

    decorated: Any = with_budget
    for name, description in (("--disagreement", "Allow this share of integers and strings to differ."),
                        ("--rtol", "Allow answers this error relative to the largest value of an example."),
                        ("--atol", "Allow answers this absolute error (default: the tolerance table).")):
        decorated = click.option(name, type=click.FloatRange(0), help=description)(decorated)
    return decorated


def demand_options(command: Command) -> Any:
    """--fail-if, --fail-if-not and --budget, as one parameter `demands`; and --against."""
    @wraps(command)
    def with_demands(fail_if: str | None, fail_if_not: str | None, budgets: tuple[str, ...], **rest: Any) -> Any:
        return command(demands=Demands(fail_if, fail_if_not, tuple(map(parse_objective, budgets))), **rest)

    decorated: Any = with_demands
    verdict = click.Choice(VERDICTS)
    for option in (
            click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="RESULT",
                         help="A stored result (--json) with the same baseline, to compare the candidate with."),
            click.option("--budget", "budgets", multiple=True, metavar="pP=Nms",
                         help="Fail unless the candidate's latency is within it, such as p99=50ms; repeatable."),
            click.option("--fail-if-not", type=verdict,
                         help="Fail unless this is the verdict for all candidates, protocols and batch sizes; faster "
                              "is enough for equal."),
            click.option("--fail-if", type=verdict,
                         help="Fail if this is the verdict for any candidate, protocol or batch size.")):
        decorated = option(decorated)
    return decorated


card_option = click.option("--card", "cards", multiple=True, metavar="PATH", callback=report.card_paths,
                           help="Write the verdicts as a picture, .svg or .png, to PATH; repeatable.")


def output_options(command: Command) -> Any:
    """--html and --json, as one parameter `output`. A path that cannot be written is refused before measuring."""
    @wraps(command)
    def checked(html_path: str | None, json_path: str | None, **rest: Any) -> Any:
        if html_path not in (None, "-"):
            refuse_unwritable(Path(str(html_path)))
        return command(output=Output(html_path, json_path), **rest)
    html = click.option("--html", "html_path", metavar="PATH", help="Write a report (one file, works offline) to PATH.")
    return html(json_option(checked))
