"""The annotations table: its invariants, its order and digest, and how it is cut and renamed."""

from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.data.annotations.padding import padded
from selftrain.data.annotations.run_lengths import mask_of
from selftrain.data.annotations.table import Annotations
from selftrain.data.label_map import LabelMap
from selftrain.errors import ManifestError

CLASSES = LabelMap(("cell", "nucleus"))
HUMAN = {"image_id": "a", "label": 0, "x0": 1.0, "y0": 2.0, "x1": 5.0, "y1": 9.0, "crowd": False, "source": "human"}
PSEUDO = {**HUMAN, "source": "pseudo", "score": 0.9, "teacher": "t0", "round": 1}
MASK = mask_of(np.ones((4, 4)))


def build(*rows: dict[str, object]) -> Annotations:
    names = {name: None for row in rows for name in row}
    return Annotations.build(pa.table({name: [row.get(name) for row in rows] for name in names}), CLASSES)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({**HUMAN, "image_id": ""}, "its image has an id"),
        ({**HUMAN, "label": 2}, "label is below 2 classes"),
        ({**HUMAN, "label": -1}, "label is below 2 classes"),
        ({**HUMAN, "x1": float("nan")}, "its box is finite"),
        ({**HUMAN, "x0": float("-inf"), "x1": float("inf")}, "its box is finite"),
        ({**HUMAN, "x0": -0.5}, "its box begins at 0 or later"),
        ({**HUMAN, "x1": 1.0}, "its box has a width and a height"),
        ({**HUMAN, "y1": 1.0}, "its box has a width and a height"),
        ({**HUMAN, "source": "robot"}, "source is one of human, pseudo"),
        ({**HUMAN, "score": 0.5}, "a pseudo-label has a score, and nothing else has one"),
        ({**PSEUDO, "score": None}, "a pseudo-label has a score, and nothing else has one"),
        ({**HUMAN, "teacher": "t0"}, "only a pseudo-label has a teacher"),
        ({**HUMAN, "round": 1}, "only a pseudo-label has a round"),
        ({**PSEUDO, "score": 1.5}, "score is in 0-1"),
        ({**PSEUDO, "round": -1}, "round is at least 0"),
        ({**HUMAN, "mask": b"P"}, "mask is COCO's compressed run lengths"),
        ({**HUMAN, "mask": mask_of(np.zeros((3, 3)))}, "mask is COCO's compressed run lengths, and holds pixels"),
    ],
)
def test_a_broken_object_is_refused_with_the_rule_and_its_image(row: dict[str, object], rule: str) -> None:
    with pytest.raises(ManifestError, match="1 objects break the rule that") as raised:
        build({**row, "annotation_id": "77"}, PSEUDO)
    assert rule in raised.value.message
    assert "(id 77)" in raised.value.message


def test_a_wrong_column_is_refused() -> None:
    with pytest.raises(ManifestError, match="unknown \\['colour'\\]"):
        build({**HUMAN, "colour": "red"})
    with pytest.raises(ManifestError, match="missing \\['x0'\\]"):
        build({name: value for name, value in HUMAN.items() if name != "x0"})


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "image_id": st.sampled_from(["a", "b", "ccc"]),
            "label": st.sampled_from([0, 1]),
            "x0": st.sampled_from([0.0, 1.5]),
            "y0": st.just(0.0),
            "x1": st.sampled_from([2.0, 3.0]),
            "y1": st.just(1.0),
            "crowd": st.booleans(),
            "mask": st.sampled_from([None, MASK]),
            "source": st.just("pseudo"),
            "score": st.sampled_from([0.25, 1.0]),
            "teacher": st.sampled_from([None, "t0", "t1"]),
            "annotation_id": st.sampled_from([None, "1", "x"]),
        }
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms())
def test_the_digest_and_the_order_depend_on_the_objects_alone(rows: list[dict[str, object]], random: Random) -> None:
    table = pa.Table.from_pylist(rows) if rows else Annotations.empty(CLASSES).table
    turned = list(range(len(rows)))
    random.shuffle(turned)
    first = Annotations.build(table, CLASSES)
    second = Annotations.build(table.take(pa.array(turned, pa.int64())), CLASSES)
    assert first.digest == second.digest
    assert first.table.to_pylist() == second.table.to_pylist()
    assert len(first) == len(rows)


