"""TFRecord files, without TensorFlow. Each record is a length, its checksum, the bytes and their checksum.

The checksums are CRC-32C, masked as TensorFlow masks them. A loop over bytes would take a second per 10 MB, so the
checksum of a long record is computed in numpy: all chunks in parallel, then combined in pairs, since the CRC of a whole
is linear in the CRCs of its parts.
"""
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from whole_file import write_bytes

Words: TypeAlias = NDArray[np.uint32]

_CHUNK = 256  # bytes per chunk; a power of two
_POLYNOMIAL = 0x82F63B78


class CorruptedRecordError(ValueError):
    """The file is damaged, or not a TFRecord file: `offset` is the byte at which the unreadable record begins."""

    def __init__(self, path: Path, offset: int, why: str) -> None:
        super().__init__(f"{path}: corrupted record at byte {offset}: {why}")
        self.offset = offset


def read(path: str | Path) -> Iterator[bytes]:
    """The records of a file, one at a time. Raises CorruptedRecordError, and OSError as open() does."""
    path = Path(path) if isinstance(path, str) else path
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        while header := file.read(12):
            offset = file.tell() - len(header)
            if len(header) < 12:
                raise CorruptedRecordError(path, offset, "the file ends in its length")
            length, checksum = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != checksum:
                raise CorruptedRecordError(path, offset, "its length is damaged (is this a TFRecord file at all?)")
            if length > size - file.tell() - 4:
                raise CorruptedRecordError(path, offset, f"the file ends before its {length} bytes do")
            record = file.read(length)
            if struct.pack("<I", masked_crc32c(record)) != file.read(4):
                raise CorruptedRecordError(path, offset, "its bytes are damaged")
            yield record


def write(path: str | Path, records: Iterable[bytes]) -> int:
    """Writes a whole file or none, and returns how many records it has."""
    content, count = bytearray(), 0
    for record in records:
        content += framed(record)
        count += 1
    write_bytes(path, bytes(content))
    return count


def framed(record: bytes) -> bytes:
    """A record as it stands in a file."""
    length = struct.pack("<Q", len(record))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, record))
    return length + next(checksums) + record + next(checksums)


def masked_crc32c(data: bytes) -> int:
    """The checksum as TensorFlow writes it: masked, since a CRC of data that contains its own CRC is weak."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of any number of bytes."""
    if len(data) < 2 * _CHUNK:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = int(_TABLE[(crc ^ byte) & 0xFF]) ^ crc >> 8
        return crc ^ 0xFFFFFFFF
    # Leading zeros do not change a register that is zero, so any length can be padded to 2**k chunks.
    chunks = 1 << (-(-len(data) // _CHUNK) - 1).bit_length()
    padded = np.zeros(chunks * _CHUNK, np.uint8)
    padded[-len(data):] = np.frombuffer(data, np.uint8)
    columns = np.ascontiguousarray(padded.reshape(chunks, _CHUNK).T)
    crcs = np.zeros(chunks, np.uint32)
    for column in columns:
        crcs = _TABLE[(crcs ^ column) & 0xFF] ^ crcs >> 8
    power = _CHUNK.bit_length() - 1
    while len(crcs) > 1:
        crcs = _after_zeros(crcs[::2], power) ^ crcs[1::2]
        power += 1
    # The effect of the register's initial value (all ones) after this many bytes.
    ones = np.array([0xFFFFFFFF], np.uint32)
    for power in range(len(data).bit_length()):
        if len(data) >> power & 1:
            ones = _after_zeros(ones, power)
    return int(crcs[0] ^ ones[0]) ^ 0xFFFFFFFF


def _make_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _make_table()
# _ZEROS[k][j][b]: what byte b at position j of the register becomes after 2**k zero bytes.
_ZEROS: list[Words] = []


def _after_zeros(registers: Words, power: int) -> Words:
    while len(_ZEROS) <= power:
        if _ZEROS:
            _ZEROS.append(_apply(_ZEROS[-1], _ZEROS[-1]))
        else:
            bytes_in_place = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], np.uint32)
            _ZEROS.append(_TABLE[bytes_in_place & 0xFF] ^ bytes_in_place >> 8)
    return _apply(_ZEROS[power], registers)


def _apply(zeros: Words, registers: Words) -> Words:
    return (zeros[0][registers & 0xFF] ^ zeros[1][registers >> 8 & 0xFF] ^ zeros[2][registers >> 16 & 0xFF]
            ^ zeros[3][registers >> 24])
