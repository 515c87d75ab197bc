"""The opening chart of a study: the way from the original to the fastest step, as one SVG file."""
from typing import TypedDict


class Step(TypedDict):
    """One step of the way: `ratio` is the original's time over the step's; `note` is its absolute figure in words.

    `verdict` is "" for the original, which the ratios are of; else faster, slower or cannot tell.
    """

    label: str
    ratio: float
    ci95: list[float | None]
    verdict: str
    note: str


class Published(TypedDict):
    """What an article reached: its original's time over its best one's."""

    label: str
    ratio: float


class Way(TypedDict):
    """The steps from the original to the fastest; `title` says what is timed: "batch 100, gRPC"."""

    title: str
    steps: list[Step]
    published: list[Published]
