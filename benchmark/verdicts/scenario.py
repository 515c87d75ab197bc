"""What to measure: scenarios as values, a catalogue of them, and a TOML format for new ones:

    name = "checkout-p99"                       # any name; reports show it
    question = "Does p99 stay under 50 ms at 40 requests/s?"
    protocol = "grpc"                           # rest or grpc
    batch = 1
    warmup_s = 2
    measure_s = 60
    repeats = 3
    percentile = 99.9                           # the percentile that the result must have enough samples for
    arrivals = {kind = "poisson", rate_per_s = 40, seed = 7}   # constant, closed {clients}, offline {clients}
    slo = {percentile = 99, latency_ms = 50}
    validity = {max_rate_error = 0.02, max_error_ratio = 0.0, max_generator_cpu = 0.7, max_late_ms = 1.0}
"""
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from benchmark.verdicts.arrivals import Arrivals, Closed, Constant, Offline, Poisson
from benchmark.verdicts.records import ScenarioRecord
from serving.client.objective import parse_objective
from user_error import UserError

KINDS: dict[str, type[Arrivals]] = {
    "poisson": Poisson, "constant": Constant, "closed": Closed, "offline": Offline}


def protocol_name(protocol: str) -> str:
    """The protocol's usual spelling: "REST" for "rest", "gRPC" for "grpc"."""
    return {"rest": "REST", "grpc": "gRPC"}.get(protocol, protocol)


@dataclass(frozen=True)
class Slo:
    """A latency objective: `percentile` % of the requests are answered within latency_ms of their intended start.

    Percentile 0 stands for the mean, 100 for the longest.
    """

    percentile: float = 99.0
    latency_ms: float = 100.0


@dataclass(frozen=True)
class Validity:
    """The limits within which a result is VALID. Ratios are fractions; max_late_ms limits the p99 of actual minus
    intended start."""

    max_rate_error: float = 0.02
    max_error_ratio: float = 0.0
    max_generator_cpu: float = 0.7
    max_late_ms: float = 1.0


@dataclass(frozen=True)
class Scenario:
    """How requests are sent to a server, for how long, and when the result is valid."""

    name: str
    question: str = ""
    protocol: Literal["rest", "grpc", "in-process"] = "grpc"
    batch: int = 1
    arrivals: Arrivals = field(default_factory=Closed)
    warmup_s: float = 2.0
    measure_s: float = 20.0
    repeats: int = 1
    percentile: float = 99.0
    slo: Slo | None = None
    validity: Validity = field(default_factory=Validity)

    @property
    def rate_per_s(self) -> float | None:
        """Requests per second of an open loop; None for a closed loop, where the answers set the pace."""
        return self.arrivals.rate_per_s if isinstance(self.arrivals, Poisson | Constant) else None

    def to_json(self) -> ScenarioRecord:
        kind = next(kind for kind, made in KINDS.items() if isinstance(self.arrivals, made))
        return cast(ScenarioRecord, asdict(self) | {"arrivals": {"kind": kind, **asdict(self.arrivals)}})


CATALOGUE = {scenario.name: scenario for scenario in (
    Scenario("single-stream", "How long does one request take without other requests? (MLPerf SingleStream: p90)",
             arrivals=Closed(1), percentile=90),
    Scenario("offline", "How many examples a second if all are available from the start? (MLPerf Offline)",
             batch=32, arrivals=Offline(2), percentile=50),
    Scenario("server", "What do independent users see at 20 requests/s? (MLPerf Server: Poisson arrivals)",
             arrivals=Poisson(20, seed=7), measure_s=40, slo=Slo(99, 100)),
    Scenario("constant", "What does a steady 20 requests/s see?", arrivals=Constant(20), measure_s=40),
    Scenario("closed", "How much throughput do 4 clients get that each wait for their answer?", arrivals=Closed(4)),
)}


def find(name: str) -> Scenario:
    """A scenario of the catalogue, or of a TOML file. Raises UserError if it is neither."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name.endswith(".toml"):
        try:
            return parse(tomllib.loads(Path(name).read_text(encoding="utf-8")), name)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{name} is not TOML: {error}") from None
    raise UserError(f"no scenario '{name}': choose from {', '.join(CATALOGUE)}, or give a .toml file")


def parse_slo(text: str | None) -> Slo | None:
    """The SLO of "p99=50ms", "mean=300us" or "max=1s": see `parse_objective`."""
    if text is None:
        return None
    objective = parse_objective(text)
    return Slo(objective.percentile, objective.seconds * 1e3)


def parse_percentile_slo(text: str | None) -> Slo | None:
    """As parse_slo, for commands that decide by counting slow requests. Raises UserError for a mean or a maximum."""
    slo = parse_slo(text)
    if slo and not 0 < slo.percentile < 100:
        raise UserError(f"--slo {text}: this command needs a percentile, such as p99=50ms")
    return slo


def parse(table: Mapping[str, Any], source: str) -> Scenario:
    """A scenario from a TOML table; every mistake names the file and the key."""
    values = dict(table)
    values.setdefault("name", Path(source).stem)
    if "arrivals" in values:
        arrivals = dict(values["arrivals"]) if isinstance(values["arrivals"], dict) else {}
        kind = arrivals.pop("kind", None)
        if kind not in KINDS:
            raise UserError(f"{source}: arrivals.kind is {kind!r}; choose from {', '.join(KINDS)}")
        values["arrivals"] = _made(KINDS[kind], arrivals, f"{source}: arrivals")
    for key, made in (("slo", Slo), ("validity", Validity)):
        if key in values:
            values[key] = _made(made, values[key], f"{source}: {key}")
    scenario = _made(Scenario, values, source)
    if scenario.protocol not in ("rest", "grpc"):
        raise UserError(f"{source}: protocol is {scenario.protocol!r}; choose rest or grpc")
    rate = scenario.rate_per_s
    if min(scenario.batch, scenario.repeats, scenario.measure_s) <= 0 or (rate is not None and rate <= 0):
        raise UserError(f"{source}: batch, repeats, measure_s and the rate must be above 0")
    if not 0 < scenario.percentile < 100:
        raise UserError(f"{source}: percentile must be between 0 and 100, not {scenario.percentile:g}")
    return scenario


def changed(scenario: Scenario, **changes: Any) -> Scenario:
    """The scenario with every change that is not None; rate_per_s and clients change its arrivals.

    Raises UserError if the arrivals have no such setting.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    for key, kinds in (("rate_per_s", (Poisson, Constant)), ("clients", (Closed, Offline))):
        if key in given:
            if not isinstance(scenario.arrivals, kinds):
                reasons = {"rate_per_s": "has no rate to set: the answers set its pace",
                           "clients": "has no clients to set: it is an open loop, the rate sets its pace"}
                raise UserError(f"scenario '{scenario.name}' {reasons[key]}")
            scenario = replace(scenario, arrivals=replace(scenario.arrivals, **{key: given.pop(key)}))
    return replace(scenario, **given)


Made = TypeVar("Made")


def _made(kind: type[Made], values: Any, where: str) -> Made:
    if not isinstance(values, dict):
        raise UserError(f"{where} is a table of {', '.join(f.name for f in fields(kind))}")  # type: ignore[arg-type]
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - known.keys()):
        raise UserError(f"{where} has no key '{unknown[0]}'; there are: {', '.join(known)}")
    for key, value in values.items():
        default = known[key].default
        number = isinstance(default, int | float) or key == "rate_per_s"
        if number and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"{where}: {key} is a number, not {value!r}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from None
