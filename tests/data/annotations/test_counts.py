"""Object counts: of annotations, as the texts of a listing, and by images."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from selftrain.data.annotations.counts import ObjectCounts
from selftrain.data.annotations.table import Annotations
from selftrain.data.label_map import LabelMap


def annotations(rows: list[tuple[str, int, bool]]) -> Annotations:
    """Objects of (image, class, crowd)."""
    columns = {
        "image_id": [name for name, _, _ in rows],
        "label": pa.array([label for _, label, _ in rows], pa.int32()),
        **{side: pa.array([value] * len(rows), pa.float32()) for side, value in _BOX.items()},
        "crowd": [crowd for _, _, crowd in rows],
        "source": ["human"] * len(rows),
    }
    return Annotations.build(pa.table(columns), LabelMap(("cell", 'du"st é')))


_BOX = {"x0": 1.0, "y0": 1.0, "x1": 9.0, "y1": 9.0}
ROWS = [("b", 1, False), ("a", 0, False), ("a", 0, False), ("a", 1, True), ("c", 0, False)]


def test_objects_are_counted_by_image_and_class_without_crowds() -> None:
    counts = ObjectCounts.of(annotations(ROWS), ["c", "nothing", "a", "b"])
    assert counts.image.tolist() == [0, 2, 3]
    assert counts.label.tolist() == [0, 0, 1]
    assert counts.count.tolist() == [1, 2, 1]


def test_texts_of_a_listing_are_read_as_they_were_written_and_null_says_nothing() -> None:
    counts = ObjectCounts.of(annotations(ROWS), ["c", "nothing", "a", "b"])
    texts = counts.texts(4)
    assert texts[1] == "{}"
    read = ObjectCounts.read(pa.array([None, *texts]))
    assert read.names == ("cell", 'du"st é')
    assert (read.image - 1).tolist() == counts.image.tolist()
    assert read.label.tolist() == counts.label.tolist()
    assert read.count.tolist() == counts.count.tolist()


def test_counts_of_some_images_go_by_their_new_rows_or_keep_them() -> None:
    counts = ObjectCounts.of(annotations(ROWS), ["c", "nothing", "a", "b"])
    assert counts.take(np.array([1, 2])).image.tolist() == [1]
    assert counts.of_images(np.array([False, True, True, False])).image.tolist() == [2]
