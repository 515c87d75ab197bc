"""Made-up pictures with structure: shapes, colours, gradients and texture, for models whose weights are random."""
import numpy as np


def pictures(count: int, size: int, seed: int) -> np.ndarray:
    """Different pictures, float32 [count, size, size, 3], whole numbers from 0 to 255.

    Pixels drawn one by one would all look the same to a convolution, and so would give one answer for all examples.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    return np.stack([_picture(random, x, y) for _ in range(count)])


def _picture(random: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle = random.uniform(0, 2 * np.pi)
    slope = (x * np.cos(angle) + y * np.sin(angle))[..., None]
    picture = random.uniform(30, 225, 3) + slope * random.uniform(-120, 120, 3)
    for _ in range(random.integers(2, 7)):
        at_x, at_y = random.uniform(0, 1, 2)
        wide, high = random.uniform(0.05, 0.4, 2)
        distance = np.stack([np.abs(x - at_x) / wide, np.abs(y - at_y) / high])
        round_or_square = np.hypot(*distance) if random.random() < 0.5 else distance.max(0)
        inside = np.clip((1 - round_or_square) * random.uniform(3, 40), 0, 1)[..., None]
        picture = picture * (1 - inside) + random.uniform(0, 255, 3) * inside
    waves = np.sin(2 * np.pi * (x * random.uniform(-30, 30) + y * random.uniform(-30, 30)))[..., None]
    picture = picture + waves * random.uniform(0, 25, 3) + random.normal(0, random.uniform(1, 6), picture.shape)
    return np.clip(picture, 0, 255).round().astype(np.float32)