@pytest.mark.parametrize("name", ["label", "x1", "crowd", "mask", "score", "teacher", "round", "annotation_id"])
def test_the_digest_changes_with_each_value(name: str) -> None:
    other = {"label": 1, "x1": 6.0, "crowd": True, "mask": MASK, "score": 0.8, "teacher": "t1", "round": 2}
    assert build(PSEUDO).digest != build({**PSEUDO, name: other.get(name, "5")}).digest


def test_the_table_survives_parquet(tmp_path: Path) -> None:
    objects = build(HUMAN, {**PSEUDO, "mask": MASK, "annotation_id": "é"}, {**HUMAN, "image_id": "b", "crowd": True})
    objects.write(tmp_path / "objects.parquet")
    again = Annotations.read(tmp_path / "objects.parquet")
    assert again.table.equals(objects.table)
    assert (again.digest, again.label_map) == (objects.digest, CLASSES)


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="not annotations of format 1"):
        Annotations.read(tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="cannot read annotations"):
        Annotations.read(tmp_path / "missing.parquet")


def test_the_objects_of_images_are_found_in_any_order_of_asking() -> None:
    objects = build({**HUMAN, "image_id": "b"}, {**HUMAN, "image_id": "b", "label": 1}, {**HUMAN, "image_id": "d"})
    assert objects.image_ids == ("b", "d")
    assert objects.offsets.tolist() == [0, 2, 3]
    first, count = objects.spans(["d", "a", "b"])
    assert count.tolist() == [1, 0, 2]
    assert objects.labels[first[2] : first[2] + 2].tolist() == [0, 1]
    assert objects.of_images(["a", "d"]).image_ids == ("d",)
    assert len(objects.of_images(["nowhere"])) == 0


def test_padded_objects_are_the_largest_of_each_image_and_pads() -> None:
    small, large = {**HUMAN, "x1": 2.0}, {**HUMAN, "x1": 90.0, "label": 1}
    objects = build(small, HUMAN, {**large, "crowd": True}, {**HUMAN, "image_id": "b"})
    found = padded(objects, ["b", "empty", "a"], places=2)
    assert found.boxes.shape == (3, 2, 4)
    assert found.boxes.dtype == np.float32
    assert found.labels.tolist() == [[0, -1], [-1, -1], [1, 0]]
    assert found.boxes[2].tolist() == [[1, 2, 90, 9], [1, 2, 5, 9]]
    assert (found.boxes[1] == -1).all()
    assert found.crowd.tolist() == [[False, False], [False, False], [True, False]]
    assert found.dropped.tolist() == [0, 0, 1]
    assert objects.boxes[found.rows[2, 1]].tolist() == [1, 2, 5, 9]


def test_padding_without_any_object_has_one_place() -> None:
    found = padded(Annotations.empty(CLASSES), ["a", "b"])
    assert found.boxes.tolist() == [[[-1] * 4]] * 2
    assert found.labels.tolist() == [[-1]] * 2


def test_images_with_an_object_without_outline_are_named() -> None:
    objects = build(HUMAN, {**HUMAN, "mask": MASK}, {**HUMAN, "image_id": "b", "mask": MASK})
    assert objects.without_full_masks() == ("a",)
    assert build({**HUMAN, "crowd": True}).without_full_masks() == ()


def test_images_get_the_ids_of_the_manifest_and_the_others_are_dropped() -> None:
    objects = build({**HUMAN, "image_id": "x.png"}, {**HUMAN, "image_id": "gone.png"})
    renamed = objects.with_image_ids(["x.png", "empty.png"], ["0a", "1b"])
    assert renamed.image_ids == ("0a",)
    assert len(renamed) == 1


def test_two_copies_of_an_image_must_not_both_bring_their_objects() -> None:
    objects = build({**HUMAN, "image_id": "x.png"}, {**HUMAN, "image_id": "copy.png"})
    with pytest.raises(ManifestError, match="they are copies"):
        objects.with_image_ids(["x.png", "copy.png"], ["0a", "0a"])


def test_tables_are_joined_only_if_their_classes_are_the_same() -> None:
    assert len(build(HUMAN).and_also(build(PSEUDO))) == 2
    with pytest.raises(ManifestError, match="classes differ"):
        build(HUMAN).and_also(Annotations.empty(LabelMap(("cell",))))
