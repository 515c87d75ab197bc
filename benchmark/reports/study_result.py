"""The result of `study`: a published experiment done again, and how far beyond it this project comes."""
from typing import NotRequired, TypedDict

from benchmark.reports.head import Head
from benchmark.reports.op_counts import Variant
from benchmark.reports.way import Way
from benchmark.verdicts.records import Operation


class PublishedTable(TypedDict):
    """A table as an article prints it; the first column has the names. Empty lists: the article has none."""

    head: list[str]
    rows: list[list[str]]


class Article(TypedDict):
    """What a study does again."""

    author: str
    year: int
    title: str
    url: str
    table: PublishedTable


class Row(TypedDict):
    """One target at one protocol and batch size, measured in turns with the other rows of the same two.

    `ratio` is the first target's mean time over this one's, null for the first itself. `right` is the share of right
    answers (0 to 1); `answers` says how they were compared with the original's.
    """

    protocol: str
    batch: int
    target: str
    label: str
    requests: int
    total_s: float
    mean_ms: float
    p50_ms: float
    p99_ms: float
    examples_per_s: float
    ratio: float | None
    ci95: list[float | None] | None
    verdict: str
    valid: bool
    right: float | None
    answers: str
    cpu_class: str


class StudyPart(TypedDict):
    """One measurement of a study; `unit` is the one that its chart is in: ms or examples/s."""

    key: str
    title: str
    unit: str
    rows: list[Row]
    notes: list[str]


class Limit(TypedDict):
    """A target against the machine: `share` is its GFLOP/s over those of the machine's best kernels (the ceiling)."""

    model: str
    batch: int
    target: str
    precision: str
    gflop: float
    gflop_per_s: float
    ceiling_gflop_per_s: float
    share: float


class StudyGoal(TypedDict):
    """A figure to reach, and what was seen."""

    goal: str
    seen: str
    met: bool


class Missing(TypedDict):
    """What could not be run, and why, in one line."""

    what: str
    why: str


TRACED_RUNS = 20


class ProfiledTarget(TypedDict):
    """A version's operations as TensorFlow ran them: microseconds of one request, over all threads."""

    target: str
    operations: list[Operation]


class StudyProfile(TypedDict):
    """Where the time of some of a study's versions goes."""

    title: str
    batch: int
    targets: list[ProfiledTarget]


class StudyResult(Head):
    """The result of a study, which docs/proof/study_NAME.json is. `quick`: fewer requests, for a first look."""

    study: str
    title: str
    quick: bool
    command: str
    seed: int
    commit: str
    measured: str
    cpu_class: str
    article: Article
    way: Way
    parts: list[StudyPart]
    variants: list[Variant]
    profiles: NotRequired[list[StudyProfile]]  # results of before 2026-12 do not have it
    limits: list[Limit]
    goals: list[StudyGoal]
    does_not_run: list[Missing]
    took_s: float  # measuring, without making the versions
