"""Small encoded images and sounds, with which models that decode them are tried."""
from __future__ import annotations

import struct
from functools import cache

import numpy as np

from export.tensors import Array

_SIZES = (48, 64, 3)
# The kind of an image of which only the size is read.
ANY_SIZE = "jpeg of any size"


@cache
def image(kind: str, number: int, pixels: tuple[int, int, int] | None = None) -> bytes:
    """An image with smooth colours and a bright square, in a format ("jpeg", "png", "bmp", "gif", "webp") that the
    operation of that name reads; `pixels`: its height, width and channels (48, 64 and 3)."""
    height, width, channels = pixels or _SIZES
    if kind == ANY_SIZE:
        height, width = height + 3 * number, width + 5 * number
    y, x = np.mgrid[0:height, 0:width]
    colours = [x * 4 % 256, y * 5 % 256, (x + y + 32 * number) % 256, np.full_like(x, 255)]
    made = np.stack(colours[:channels], -1).astype(np.uint8)
    made[number * height // 12:number * height // 12 + max(1, height // 6), width // 8:3 * width // 8, :3] = 255
    if kind == "bmp":
        return _bmp(made)
    if kind == "webp":
        return _webp(made)
    from export.runtime import tf
    with tf.device("/CPU:0"):
        # Operations for PNG read GIF files and the reverse; only JPEG has no alpha channel.
        if kind in ("jpeg", ANY_SIZE):
            return bytes(tf.io.encode_jpeg(made if channels in (1, 3) else made[..., :1]).numpy())
        return bytes(tf.io.encode_png(made).numpy())


@cache
def recording(number: int) -> bytes:
    """A sound file with a tone of 0.1 s, mono, at 16 kHz."""
    from export.runtime import tf
    tone = np.sin(np.arange(1600) * (number + 1) * 0.05).astype(np.float32)[:, None] * 0.5
    with tf.device("/CPU:0"):
        return bytes(tf.audio.encode_wav(tone, 16000).numpy())


def _bmp(pixels: Array) -> bytes:
    """A BMP file: the two headers, then rows from the bottom, blue first, each padded to four bytes."""
    height, width, channels = pixels.shape
    rows = pixels[::-1]
    if channels >= 3:
        rows = rows[..., [2, 1, 0, *range(3, channels)]]
    padded = np.zeros((height, -(-width * channels // 4) * 4), np.uint8)
    padded[:, :width * channels] = rows.reshape(height, -1)
    body, offset = padded.tobytes(), 54
    return (struct.pack("<2sIII", b"BM", offset + len(body), 0, offset)
            + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8 * channels, 0, len(body), 2835, 2835, 0, 0) + body)


def _webp(pixels: Array) -> bytes:
    """A lossless WebP file (its specification: "WebP Lossless Bitstream") in which only green varies, by two values.

    Each of its prefix codes has one symbol, which takes no bits, or two, which take one bit per pixel.
    """
    height, width, channels = pixels.shape
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend(value >> at & 1 for at in range(count))
    for value, count in ((width - 1, 14), (height - 1, 14), (int(channels == 4), 1), (0, 3), (0, 1), (0, 1), (0, 1)):
        put(value, count)
    bright = pixels[..., 0] > np.median(pixels[..., 0])
    for symbols in ((60, 200), (90,), (150,), (255,), (0,)):  # green, red, blue, alpha, distance
        put(1, 1)
        put(len(symbols) - 1, 1)
        put(1, 1)
        for symbol in symbols:
            put(symbol, 8)
    bits.extend(int(one) for one in bright.ravel())
    data = b"\x2f" + np.packbits(np.asarray(bits, np.uint8), bitorder="little").tobytes()
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
