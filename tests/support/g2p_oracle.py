"""g2p in NumPy, word by word, to compare the graphs with; and weights drawn at random where g2p-en is not installed."""
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.zoo import g2p_weights
from export.zoo.g2p_words import END, START, STEPS
from user_error import UserError

Weights = Mapping[str, np.ndarray]


def installed() -> Path | None:
    """The file of the installed g2p-en; None without it."""
    try:
        return g2p_weights.find()
    except UserError:
        return None


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """Weights with which words of different letters get answers of different lengths."""
    random = np.random.default_rng(seed)
    drawn = {name: random.normal(0, 0.5 if name.endswith("emb") else 0.09, shape).astype(np.float32)
             for name, shape in g2p_weights.SHAPES.items()}
    drawn["fc_w"] *= 4
    drawn["fc_b"][END] += 3
    return drawn


def written(weights: Weights, file: Path) -> Path:
    np.savez(file, **weights)
    return file


def answers(weights: Weights, grapheme: np.ndarray) -> np.ndarray:
    """phoneme int32 [N,20] for grapheme int32 [N,20]: END from the first END on."""
    return np.array([_answer(weights, row[:np.count_nonzero(row)]) for row in grapheme], np.int32).reshape(-1, STEPS)


def _answer(weights: Weights, letters: np.ndarray) -> list[int]:
    state = np.zeros(g2p_weights.UNITS, np.float32)
    for letter in letters:
        state = _cell(weights, "enc", letter, state)
    found: list[int] = []
    symbol = START
    while len(found) < STEPS and symbol != END:
        state = _cell(weights, "dec", symbol, state)
        symbol = int((weights["fc_w"] @ state + weights["fc_b"]).argmax())
        found.append(symbol)
    return found + [END] * (STEPS - len(found))


def _cell(weights: Weights, part: str, symbol: int, state: np.ndarray) -> np.ndarray:
    of_input = weights[f"{part}_w_ih"] @ weights[f"{part}_emb"][symbol] + weights[f"{part}_b_ih"]
    of_state = weights[f"{part}_w_hh"] @ state + weights[f"{part}_b_hh"]
    (reset, update, new), (reset_h, update_h, new_h) = of_input.reshape(3, -1), of_state.reshape(3, -1)
    reset, update = (1 / (1 + np.exp(-gate)) for gate in (reset + reset_h, update + update_h))
    new = np.tanh(new + reset * new_h)
    return (1 - update) * new + update * state
