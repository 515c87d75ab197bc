"""The options that these load tests add to Locust's own, read once into `Settings`."""
import argparse
from dataclasses import dataclass
from typing import Any

from serving.client.objective import Objective, parse_objective
from serving.client.options import GRPC_ADDRESS, parse_headers
from serving.client.protocol import Tls
from user_error import UserError

SHAPES = ("steps", "spike", "ramp")


@dataclass(frozen=True)
class Settings:
    """`rate` is per user and per second, 0 in a closed loop; `requests` per user, 0 for no end."""
    model: str
    version: int | None
    label: str | None
    variant: str | None
    signature: str
    batch: int
    samples: str | None
    recorded: str | None
    payloads: int
    seed: int
    grpc_address: str
    headers: dict[str, str]
    tls: Tls | None
    saved_model: str | None
    rate: float
    arrivals: str
    requests: int
    objectives: tuple[Objective, ...]
    max_error_ratio: float | None
    hdr: str | None
    shape: str | None


def add_arguments(parser: Any) -> None:
    """Declares the options. Locust gives them to its workers and shows them in its web page, not in its --help."""
    group = parser.add_argument_group("TensorFlow Serving")
    add = group.add_argument
    add("--model", default="mnist", help="the model's name on the server (mnist)")
    add("--model-version", type=int, metavar="N", help="one version (the newest)")
    add("--label", metavar="NAME", help="the version that has this label, such as canary")
    add("--variant", metavar="NAME", help="what is served, such as optimized; only shown in the request names")
    add("--signature", default="", metavar="NAME", help="the signature to call (serving_default)")
    add("--batch", type=int, default=1, metavar="N", help="examples per request (1)")
    add("--samples", metavar="FILE.npz", help="inputs by input name (default: generated from the model's metadata)")
    add("--recorded", metavar="FILE", help="send the requests of this file (python -m serving record, or TensorFlow "
                                           "Serving's request log) and check that the answers equal those in it")
    add("--payloads", type=int, default=8, metavar="N", help="number of different requests, sent cyclically (8)")
    add("--seed", type=int, default=0, help="random seed of generated inputs and Poisson arrivals (0)")
    add("--grpc-address", default=GRPC_ADDRESS, metavar="HOST:PORT", help=f"the gRPC server ({GRPC_ADDRESS})")
    add("--saved-model", metavar="DIR", help="the model's version directory, for REST servers that do not report its "
                                             "signatures (most KServe runtimes)")
    add("--header", action="append", metavar="NAME:VALUE", help="sent with every request; may be repeated")
    add("--tls-authority", metavar="FILE", help="certificate (PEM) of the authority to trust; turns TLS on for gRPC")
    add("--rate", type=float, default=0.0, metavar="R",
        help="open loop: each user sends R requests per second on schedule, whether or not earlier answers have "
             "arrived; latency counts from the intended start")
    add("--arrivals", choices=("poisson", "constant"), default="poisson", help="request spacing with --rate (poisson)")
    add("--requests-per-user", type=int, default=0, metavar="N", help="stop a user after N requests, and the run "
                                                                     "when all have stopped")
    add("--slo", action="append", metavar="P=TIME", type=_is_objective,
        help="for example p99=50ms or mean=10ms; may be repeated; the run fails when a request name misses it")
    add("--max-error-ratio", type=float, metavar="X",
        help="the run fails above this share (0..1) of failed requests (with --slo: 0)")
    add("--hdr", metavar="FILE", help="write the HDR histograms as JSON ('-': standard output)")
    add("--shape", choices=SHAPES, help="steps: five equal steps up to -u users over -t; spike: a tenth of -u, all "
                                        "of -u in the middle fifth; ramp: from one user up to -u, ended early by "
                                        "failures or a missed --slo")


def settings(options: argparse.Namespace) -> Settings:
    """The options as Settings. Raises UserError for options that contradict each other."""
    if options.model_version and options.label:
        raise UserError("--model-version and --label both choose a version: give one of them")
    if options.samples and options.recorded:
        raise UserError("--samples and --recorded both give the requests: give one of them")
    for name in ("batch", "payloads"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    return Settings(
        options.model, options.model_version, options.label, options.variant, options.signature, options.batch,
        options.samples, options.recorded, options.payloads, options.seed, options.grpc_address,
        parse_headers(tuple(options.header or ())), Tls(options.tls_authority) if options.tls_authority else None,
        options.saved_model, options.rate, options.arrivals, options.requests_per_user,
        tuple(map(parse_objective, options.slo or ())), options.max_error_ratio, options.hdr, options.shape)


def _is_objective(text: str) -> str:
    """Checks the option but keeps its text, because Locust sends a master's options to its workers as plain values."""
    try:
        parse_objective(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
