"""python -m serving status: which versions of a model a running server has, and their states."""
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from commandline import EXIT_FAILED, json_option
from serving.client.options import Target, naming_models, target, target_options
from serving.client.protocol import AnswerError, Client, UnreachableError, VersionStatus
from user_error import FailedError
from whole_file import write_json

POLL_S = 0.1


@click.command("status", epilog="""
\b
Examples:
  python -m serving status
  python -m serving status --model mnist --version 1 --protocol grpc
  python -m serving status --wait 60                    # until a version is AVAILABLE, for 60 s at most
  python -m serving status --signatures                 # the inputs and outputs of the newest version
  python -m serving status --json - | jq .versions
""")
@target_options
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS",
              help="How long to wait for a version to become AVAILABLE.")
@click.option("--signatures", is_flag=True, help="Also show the inputs and outputs of the newest version.")
@json_option
def command(wait_s: float, signatures: bool, json_path: str | None, **options: Any) -> int:
    """The versions of a model on a running server, and their states."""
    where = target(**options)
    client = where.client()
    try:
        with naming_models(client, options["model"] is not None):
            versions = wait(client, wait_s) if wait_s else client.status()
        metadata = client.metadata() if signatures else None
    finally:
        client.close()
    described = {} if metadata is None else {
        name: {side: {key: str(spec) for key, spec in specs.items()}
               for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))}
        for name, signature in sorted(metadata.signatures.items()) if signature.outputs}  # without: TF2's init op
    available = any(version.state == "AVAILABLE" for version in versions)
    if json_path:
        write_json(json_path, {
            "model": where.model, "protocol": where.protocol, "address": where.address, "available": available,
            "versions": [vars(version) for version in versions],
            **({"signatures": described} if signatures else {})})
    if json_path != "-":
        _print(where, versions, described)
    return 0 if available else EXIT_FAILED


def wait(client: Client, timeout_s: float) -> tuple[VersionStatus, ...]:
    """The versions, once one is AVAILABLE. If none is in time, raises UserError or FailedError with the last reason."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            versions = client.status()
            if any(version.state == "AVAILABLE" for version in versions):
                return versions
            last = ", ".join(f"version {v.version} is {v.state}" for v in versions) or "no version is known"
            unreachable = False
        except (AnswerError, UnreachableError) as error:
            last, unreachable = str(error), isinstance(error, UnreachableError)
        if time.monotonic() >= deadline:
            # An unreachable server has the same exit status with and without --wait.
            raise (UnreachableError if unreachable else FailedError)(f"not available after {timeout_s:g} s: {last}")
        time.sleep(POLL_S)


def _print(where: Target, versions: tuple[VersionStatus, ...],
           signatures: dict[str, dict[str, dict[str, str]]]) -> None:
    console = Console(highlight=False)
    table = Table(title=f"{where.model} at {where.address} ({where.protocol})", title_justify="left")
    for heading in ("version", "state", "status"):
        table.add_column(heading, justify="right" if heading == "version" else "left")
    for version in versions:
        table.add_row(str(version.version), version.state, f"{version.code} {version.message}".strip())
    console.print(table)
    for name, sides in signatures.items():
        console.print(f"signature {name}")
        for side, tensors in sides.items():
            for key, text in tensors.items():
                console.print(f"  {side[:-1]:6} {key}: {text}", markup=False)
