"""Class heads of random weights that score boxes as a trained detector's do.

With random weights all scores are about 0.5, and non-maximum suppression works on every box of every class. Here a few
scores of a picture are high, and none where there is nothing to see.
"""
from collections.abc import Sequence

import numpy as np

from export.zoo.boxes import CLASSES, LEAST_SCORE

CANDIDATES = 48  # scores over LEAST_SCORE in a picture, on average
EMPTY_LOGIT = -2.0  # the mean logit where there is nothing, beside that of the pictures
LEAST_LOGIT = float(np.log(LEAST_SCORE / (1 - LEAST_SCORE)))
SPREAD = 0.1  # of the biases of one head
_DRAWS = 200


def trained_alike(kernels: Sequence[np.ndarray], pictures: Sequence[np.ndarray], empty: Sequence[np.ndarray],
                  random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:  # decision 229
    """The kernel and the biases of each feature map's head, from random kernels [1,1,C,K*91].

    pictures, empty: the features [N,S,S,C] of each map, of pictures and of such in which there is nothing.
    """
    heads, scored, channels = [], [], []
    for kernel, seen, unseen in zip(kernels, pictures, empty, strict=True):
        mean, flat = seen.mean((0, 1, 2)), kernel.reshape(seen.shape[3], -1)
        # The smallest change by which the mean features of each empty picture have EMPTY_LOGIT.
        ways = unseen.mean((1, 2)) - mean
        flat = flat + np.linalg.pinv(ways) @ (EMPTY_LOGIT - ways @ flat)
        # All logits get the same mean: without that, some classes would be everywhere and others nowhere.
        heads.append((flat.astype(np.float32), -mean @ flat))
        scored.append(((seen - mean) @ flat).reshape(len(seen), -1))
        number = np.arange(flat.shape[1]) + sum(len(biases) for _, biases in heads[:-1])
        channels.append(np.tile(number, seen.shape[1] * seen.shape[2]))
    logits, channel = np.concatenate(scored, 1), np.concatenate(channels)
    classes = channel % (CLASSES + 1) > 0  # not the background
    drawn, least = _apart(logits[:, classes], channel[classes], random, 1 + int(channel.max()))
    ends = np.cumsum([len(biases) for _, biases in heads])[:-1]
    return [(flat.reshape(kernel.shape), (biases + more + LEAST_LOGIT - least).astype(np.float32))
            for kernel, (flat, biases), more in zip(kernels, heads, np.split(drawn, ends), strict=True)]


def _apart(logits: np.ndarray, channel: np.ndarray, random: np.random.Generator, count: int
           ) -> tuple[np.ndarray, float]:
    """`count` random biases, and the logit that CANDIDATES of each picture are over, on average.

    Of several draws it is the one in which the candidates of a picture are furthest apart: if two scores differ by less
    than rounding, two right versions of the model return the detections in different orders.
    """
    wanted = CANDIDATES * len(logits)
    near = logits > np.sort(logits, None)[-wanted] - 8 * SPREAD
    values, at, picture = logits[near], np.broadcast_to(channel, logits.shape)[near], np.nonzero(near)[0]
    best, found = -1.0, (np.zeros(count), 0.0)
    for _ in range(_DRAWS):
        drawn = random.normal(0, SPREAD, count)
        moved = values + drawn[at]
        least = float(np.sort(moved)[-wanted - 1:][:2].mean())  # between two, so that none is at the limit
        over = np.flatnonzero(moved >= least)
        order = over[np.lexsort((moved[over], picture[over]))]
        gaps = np.diff(moved[order])[np.diff(picture[order]) == 0]
        if (gap := float(gaps.min(initial=np.inf))) > best:
            best, found = gap, (drawn, least)
    return found
