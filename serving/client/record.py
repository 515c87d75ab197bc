"""python -m serving record: requests to a running server and its answers, as a file of recorded traffic."""
from collections.abc import Iterator
from typing import Any

import click

from commandline import json_option, step
from serving import recording
from serving.client import payloads
from serving.client.options import naming_models, target, target_options
from serving.client.payloads import Arrays
from user_error import UserError
from whole_file import write_json


@click.command("record", epilog="""
\b
Examples:
  python -m serving record --to traffic.tfrecord --requests 200 --batch 4
  python -m serving record --to traffic.tfrecord --samples models/mnist/original/1/assets.extra/samples.npz
  python -m serving record --to models/mnist/original/1/assets.extra/tf_serving_warmup_requests --requests 5

\b
The file is a TFRecord of tensorflow.serving.PredictionLog, the format of TensorFlow Serving's own request logs and
warm-up files. It holds the requests and the answers, so that another server's answers can be compared with them.
""")
@target_options
@click.option("--to", "path", required=True, metavar="FILE", help="The file to write.")
@click.option("--requests", "count", type=click.IntRange(min=1), default=100, show_default=True,
              help="How many requests to send, one after the other.")
@click.option("--signature", "signature_name", default="", metavar="NAME",
              help="The signature to call (default: serving_default).")
@click.option("--samples", metavar="FILE.npz", help="Take the inputs from the arrays of this file, by input name.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Examples in a request.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random inputs.")
@json_option
def command(path: str, count: int, signature_name: str, samples: str | None, batch: int, seed: int,
            json_path: str | None, **options: Any) -> None:
    """Record requests to a running server and its answers."""
    where = target(**options)
    arrays = payloads.load_samples(samples) if samples else None
    client = where.client()

    def exchanges() -> Iterator[recording.Predicted]:
        for number in range(count):
            inputs: Arrays = (payloads.make(specs, batch, seed + number) if arrays is None
                              else payloads.pick(arrays, specs, batch, number * batch))
            yield recording.Predicted(where.model, inputs, signature_name, client.predict(inputs, signature_name),
                                      metadata.version)
    try:
        with naming_models(client, options["model"] is not None):
            metadata = client.metadata()
        specs = metadata.signature(signature_name).inputs
        with step(f"{count} requests to {where.model} version {metadata.version} at {where.address}"):
            written = recording.write(path, exchanges())
    except ValueError as error:
        raise UserError(str(error)) from None
    finally:
        client.close()
    if json_path:
        write_json(json_path, {"file": path, "model": where.model, "version": metadata.version, "requests": written,
                               "batch": batch})
