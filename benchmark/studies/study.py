"""What a study measures, as data: an article, the models made for it, the parts that are measured, and the goals.

A study repeats a published experiment: the original and each step after it are measured in turns in one run.
"""
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmark.targets.target import PROTOCOLS


@dataclass(frozen=True)
class Article:
    """The published experiment. `head` and `rows` are its own table, as printed there; `ratios` are what it gained, by
    the words that mark them on the chart."""

    author: str
    year: int
    title: str
    url: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    ratios: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Variant:
    """A version that is made for a study: `python -m export optimize models/MODEL/SOURCE` with these arguments, as
    models/MODEL/NAME. `quick`: whether the quick form makes it, too."""

    model: str
    name: str
    arguments: tuple[str, ...] = ()
    source: str = "original"
    quick: bool = True


@dataclass(frozen=True)
class Conversion:
    """What a tool that is not this project's makes of models/MODEL/SOURCE: a name of conversions.TOOLS."""

    model: str
    tool: str
    source: str = "optimized"
    quick: bool = True


@dataclass(frozen=True)
class Step:
    """One target of a part, and its label in tables and charts. `target` is what `compare` takes.

    The other fields are those of Target. `address`: a server that already runs the variant, such as a Vertex AI
    endpoint. `tool`: the conversion of the variant that is measured. `foreign`: an engine whose answers are tried
    first; if they are wrong, or if it does not start, the study goes on without it and says why.
    """

    label: str
    target: str
    kind: str = ""
    threads: int = 0
    env: tuple[tuple[str, str], ...] = ()
    prefix: tuple[str, ...] = ()
    grappler: bool = True
    flags: tuple[str, ...] = ()
    address: str = ""
    tool: str = ""
    foreign: bool = False

    @property
    def variant(self) -> str:
        """The variant's name, without backend and engine."""
        return self.target.rpartition(":")[2].partition("@")[0]


@dataclass(frozen=True)
class Part:  # decision 221
    """Targets that are measured in turns in one run; the first is what the others are compared with.

    requests: per target, protocol and batch size; 0: as many as `compare` takes by itself (200 to 1,000), in at most
        `most_s` seconds. quick: the same for the quick form; None: the quick form leaves the part out.
    processes: of each target; 1 where two would not fit into memory, or where processes share one core.
    baselines: labels of the same version under other settings: the fastest of them and of the first step, for each
        protocol and batch size, is what the others are compared with.
    """

    key: str
    title: str
    model: str
    steps: tuple[Step, ...]
    batches: tuple[int, ...]
    protocols: tuple[str, ...] = ("in-process",)
    requests: int = 0
    quick: int | None = 40
    most_s: float = 120.0
    quick_s: float = 20.0
    warmup: int = 10
    processes: int = 2
    signature: str = ""
    note: str = ""
    baselines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for labels that are given twice or are no step's."""
        labels = [step.label for step in self.steps]
        if unknown := set(self.baselines) - set(labels):
            raise ValueError(f"part {self.key}: no step {unknown}")
        if len(set(labels)) < len(labels):
            raise ValueError(f"part {self.key} has two steps of one label")
        if unknown := set(self.protocols) - {*PROTOCOLS, "in-process"}:
            raise ValueError(f"part {self.key}: no protocol {unknown}")


@dataclass(frozen=True)
class Way:
    """The rows of the opening chart: those of one part under one protocol and batch size, by their labels in order;
    without labels, all."""

    part: str
    protocol: str
    batch: int
    title: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """A ratio to reach: met if the whole interval of the fastest of these labels is at or over it."""

    text: str
    part: str
    protocol: str
    batch: int
    labels: tuple[str, ...]
    least: float


@dataclass(frozen=True)
class Ceiling:
    """Whose speed is stated as a share of what this machine's kernels reach at best."""

    part: str
    batch: int
    label: str
    precision: str


@dataclass(frozen=True)
class Profile:
    """Versions whose time is shown by operation: (label on the page, variant) of a model, at one batch size."""

    title: str
    model: str
    variants: tuple[tuple[str, str], ...]
    batch: int = 1


@dataclass(frozen=True)
class Study:
    """A published experiment, repeated and beaten.

    builds: the arguments of `python -m export build` for each model. shown: of which variants operations and sizes are
        shown, (model, variant): name on the page.
    """

    name: str
    title: str
    article: Article
    builds: tuple[tuple[str, ...], ...]
    variants: tuple[Variant, ...]
    parts: tuple[Part, ...]
    way: Way
    goals: tuple[Goal, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    shown: Mapping[tuple[str, str], str] = field(default_factory=dict)
    profile: Profile | None = None
    about_minutes: int = 30  # of the full form, where no stored run says it

    def __post_init__(self) -> None:
        """Raises ValueError for a way, goal or ceiling that names no part or label: a slip in the study's own file."""
        labels = {part.key: {step.label for step in part.steps} for part in self.parts}
        named = [(self.way.part, self.way.labels), *((goal.part, goal.labels) for goal in self.goals)]
        named += [(each.part, (each.label,)) for each in self.ceilings]
        for key, wanted in named:
            if key not in labels or not set(wanted) <= labels[key]:
                raise ValueError(f"study {self.name}: no part '{key}' with {', '.join(wanted)}")

    def of_form(self, quick: bool) -> tuple[Part, ...]:
        """The parts of the quick or the full form."""
        return tuple(part for part in self.parts if not quick or part.quick is not None)


OTHER_TOOLS = (
    Step("ONNX Runtime float32", "session:optimized", tool="onnx", foreign=True),
    Step("zenTF float32", "session:optimized", tool="zentf", foreign=True),
    Step("Neural Compressor int8", "session:optimized", tool="neural-compressor", foreign=True))


def converted(*models: str) -> tuple[Conversion, ...]:
    """The conversions of OTHER_TOOLS; the quick form makes no environments of their own."""
    return tuple(Conversion(model, tool, quick=tool == "onnx") for model in models
                 for tool in ("onnx", "zentf", "neural-compressor"))


def optimized(model: str, kinds: Iterable[str], batches: str = "1,3", engine_signatures: str = ""
              ) -> tuple[Variant, ...]:
    """The usual variants of a model by name: optimized, bfloat16, int8, ENGINE-PRECISION.

    A study measures them itself, so they are published whether they are faster or not. engine_signatures: those that
    engines take, where they do not take all.
    """
    made = []
    for name in kinds:
        engine, _, precision = name.rpartition("-")
        arguments = ["--batch", batches]
        if name != "optimized":
            arguments.append("--unmeasured")
        if engine:
            arguments += ["--engine", engine, *(["--signatures", engine_signatures] if engine_signatures else [])]
        if name != "optimized" and precision != "float32":
            arguments += ["--precision", precision]
        made.append(Variant(model, name, tuple(arguments)))
    return tuple(made)
