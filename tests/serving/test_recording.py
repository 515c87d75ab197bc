"""TFRecord and PredictionLog files, byte for byte those of TensorFlow."""
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import recording, tfrecord
from serving.protos import prediction_log_pb2
from serving.recording import Predicted
from user_error import UserError

RECORDS = [b"", b"a", bytes(1000), random.Random(1).randbytes(100_000)]


def bitwise_crc32c(data: bytes) -> int:
    """The definition, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_checksum_has_the_standards_check_value() -> None:
    assert tfrecord.crc32c(b"123456789") == 0xE3069283
    assert tfrecord.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert tfrecord.crc32c(b"\xff" * 32) == 0x62A8AB43


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 5000), st.integers(0, 2**32))
def test_checksums_of_any_length(length: int, seed: int) -> None:
    data = random.Random(seed).randbytes(length)
    assert tfrecord.crc32c(data) == bitwise_crc32c(data)


@pytest.mark.parametrize("length", [511, 512, 513, 1023, 1024, 1025, 65536])
def test_checksums_at_the_edges_of_chunks(length: int) -> None:
    for data in (bytes(length), random.Random(length).randbytes(length)):
        assert tfrecord.crc32c(data) == bitwise_crc32c(data)


def test_tensorflow_reads_and_writes_the_same_files(tmp_path: Path) -> None:
    import tensorflow as tf
    assert tfrecord.write(tmp_path / "ours", RECORDS) == len(RECORDS)
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(tmp_path / "ours"))] == RECORDS
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes()
    assert list(tfrecord.read(tmp_path / "theirs")) == RECORDS


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert tfrecord.write(tmp_path / "empty", []) == 0
    assert list(tfrecord.read(tmp_path / "empty")) == []


@pytest.mark.parametrize(("damage", "offset", "words"), [
    (lambda data: data[:5], 0, "ends in its length"),
    (lambda data: b"not a TFRecord file", 0, "is this a TFRecord file at all"),
    (lambda data: data[:-1], 17, "ends before its 4 bytes do"),
    (lambda data: data[:12] + b"X" + data[13:], 0, "its bytes are damaged"),
    (lambda data: data[:17] + b"\x05" + data[18:], 17, "its length is damaged"),
], ids=["short", "other", "cut", "bytes", "length"])
def test_damage_is_reported_at_its_offset(tmp_path: Path, damage: Any, offset: int, words: str) -> None:
    path = tmp_path / "file"
    tfrecord.write(path, [b"a", b"wxyz"])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(tfrecord.CorruptedRecordError, match=words) as caught:
        list(tfrecord.read(path))
    assert caught.value.offset == offset


def test_a_huge_length_reads_nothing_into_memory(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**62)
    (tmp_path / "file").write_bytes(length + struct.pack("<I", tfrecord.masked_crc32c(length)))
    with pytest.raises(tfrecord.CorruptedRecordError, match="ends before its"):
        list(tfrecord.read(tmp_path / "file"))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Any:
        yield b"a"
        raise RuntimeError("stopped")
    with pytest.raises(RuntimeError, match="stopped"):
        tfrecord.write(tmp_path / "file", failing())
    assert list(tmp_path.iterdir()) == []


WORDS = np.array([b"a", b"\xff"], object)
EXCHANGES = [
    Predicted("m", {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "words": WORDS}, "other",
              {"y": np.array([1, 2], np.int64)}, 3),
    Predicted("m", {"x": np.zeros((0, 3), np.float32)}),
]


def test_recorded_requests_and_answers_are_read_back(tmp_path: Path) -> None:
    assert recording.write(tmp_path / "log", EXCHANGES) == 2
    for read, written in zip(recording.read(tmp_path / "log"), EXCHANGES, strict=True):
        assert (read.model, read.signature_name, read.version) == (
            written.model, written.signature_name, written.version)
        for theirs, ours in ((read.inputs, written.inputs), (read.outputs, written.outputs)):
            assert {name: (a.dtype, a.tolist()) for name, a in theirs.items()} == {
                name: (a.dtype, a.tolist()) for name, a in ours.items()}


def test_other_kinds_of_logs_are_left_out(tmp_path: Path) -> None:
    classify = prediction_log_pb2.PredictionLog()
    classify.classify_log.request.model_spec.name = "m"
    tfrecord.write(tmp_path / "log", [classify.SerializeToString(), EXCHANGES[0].to_log().SerializeToString()])
    assert len(list(recording.read(tmp_path / "log"))) == 1
    assert len(list(recording.logs(tmp_path / "log"))) == 2


def test_a_file_that_is_not_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file of recorded requests"):
        list(recording.read(tmp_path / "missing"))
    with pytest.raises(UserError, match="Is a directory"):
        list(recording.read(tmp_path))
    tfrecord.write(tmp_path / "other", [EXCHANGES[0].to_log().SerializeToString(), b"\xff\xff"])
    with pytest.raises(UserError, match="other: record 2 is no PredictionLog"):
        list(recording.read(tmp_path / "other"))
    log = EXCHANGES[0].to_log()
    log.predict_log.request.inputs["x"].tensor_content = b"123"
    tfrecord.write(tmp_path / "broken", [log.SerializeToString()])
    with pytest.raises(UserError, match=r"broken: request 1: DT_FLOAT of shape .* needs 24 bytes"):
        list(recording.read(tmp_path / "broken"))
