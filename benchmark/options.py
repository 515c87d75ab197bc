"""Options that the commands share."""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from commandline import json_option

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


def address_options(command: Command) -> Command:
    """--url, --grpc."""
    for option in reversed((
            click.option("--url", "urls", multiple=True, metavar="URL",
                         help="A server already running, as http://host:port; repeatable."),
            click.option("--grpc", "grpcs", multiple=True, metavar="HOST:PORT",
                         help="The gRPC address of a server already running; the n-th belongs to the n-th --url."))):
        command = option(command)
    return command


def output_options(command: Command) -> Command:
    """--html, --json."""
    html = click.option("--html", "html_path", metavar="PATH", help="Write a report (one file, works offline) to PATH.")
    return html(json_option(command))


def model_options(command: Command) -> Command:
    """--model, --models, --signature, --samples, --seed, --grappler, --server-flag."""
    for option in reversed((
            click.option("--model", default="mnist", show_default=True, help="The model below --models."),
            click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True,
                         help="The folder of models/<model>/<variant>/<version>."),
            click.option("--signature", default="", help="Signature to ask (default: serving_default)."),
            click.option("--samples", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                         help="Inputs: an .npz of arrays [n, ...] by input (default: the model version's own)."),
            click.option("--seed", type=int, default=0, show_default=True, help="Of made inputs and of the bootstrap."),
            click.option("--grappler", type=click.Choice(("on", "off")), default="on", show_default=True,
                         help="TensorFlow's own graph optimizer, for targets in process (session:, predictor:)."),
            click.option("--server-flag", "server_flags", multiple=True, metavar="FLAG",
                         help="For every server started, such as --server-flag=--enable_batching; repeatable."))):
        command = option(command)
    return command
