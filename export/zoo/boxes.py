"""The boxes of a detector: where they may be, how they are decoded, and which of them are detections.

Source: SSD as the TensorFlow Object Detection API has it.
"""
from typing import Any

import numpy as np

from export.runtime import tf

CLASSES = 90  # and the background
# Non-maximum suppression as in the API's ssd_inception_v2_coco: scores over 0.3 are candidates; a box that shares more
# than 0.6 with a better one of its class is none; at most 100 of a class, and 100 in all.
LEAST_SCORE, MOST_SHARED, MOST = 0.3, 0.6, 100
# The boxes of a square: (size, width / height); sizes grow from map to map.
ASPECTS = (1.0, 2.0, 0.5, 3.0, 1 / 3)


def anchors(squares: list[tuple[int, int]]) -> np.ndarray:
    """The boxes that encodings are relative to, [B,4]: centre y, centre x, height, width, 0 to 1."""
    found = []
    for index, (side, count) in enumerate(squares):
        size, following = (0.2 + 0.75 * (index + later) / 5 for later in (0, 1))
        shapes = [(size / np.sqrt(aspect), size * np.sqrt(aspect)) for aspect in ASPECTS][:count]
        if count > len(ASPECTS):
            shapes.append((np.sqrt(size * following),) * 2)
        for y in range(side):
            for x in range(side):
                found += [((y + 0.5) / side, (x + 0.5) / side, high, wide) for high, wide in shapes]
    return np.array(found, np.float32)


def decoded(encodings: Any, around: np.ndarray) -> Any:
    """Encodings [N,B,4] -> boxes [N,B,4], as the Object Detection API's faster_rcnn_box_coder decodes them."""
    y, x, high, wide = tf.split(encodings, 4, axis=2)
    at_y, at_x, tall, broad = (column[None, :, None] for column in around.T)
    y, x = y / 10.0 * tall + at_y, x / 10.0 * broad + at_x
    high, wide = tf.exp(high / 5.0) * tall / 2.0, tf.exp(wide / 5.0) * broad / 2.0
    return tf.clip_by_value(tf.concat([y - high, x - wide, y + high, x + wide], 2), 0.0, 1.0, name="decoded_boxes")


def selected(boxes: Any, classes: Any) -> dict[str, Any]:
    """Boxes [N,B,4] and class logits [N,B,91] -> what the API's post-processing returns, by output key."""
    scores = tf.sigmoid(classes[:, :, 1:], name="scores")
    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :], scores, MOST, MOST, MOST_SHARED, LEAST_SCORE, clip_boxes=False)  # they are clipped
    return {"detection_boxes": tf.identity(found.nmsed_boxes, name="detection_boxes"),
            "detection_scores": tf.identity(found.nmsed_scores, name="detection_scores"),
            "detection_classes": tf.add(found.nmsed_classes, 1.0, name="detection_classes"),
            "num_detections": tf.cast(found.valid_detections, tf.float32, name="num_detections")}
