"""What was asked of reduced precision: `--precision` and the options that belong to it."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, get_args

import click

import cpu_class
from export.options import positive_sizes
from export.precision.layer import Precision
from user_error import UserError

AUTO = "auto"
PRECISIONS = (*get_args(Precision), AUTO)
RANGES = ("minmax", "percentile", "mse", "kl")
STORAGE = ("float16", "int8")
ACCURACY_DROP = 0.5
INTEREST = (1, 32)
MEASURE_S = 90.0
# The options that say something only of these precisions; "storage" stands for float32 with --storage.
_REDUCED = ("bfloat16", "int8", AUTO)
_BELONGS = {"max_accuracy_drop": (*_REDUCED, "storage"), "max_error": (*_REDUCED, "storage"), "interest": _REDUCED,
            "ranges": ("int8", AUTO), "keep": _REDUCED, "unmeasured": ("bfloat16", "int8"), "max_time": _REDUCED}
_NAMES = {"max_accuracy_drop": "--max-accuracy-drop", "max_error": "--max-error", "interest": "--batch-of-interest",
          "ranges": "--ranges", "keep": "--keep-float32", "unmeasured": "--unmeasured",
          "max_time": "--max-time"}


@dataclass(frozen=True)
class Reduction:
    """None: the option was not given.

    max_accuracy_drop is in points (hundredths), max_error a fraction of the largest magnitude of its output; interest:
    the batch sizes whose speed counts; keep: names of nodes that stay in float32; unmeasured: publish without timing;
    max_time: seconds that one comparison of candidates may measure.
    """

    precision: str = "float32"
    max_accuracy_drop: float | None = None
    max_error: float | None = None
    interest: tuple[int, ...] | None = None
    ranges: str | None = None
    keep: tuple[str, ...] | None = None
    storage: str | None = None
    unmeasured: bool = False
    max_time: float | None = None

    def __post_init__(self) -> None:
        """Raises UserError for a value that does not exist, and for an option without effect on what was asked."""
        for name, value, known in (("precision", self.precision, PRECISIONS), ("ranges", self.ranges, RANGES),
                                   ("storage", self.storage, STORAGE)):
            if value is not None and value not in known:
                raise UserError(f"--{name} {value}: choose from {', '.join(known)}")
        if self.storage and self.precision != "float32":
            raise UserError(f"--storage {self.storage} is for weights of float32, and --precision {self.precision} "
                            "stores its own in less: leave one of the two out")
        what = "storage" if self.storage else self.precision
        for name, precisions in _BELONGS.items():
            value = getattr(self, name)
            if value is not None and value is not False and what not in precisions:
                ways = " or ".join(f"--precision {one}" if one != "storage" else "--storage" for one in precisions)
                raise UserError(f"{_NAMES[name]} has no effect on {_said(what)}: it is for {ways}")
        if self.max_time is not None and self.max_time <= 0:
            raise UserError("--max-time is above 0")
        if min(self.max_accuracy_drop or 0.0, self.max_error or 0.0) < 0:
            raise UserError("--max-accuracy-drop and --max-error are at least 0")
        if self.interest is not None and (not self.interest or min(self.interest) < 1):
            raise UserError("--batch-of-interest takes positive integers, such as 1,100")

    @property
    def asked(self) -> bool:
        """Whether answers may differ by more than rounding in float32."""
        return self.precision != "float32" or self.storage is not None

    @property
    def drop(self) -> float:
        """The points of accuracy, or of agreement in the top class, that may be lost."""
        return ACCURACY_DROP if self.max_accuracy_drop is None else self.max_accuracy_drop

    @property
    def measure_s(self) -> float:
        return self.max_time or MEASURE_S

    @property
    def batches(self) -> tuple[int, ...]:
        return self.interest or INTEREST

    def to_json(self) -> dict[str, Any]:
        """For the recipe, with the class of CPU, on which the result depends; nothing for float32."""
        if not self.asked:
            return {}
        return {"precision": self.precision, "max_accuracy_drop": self.drop, "max_error": self.max_error,
                "batch_of_interest": self.batches, "ranges": self.ranges, "keep_float32": sorted(self.keep or ()),
                "storage": self.storage, "unmeasured": self.unmeasured, "max_time": self.max_time,
                "cpu_class": str(cpu_class.current())}


def _said(what: str) -> str:
    return "--storage" if what == "storage" else f"--precision {what}"


def reduction_options(command: Callable[..., Any]) -> Any:
    """The options, as one parameter `reduction`."""
    @wraps(command)
    def with_reduction(**given: Any) -> Any:
        chosen = {name: given.pop(name) for name in Reduction.__dataclass_fields__}
        return command(reduction=Reduction(**chosen), **given)
    decorated: Any = with_reduction
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _sizes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    return None if value is None else positive_sizes(value)


def _nodes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value is not None else None


_OPTIONS: tuple[Any, ...] = (
    click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True,
                 help="Of contractions and what is between them; auto: the fastest of all, chosen by measuring here."),
    click.option("--max-accuracy-drop", type=click.FloatRange(0, 100), metavar="POINTS",
                 help="Points of accuracy that may be lost; without labels, of equal top classes "
                      f"[default: {ACCURACY_DROP}]."),
    click.option("--max-error", type=click.FloatRange(0), metavar="X",
                 help="Bound of every float output: max|a-b| / max|a|."),
    click.option("--batch-of-interest", "interest", metavar="N,...", callback=_sizes,
                 help="Batch sizes whose speed counts: it must be faster at each "
                      f"[default: {','.join(map(str, INTEREST))}]."),
    click.option("--ranges", type=click.Choice(RANGES), help="How int8 gets its ranges from the samples."),
    click.option("--keep-float32", "keep", metavar="NODE,...", callback=_nodes,
                 help="Contractions that stay in float32, whatever the precision."),
    click.option("--storage", type=click.Choice(STORAGE),
                 help="Store float32 weights in less, for size alone: the model still computes in float32."),
    click.option("--max-time", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                 help=f"How long the candidates are measured, besides their start [default: {MEASURE_S:g}]."),
    click.option("--unmeasured", is_flag=True,
                 help="Publish bfloat16 or int8 without measuring that it is faster: for another CPU than this."))
