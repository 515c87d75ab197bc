"""python -m serving predict: one request to a running server, and its answer."""
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from commandline import json_option
from serving.client import json_codec, payloads
from serving.client.options import Target, naming_models, target, target_options
from serving.client.payloads import Array, Arrays, TensorSpec
from serving.client.protocol import AnswerError, explained
from user_error import UserError
from whole_file import write_json

SHOWN_VALUES = 12


@click.command("predict", epilog="""
\b
Examples:
  python -m serving predict                                         # random inputs, by the model's metadata
  python -m serving predict --samples models/mnist/original/1/assets.extra/samples.npz --batch 3
  python -m serving predict --model half_plus_two --inputs '{"x": [1.0, 2.0, 5.0]}'
  python -m serving predict --inputs @inputs.json --protocol grpc --address localhost:8500
  python -m serving predict --protocol vertex --address projects/123/locations/europe-west4/endpoints/456 \\
      --saved-model models/mnist/optimized/1
  python -m serving predict --json - | jq .outputs.softmax.values
""")
@target_options
@click.option("--signature", "signature_name", default="", metavar="NAME",
              help="The signature to call (default: serving_default).")
@click.option("--inputs", "given", metavar="JSON|@FILE", help="The inputs: an object of nested lists by input name.")
@click.option("--samples", metavar="FILE.npz", help="Take the inputs from the arrays of this file, by input name.")
@click.option("--start", type=click.IntRange(min=0), default=0, help="The first example to take from --samples.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Examples in the request.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random inputs.")
@click.option("--rows", type=click.IntRange(min=0), default=SHOWN_VALUES, show_default=True,
              help="Rows of each output to print; 0: all of them.")
@json_option
def command(signature_name: str, given: str | None, samples: str | None, start: int, batch: int, seed: int,
            json_path: str | None, rows: int, **options: Any) -> None:
    """Send one request to a running server and print the answer."""
    where = target(**options)
    if given and samples:
        raise UserError("--inputs and --samples both give the inputs: give one of them")
    # Read before connecting: mistakes in them can be reported without a server.
    values = read_inputs(given) if given else None
    arrays = payloads.load_samples(samples) if samples else None
    client = where.client()
    try:
        with naming_models(client, options["model"] is not None):
            metadata = client.metadata()
        specs = metadata.signature(signature_name).inputs
        if values is not None:
            inputs = fit_inputs(values, specs)
        elif arrays is not None:
            inputs = payloads.pick(arrays, specs, batch, start)
        else:
            inputs = payloads.make(specs, batch, seed)
        try:
            request = client.prepare(inputs, signature_name)
        except ValueError as error:
            raise UserError(str(error)) from None
        began = time.perf_counter()
        try:
            raw = client.send(request)
        except AnswerError as error:
            raise explained(client, error, inputs, signature_name) from None
        latency_ms = (time.perf_counter() - began) * 1000
        outputs = client.decode(raw, signature_name)
    finally:
        client.close()
    if json_path:
        write_json(json_path, {
            "model": where.model, "version": metadata.version, "signature": signature_name or "serving_default",
            "protocol": where.protocol, "address": where.address, "client": client.measured_by,
            "latency_ms": round(latency_ms, 3),
            "inputs": {name: _described(array) for name, array in inputs.items()},
            "outputs": {name: {**_described(array), "values": json_codec.plain_values(array)}
                        for name, array in outputs.items()}})
    if json_path != "-":
        _print(where, metadata.version, inputs, outputs, latency_ms, rows)


def read_inputs(text: str) -> dict[str, Any]:
    """The values of a JSON object, given as text or as "@FILE". Raises UserError."""
    try:
        values = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except OSError as error:
        raise UserError(f"--inputs: cannot read {text[1:]}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--inputs is no JSON ({error}); write an object such as '{{\"x\": [1.0, 2.0]}}'") from None
    if not isinstance(values, dict):
        raise UserError("--inputs must be an object of nested lists by input name, such as '{\"x\": [1.0, 2.0]}'")
    return values


def fit_inputs(values: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """Arrays in the signature's dtypes. Raises UserError."""
    if set(values) != set(specs):
        names = ", ".join(f"'{name}' ({spec})" for name, spec in specs.items())
        raise UserError(f"--inputs must be an object of exactly these inputs: {names}")
    try:
        return {name: json_codec.to_array(values[name], spec) for name, spec in specs.items()}
    except (ValueError, TypeError) as error:
        raise UserError(f"--inputs does not fit the signature: {error}") from None


def _described(array: Array) -> dict[str, Any]:
    return {"dtype": "string" if array.dtype.kind == "O" else array.dtype.name, "shape": list(array.shape)}


def _print(where: Target, version: int, inputs: Arrays, outputs: Arrays, latency_ms: float,
           rows: int) -> None:
    console = Console(highlight=False)
    sent = ", ".join(f"{name} {TensorSpec(array.dtype, array.shape)}" for name, array in inputs.items())
    console.print(f"{where.model} version {version} at {where.address} ({where.protocol}) answered in "
                  f"{latency_ms:.1f} ms to {sent}", markup=False, soft_wrap=True)
    table = Table()
    for heading in ("output", "type", "values"):
        table.add_column(heading)
    for name, array in outputs.items():
        count = len(array) if array.ndim else 1
        for index, row in enumerate(array.reshape(count, array.size // max(count, 1))[:rows or count]):
            table.add_row(name if index == 0 else "", str(TensorSpec(array.dtype, array.shape)) if index == 0 else "",
                          _shown(row))
        if 0 < rows < count:
            table.add_row("", "", f"... and {count - rows} more rows (--rows 0 prints all)")
    console.print(table)


def _shown(row: Array) -> str:
    if row.dtype.kind == "O":
        return " ".join(value.decode(errors="backslashreplace") for value in row[:SHOWN_VALUES].tolist())
    return np.array2string(row, precision=4, threshold=SHOWN_VALUES, edgeitems=SHOWN_VALUES // 2, max_line_width=10**6,
                           suppress_small=True)
