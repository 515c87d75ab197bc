"""What was asked of reduced precision: `--precision` and the options that belong to it."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, get_args

import click

import cpu_class
from export.engines.limits import MAX_S, Limits
from export.options import positive_sizes
from export.precision.layer import FULL, Precision
from other_engines import OTHER_ENGINES
from user_error import UserError

AUTO = "auto"
# Of weights in a .tflite file. LiteRT computes with float16 in float32; with dynamic range it multiplies in eight bits
# and takes the range of what is multiplied from each request, where int8 takes it from examples.
FLOAT16, DYNAMIC = "float16", "dynamic"
PRECISIONS = (*get_args(Precision), FLOAT16, DYNAMIC, AUTO)
# What each engine besides TensorFlow has.
ENGINES = {"litert": ("float32", FLOAT16, DYNAMIC, "int8"), "openvino": ("float32", "bfloat16", "int8")}
STOCK, ALL = "stock", "all"
RANGES = ("minmax", "percentile", "mse", "kl")
STORAGE = ("float16", "int8")
ACCURACY_DROP = 0.5
INTEREST = (1, 32)
MEASURE_S = 90.0
_REDUCED = ("bfloat16", "int8", AUTO)
_ENGINE, _ENGINE_LOWER, _ENGINES = "--engine", "--engine with a lower --precision", "--engines all"
_STORAGE = "--storage"
_LOSSY = (*_REDUCED, _STORAGE, _ENGINE_LOWER)
# The options that say something only where one of these was asked: a precision, or another option.
_BELONGS = {"max_accuracy_drop": _LOSSY, "max_error": _LOSSY, "interest": (*_REDUCED, _ENGINE),
            "ranges": ("int8", AUTO), "keep": _REDUCED, "unmeasured": ("bfloat16", "int8", _ENGINE),
            "max_time": (*_REDUCED, _ENGINE), "engines": (AUTO,), "max_convert_time": (_ENGINE, _ENGINES)}
_NAMES = {"max_accuracy_drop": "--max-accuracy-drop", "max_error": "--max-error", "interest": "--batch-of-interest",
          "ranges": "--ranges", "keep": "--keep-float32", "unmeasured": "--unmeasured",
          "max_time": "--max-time", "engines": "--engines", "max_convert_time": "--max-convert-time"}


@dataclass(frozen=True)
class Reduction:
    """None: the option was not given.

    max_accuracy_drop is in points (hundredths), max_error a fraction of the largest magnitude of its output; interest:
    the batch sizes whose speed counts; keep: names of nodes that stay in float32; unmeasured: publish without timing;
    max_time: seconds that one comparison of candidates may measure; engine: also write the version for this one;
    engines: which engines are candidates of `auto`; max_convert_time: seconds that one conversion may take.
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
    engine: str | None = None
    engines: str | None = None
    max_convert_time: float | None = None

    def __post_init__(self) -> None:
        """Raises UserError for a value that does not exist, and for an option without effect on what was asked."""
        for name, value, known in (("precision", self.precision, PRECISIONS), ("ranges", self.ranges, RANGES),
                                   ("storage", self.storage, STORAGE), ("engine", self.engine, tuple(ENGINES)),
                                   ("engines", self.engines, (STOCK, ALL))):
            if value is not None and value not in known:
                raise UserError(f"--{name} {value}: choose from {', '.join(known)}")
        if self.storage and (self.precision != FULL or self.engine):
            other = f"--engine {self.engine}" if self.engine else f"--precision {self.precision}"
            raise UserError(f"--storage {self.storage} is for weights of float32, and {other} stores its own in less: "
                            "leave one of the two out")
        if self.engine and self.precision not in ENGINES[self.engine]:
            raise UserError(f"--engine {self.engine} has no --precision {self.precision}: choose from "
                            f"{', '.join(ENGINES[self.engine])}")
        if self.precision in (FLOAT16, DYNAMIC) and not self.engine:
            raise UserError(f"--precision {self.precision} is for --engine litert; TensorFlow's kernels have bfloat16 "
                            "and int8, and --storage makes a model smaller")
        there = self._asked_for()
        for name, needed in _BELONGS.items():
            value = getattr(self, name)
            if value is not None and value is not False and not there.intersection(needed):
                ways = " or ".join(one if one.startswith("-") else f"--precision {one}" for one in needed)
                raise UserError(f"{_NAMES[name]} has no effect on {self}: it is for {ways}")
        if self.max_time is not None and self.max_time <= 0:
            raise UserError("--max-time is above 0")
        if min(self.max_accuracy_drop or 0.0, self.max_error or 0.0) < 0:
            raise UserError("--max-accuracy-drop and --max-error are at least 0")
        if self.interest is not None and (not self.interest or min(self.interest) < 1):
            raise UserError("--batch-of-interest takes positive integers, such as 1,100")

    def _asked_for(self) -> set[str]:
        """What was asked, in the words of _BELONGS."""
        if self.storage:
            return {_STORAGE}
        if self.engine:
            return {_ENGINE} | ({_ENGINE_LOWER} if self.precision != FULL else set())
        return {self.precision} | ({_ENGINES} if self.engines == ALL else set())

    def __str__(self) -> str:
        """The option that says most of it."""
        if self.storage:
            return f"--storage {self.storage}"
        return f"--engine {self.engine} --precision {self.precision}" if self.engine else (
            f"--precision {self.precision}")

    @property
    def asked(self) -> bool:
        """Whether it needs candidates: anything but TensorFlow in float32."""
        return self.precision != FULL or self.storage is not None or self.engine is not None

    @property
    def drop(self) -> float:
        """The points of accuracy, or of agreement in the top class, that may be lost."""
        return ACCURACY_DROP if self.max_accuracy_drop is None else self.max_accuracy_drop

    @property
    def measure_s(self) -> float:
        return self.max_time or MEASURE_S

    @property
    def limits(self) -> Limits:
        """What a conversion may take."""
        return Limits(self.max_convert_time) if self.max_convert_time else Limits()

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
                "engine": self.engine, "engines": self.engines,
                "packages": {name: one.versions() for name, one in OTHER_ENGINES.items()
                             if name == self.engine or self.engines == ALL},
                "cpu_class": str(cpu_class.current())}


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
                 help="Of contractions and what is between them; for litert also of weights alone (float16), and int8 "
                      "without examples (dynamic); auto: the fastest of all, chosen by measuring here."),
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
                 help="Publish a precision or an engine without measuring that it is faster: for another CPU than "
                      "this."),
    click.option("--engine", type=click.Choice(tuple(ENGINES)),
                 help="Also write the model for this engine, beside saved_model.pb: TensorFlow Serving runs a "
                      "model.tflite with --prefer_tflite_model, this project's server runs both."),
    click.option("--engines", type=click.Choice((STOCK, ALL)),
                 help="What --precision auto tries: what every TensorFlow Serving runs, or other engines as well "
                      f"[default: {STOCK}]."),
    click.option("--max-convert-time", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                 help=f"How long one conversion for an engine may take [default: {MAX_S:g}]."))
