"""The options that several commands share."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serving.client.answers import Budget


def _listed(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value is not None else None


def path_given(_ctx: click.Context, _param: click.Parameter, value: str) -> Path:
    # An empty shell variable would otherwise be the current directory.
    if not value:
        raise click.BadParameter("it is empty")
    if "://" in value:
        # pathlib would make it a directory called "gs:" here.
        raise click.BadParameter(f"{value} is a URI, and results are written to local paths only; copy them there "
                                 "afterwards (the directory with the version's number last)")
    return Path(value).expanduser()


def _path_or_none(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    return None if value is None else path_given(ctx, param, value)


signatures_option = click.option(
    "--signatures", metavar="KEY,...", callback=_listed, help="Only these signatures (default: all).")
tags_option = click.option(
    "--tags", metavar="TAG,...", default="serve", show_default=True, callback=_listed,
    help="The tags of the MetaGraph to take.")
to_option = click.option(
    "--to", "base", required=True, callback=path_given, metavar="DST", help="The base path: the result is DST/VERSION.")
version_option = click.option(
    "--version", type=int, metavar="N", help="The version to make (default: the next free one).")
def batches_option(default: str) -> Any:
    return click.option("--batch", "batches", metavar="N,...", default=default, show_default=True,
                        callback=_batches, help="The batch sizes to try.")


def _batches(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    return positive_sizes(value)


def positive_sizes(value: str) -> tuple[int, ...]:
    """The numbers of a list such as 1,3,17. Raises BadParameter."""
    try:
        sizes = tuple(int(part) for part in value.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"'{value}' is no list of positive integers such as 1,3,17")
    return sizes


def budget(atol: float | None, rtol: float | None) -> Budget | None:
    """The Budget of these bounds; None if neither is given."""
    return None if atol is None and rtol is None else Budget(relative=rtol or 0.0, absolute=atol or 0.0)


samples_option = click.option("--samples", "sample_file", callback=_path_or_none, metavar="X.npz",
                              help="Real examples: arrays named as the signature's inputs, and 'labels'.")
allow_constant_option = click.option(
    "--allow-constant", "allow_constant", metavar="KEY,...", callback=_listed,
    help="Signatures whose answer may be the same for all inputs, such as those of a model at its initial weights.")
atol_option = click.option("--atol", type=float, help="Allow this absolute error (default: the tolerance table).")
rtol_option = click.option("--rtol", type=float, help="Allow this error relative to the largest number of its output.")
seed_option = click.option("--seed", default=0, show_default=True, help="Seed of the random inputs.")


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> frozenset[str]:
    return frozenset(part.strip() for part in (value or "").split(",") if part.strip())


allow_option = click.option(
    "--allow", metavar="OP,...", callback=_names,
    help="Run signatures that hold these operations, which touch files or the network, in an empty directory.")
allow_random_option = click.option(
    "--allow-random", metavar="KEY,...", callback=_names,
    help="Compare these signatures, which draw random numbers, with the same seeds on both sides.")
