"""gates.toml: the limits that a version is held to. Values of the production root's own file replace the defaults."""
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.promotion.errors import PromotionError

_ABOVE_ZERO = {"latency": ("least_ratio", "seconds", "processes", "batch"),
               "bake": ("requests_per_second", "certain_ratio", "worst_ratio", "replayed")}
# Shares of requests, of which more than half are no limit.
_SHARES = {"bake": ("max_error_ratio", "certain_ratio")}
PAUSE = "pause"
UNDECIDED = ("pass", PAUSE)
DEFAULTS = Path(__file__).with_name("gates.toml")


@dataclass(frozen=True)
class Parity:
    """How far answers may be from production's."""

    relative: float
    absolute: float
    disagreement: float
    top1_agreement: float


@dataclass(frozen=True)
class Accuracy:
    """Of labelled samples."""

    max_drop: float


@dataclass(frozen=True)
class Latency:
    """Old over new."""

    least_ratio: float
    seconds: float
    processes: int
    batch: int
    protocol: str


@dataclass(frozen=True)
class Cost:
    """New over old."""

    bytes: float
    resident_bytes: float
    load_seconds: float


@dataclass(frozen=True)
class Bake:
    """While the label canary names it."""

    seconds: float
    requests_per_second: float
    max_error_ratio: float
    certain_ratio: float
    least_ratio: float
    worst_ratio: float
    control: bool
    undecided: str
    replayed: int


@dataclass(frozen=True)
class Gates:
    """All limits; see gates.toml."""

    parity: Parity
    accuracy: Accuracy
    latency: Latency
    cost: Cost
    bake: Bake


def read(root: Path) -> Gates:
    """The limits of a production root. Raises PromotionError for a name or a type that gates.toml does not have."""
    values, own = _parsed(DEFAULTS), root / "gates.toml"
    for table, entries in (_parsed(own) if own.exists() else {}).items():
        if table not in values or not isinstance(entries, dict):
            raise PromotionError(f"{own} has no table [{table}]: there are {', '.join(values)}")
        for name, value in entries.items():
            if name not in values[table]:
                raise PromotionError(f"{own}: [{table}] has no {name}: there are {', '.join(values[table])}")
            kind = type(values[table][name])
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise PromotionError(f"{own}: {name} in [{table}] is {value!r}, and should be as "
                                     f"{values[table][name]!r}")
            if kind in (int, float) and (value < 0 or (not value and name in _ABOVE_ZERO.get(table, ()))):
                raise PromotionError(f"{own}: {name} in [{table}] is {value!r}, and must be "
                                     f"{'above 0' if not value else '0 or more'}")
            if name in _SHARES.get(table, ()) and value > 0.5:
                raise PromotionError(f"{own}: {name} in [{table}] is {value!r}, and must be 0.5 or less")
            if (table, name) == ("bake", "undecided") and value not in UNDECIDED:
                raise PromotionError(f"{own}: {name} in [{table}] is {value!r}, and must be one of "
                                     f"{', '.join(UNDECIDED)}")
            values[table][name] = kind(value)
    return Gates(Parity(**values["parity"]), Accuracy(**values["accuracy"]), Latency(**values["latency"]),
                 Cost(**values["cost"]), Bake(**values["bake"]))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PromotionError(f"{path}: {error}") from None
