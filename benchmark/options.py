"""Options that the commands share."""
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmark.targets.addresses import Access
from benchmark.targets.target import running_targets
from commandline import json_option
from serving.client.answers import Budget
from serving.client.options import parse_headers
from serving.client.protocol import Tls
from whole_file import refuse_unwritable

Command = TypeVar("Command", bound=Callable[..., Any])


class CommaList(click.ParamType[Any]):
    """Comma-separated values, each converted by `item`, none twice."""

    name = "list"

    def __init__(self, item: click.ParamType[Any]) -> None:
        self._item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(self._item.convert(part.strip(), param, ctx) for part in value.split(",")))


def comma_list(choices: Sequence[str]) -> CommaList:
    return CommaList(click.Choice(choices))


numbers = CommaList(click.FloatRange(0, min_open=True))
positive_list = CommaList(click.IntRange(1))


def address_options(command: Command) -> Any:
    """--url, --grpc, and what they ask for. The command gets them as `running`, a list of Target."""
    @wraps(command)
    def with_running(model: str, urls: tuple[str, ...], grpcs: tuple[str, ...], headers: tuple[str, ...],
                     tls_authority: str | None, tls_certificate: str | None, tls_key: str | None,
                     saved_model: str | None, **others: Any) -> Any:
        tls = Tls(tls_authority, tls_certificate, tls_key)
        access = Access(tuple(parse_headers(headers).items()), tls if tls != Tls() else None, saved_model)
        return command(model=model, running=running_targets(urls, grpcs, model, access), **others)
    decorated: Any = with_running
    for option in reversed((
            click.option("--url", "urls", multiple=True, metavar="URL",
                         help="A server already running, as http(s)://host:port, or a Vertex AI endpoint, as "
                              "vertex:projects/P/locations/L/endpoints/E; repeatable."),
            click.option("--grpc", "grpcs", multiple=True, metavar="HOST:PORT",
                         help="The gRPC address of a server already running; the n-th belongs to the n-th --url."),
            click.option("--header", "headers", multiple=True, metavar="NAME:VALUE",
                         help="Sent with every request to --url and --grpc; repeatable."),
            click.option("--tls-authority", metavar="FILE",
                         help="Certificate (PEM) of the authority to trust; encrypts --grpc too."),
            click.option("--tls-certificate", metavar="FILE", help="The client's own certificate (PEM)."),
            click.option("--tls-key", metavar="FILE", help="The key of --tls-certificate (PEM)."),
            click.option("--saved-model", metavar="DIR",
                         help="The model's version directory, where --url does not tell signatures (Vertex AI, "
                              "most KServe runtimes)."))):
        decorated = option(decorated)
    return decorated


def budget_options(command: Command) -> Any:
    """--atol, --rtol, --disagreement: one parameter `budget`, None where none is given."""
    @wraps(command)
    def with_budget(atol: float | None, rtol: float | None, disagreement: float | None, **rest: Any) -> Any:
        given = any(value is not None for value in (atol, rtol, disagreement))
        return command(budget=Budget(rtol or 0.0, atol or 0.0, disagreement or 0.0) if given else None, **rest)

    decorated: Any = with_budget
    for name, words in (("--disagreement", "Grant that this share of integers and strings differs."),
                        ("--rtol", "Grant answers this error relative to the largest of an example."),
                        ("--atol", "Grant answers this absolute error (default: the tolerance table).")):
        decorated = click.option(name, type=click.FloatRange(0), help=words)(decorated)
    return decorated


def output_options(command: Command) -> Any:
    """--html, --json; a path that cannot be written is told before anything is measured."""
    @wraps(command)
    def checked(html_path: str | None, **rest: Any) -> Any:
        if html_path not in (None, "-"):
            refuse_unwritable(Path(str(html_path)))
        return command(html_path=html_path, **rest)
    html = click.option("--html", "html_path", metavar="PATH", help="Write a report (one file, works offline) to PATH.")
    return html(json_option(checked))


def model_options(command: Command) -> Command:
    """--model and those of source_options."""
    model = click.option("--model", default="mnist", show_default=True, help="The model below --models.")
    return model(source_options(command))


def source_options(command: Command) -> Command:
    """--models, --signature, --samples, --seed, --grappler, --server-flag."""
    for option in reversed((
            click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True,
                         help="The folder of models/<model>/<variant>/<version>."),
            click.option("--signature", default="", help="Signature to ask (default: serving_default)."),
            click.option("--samples", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                         help="Inputs: an .npz of arrays by input name, or recorded traffic (default: the version's)."),
            click.option("--seed", type=int, default=0, show_default=True, help="Of made inputs and of the bootstrap."),
            click.option("--grappler", type=click.Choice(("on", "off")), default="on", show_default=True,
                         help="TensorFlow's own graph optimizer, for targets in process (session:, predictor:)."),
            click.option("--server-flag", "server_flags", multiple=True, metavar="FLAG",
                         help="For every server started, such as --server-flag=--enable_batching; repeatable."))):
        command = option(command)
    return command
