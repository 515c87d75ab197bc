"""Where an operation's input has the axes that its output has: what is known of the output's shape, for its input.

    expanded([1], 4, {-1: 3}) == (3, {2: 3})      # rank, sizes by axis; rank None: not known
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

Known = tuple[int | None, dict[int, int]]
Sizes = Mapping[int, int]

# op: the input, or the attribute, with the axes that its first input must have
AXES: dict[str, int | str] = {
    **dict.fromkeys(("Mean", "Sum", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm", "ArgMax", "ArgMin",
                     "ReverseV2", "Cumsum", "Cumprod"), 1),
    **dict.fromkeys(("GatherV2", "SplitV"), 2), "Unpack": "axis", "ReverseSequence": "seq_dim"}


def least(axes: Iterable[int]) -> int:
    """The least rank of a tensor that has all the axes."""
    return max((axis + 1 if axis >= 0 else -axis for axis in axes), default=0)


def expanded(axes: Sequence[int], rank: int | None, sizes: Sizes) -> Known:
    """ExpandDims: the output has one axis more, at `axes[0]`."""
    if not rank:
        return None, {}
    inner = [at for at in range(rank) if at != axes[0] % rank]
    return rank - 1, _placed(sizes, rank, {at: index for index, at in enumerate(inner)})


def squeezed(axes: Sequence[int], rank: int | None, sizes: Sizes) -> Known:
    """Squeeze: the input has axes more, of size 1, at `axes`."""
    whole = max(least(axes), (1 if rank is None else rank) + len(axes))
    ones = {axis % whole for axis in axes}
    kept = [at for at in range(whole) if at not in ones]
    return whole, {**dict.fromkeys(ones, 1), **_placed(sizes, len(kept), dict(enumerate(kept)))}


def transposed(axes: Sequence[int], rank: int | None, sizes: Sizes) -> Known:
    """Transpose: the output's axis i is the input's `axes[i]`. If a reader changes the rank, its last axes count."""
    whole = len(axes)
    known = {at % rank - rank if rank else at: size for at, size in sizes.items()}
    return whole, {axes[at]: size for at, size in known.items() if -whole <= at < whole}


def _placed(sizes: Sizes, rank: int, places: Mapping[int, int]) -> dict[int, int]:
    return {places[at % rank]: size for at, size in sizes.items() if -rank <= at < rank and at % rank in places}


MOVES: dict[str, Callable[[Sequence[int], int | None, Sizes], Known]] = {
    "ExpandDims": expanded, "Squeeze": squeezed, "Transpose": transposed}
