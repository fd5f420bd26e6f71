"""Given images as a source: every array becomes the picture it shows, and ingest reads it like any file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selftrain.config import Ingest, Splitting
from selftrain.data.images.decode import decode
from selftrain.data.ingest.ingest import ingest
from selftrain.data.inputs.opening import open_images
from selftrain.data.inputs.spool import SpooledImages, label_names, spooled
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import SourceError

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def pictures() -> Pixels:
    """60 pictures (12, 12, 3) of three kinds: noise around a brightness of their own."""
    rng = np.random.default_rng(0)
    base = np.repeat([30, 120, 210], 20)[:, None, None, None]
    return (base + rng.integers(0, 40, (60, 12, 12, 3))).astype(np.uint8)


def add(spool: SpooledImages, what: object, *, role: str = "labeled") -> SpooledImages:
    split = {"labeled": None}.get(role, role)
    opened = open_images(what, role=role, labeled=role != "unlabeled", image_rank=None, image_size=None)
    spool.add(opened, role=role, split=split)
    return spool


def test_pictures_come_back_as_they_were(pictures: Pixels, tmp_path: Path) -> None:
    with spooled(tmp_path, None) as spool:
        add(spool, (pictures, np.repeat([0, 1, 2], 20)))
        add(spool, iter(pictures[:7]), role="unlabeled")
        listing = spool.scan()
        assert len(listing) == 67
        labels = listing.table["label"].to_pylist()
        read = {path: decode(spool.read(path), None) for path in listing.table["path"].to_pylist()}
        found = {(image.tobytes(), label) for image, label in zip(read.values(), labels, strict=True)}
        wanted = {(image.tobytes(), str(row // 20)) for row, image in enumerate(pictures)}
        assert found == wanted | {(image.tobytes(), None) for image in pictures[:7]}
    assert not list(tmp_path.iterdir())


def test_the_same_images_are_the_same_listing_in_any_order(pictures: Pixels, tmp_path: Path) -> None:
    marks = np.repeat([0, 1, 2], 20)
    with spooled(tmp_path, None) as one, spooled(tmp_path, None) as other:
        digest = add(one, (pictures, marks)).scan().digest
        assert add(other, (pictures[::-1], marks[::-1])).scan().digest == digest


def test_ingest_reads_them_and_counts_copies(pictures: Pixels, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    with spooled(tmp_path, None) as spool:
        add(spool, (pictures, np.repeat([0, 1, 2], 20)))
        add(spool, np.concatenate([pictures[:3], 255 - pictures[:10], 255 - pictures[:2]]), role="unlabeled")
        made = ingest(spool, spool.scan(), store, settings=Ingest(max_quarantine=1.0), splitting=Splitting())
    assert made.manifest.label_map.names == ("0", "1", "2")
    assert made.manifest.human_labels_used() == 60
    assert made.unlabeled_copies + made.held_out_copies == 3
    assert len(made.manifest) == 70


def test_classes_keep_the_order_of_their_numbers_or_of_their_names(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (24, 8, 8), np.uint8)
    labels = np.arange(24) % 12
    names = tuple("zyxwvutsrqpo")
    with spooled(tmp_path, None) as numbered, spooled(tmp_path, names) as named:
        add(numbered, (images, labels))
        assert numbered.class_names(numbered.scan()) == tuple(str(index) for index in range(12))
        add(named, (images, np.eye(12)[labels]))
        assert named.class_names(named.scan()) == names
        assert set(named.scan().table["label"].to_pylist()) == set(names)


def test_names_that_are_numbers_and_integers_of_a_table_keep_their_order(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (24, 8, 8), np.uint8)
    numbers = np.arange(24) % 12
    for labels in (numbers.astype(str), numbers.astype(object)):
        with spooled(tmp_path, None) as spool:
            add(spool, (images, labels))
            assert spool.class_names(spool.scan()) == tuple(str(index) for index in range(12))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.repeat(np.eye(3), 20, axis=0) * (np.arange(60) > 1)[:, None], r"not one-hot \(row 0: .*; also row 1\)"),
        (np.repeat(np.eye(3), 20, axis=0) * 0.5 + 0.1, "60 rows of labels are not one-hot"),
        (["a"] * 59 + [None], "labels of row 59 are missing"),
        (["a"] * 59 + [float("nan")], r"labels of row 59 are missing or not a label \(row 59: nan\)"),
        ([0] * 59 + [None], "labels of row 59 are missing"),
        ([0] * 59 + [float("nan")], r"label nan \(row 59\) is not a class index"),
        (["a"] * 59 + [1], r"labels of row 59 are numbers"),
    ],
)
def test_rows_that_are_no_labels_are_named(labels: Any, said: str, pictures: Pixels, tmp_path: Path) -> None:
    with spooled(tmp_path, None) as spool, pytest.raises(SourceError, match=said):
        add(spool, (pictures, labels))


def test_rows_are_counted_over_all_chunks(pictures: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selftrain.data.inputs.images.MOST_ROWS", 7)
    with spooled(tmp_path, None) as spool, pytest.raises(SourceError, match="labels of row 58 are missing"):
        add(spool, (pictures, np.array(["a"] * 58 + [None, "b"], object)))


def test_a_validation_label_without_training_images_is_refused(pictures: Pixels, tmp_path: Path) -> None:
    with spooled(tmp_path, None) as spool:
        add(spool, (pictures[:40], np.repeat([0, 1], 20)))
        add(spool, (pictures[40:], np.repeat([1, 2], 10)), role="validation")
        with pytest.raises(SourceError, match=r"label without training images: .*validation/.* and 5 more"):
            spool.scan()


def test_a_stream_without_a_label_is_refused(pictures: Pixels, tmp_path: Path) -> None:
    pairs = [(image, None if row == 5 else row % 3) for row, image in enumerate(pictures)]
    with spooled(tmp_path, None) as spool, pytest.raises(SourceError, match="label of its element 5 is None"):
        add(spool, iter(pairs))


def test_a_label_that_class_names_lacks_is_named(pictures: Pixels, tmp_path: Path) -> None:
    labels = np.repeat(["c0", "c1", "c2"], 20)
    with (
        spooled(tmp_path, ("n0", "n1", "n2")) as spool,
        pytest.raises(SourceError, match=r"label 'c0' \(row 0\) is not in class_names"),
    ):
        add(spool, (pictures, labels))


def test_what_is_not_a_label_is_said() -> None:
    with pytest.raises(SourceError, match=r"1 labels are not class indices 0, 1, 2, \.\.\. \(row 0: -1\)"):
        label_names(np.array([-1, 2]), None, "labeled")
    with pytest.raises(SourceError, match=r"\(row 1: 2\), as class_names has 2 classes"):
        label_names(np.array([0, 2]), ("a", "b"), "labeled")


def test_images_in_another_range_than_those_before_are_refused(tmp_path: Path) -> None:
    with spooled(tmp_path, None) as spool:
        add(spool, (np.ones((20, 4, 4), np.float32) * 0.5, np.zeros(20)))
        wide = np.linspace(0, 255, 320, dtype=np.float32).reshape(20, 4, 4)
        with pytest.raises(SourceError, match="unlabeled: values reach from 0 to 255"):
            add(spool, wide, role="unlabeled")


@pytest.mark.parametrize(
    ("largest", "dtype", "refused", "warned"),
    [
        (16, np.float32, True, False),
        (2, np.float16, True, False),
        (4095, np.float32, True, False),
        (16, np.uint8, False, True),
        (1, np.uint8, False, True),
        (1, np.float32, False, False),
        (255, np.float32, False, False),
        (60, np.float32, False, False),
        (255, np.int64, False, False),
    ],
)
def test_a_range_that_is_neither_0_1_nor_0_255_is_said(
    largest: int, dtype: Any, refused: bool, warned: bool, pictures: Pixels, tmp_path: Path
) -> None:
    values = np.linspace(0, largest, pictures.size).reshape(pictures.shape[::-1]).T.astype(dtype)
    with spooled(tmp_path, None) as spool:
        add(spool, (values[:30], np.zeros(30, int)))
        add(spool, values[30:], role="unlabeled")
        assert bool(spool.warnings()) == warned
        if refused:
            with pytest.raises(SourceError, match=rf"values reach from 0 to {largest}; allowed are 0-1 and 0-255"):
                spool.refuse_range()
        else:
            spool.refuse_range()


def test_the_range_is_that_of_all_images_however_they_are_cut(
    tmp_path: Path, pictures: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selftrain.data.inputs.images.MOST_ROWS", 20)
    dark_first = np.concatenate([pictures // 10, pictures]).astype(np.float32)
    with spooled(tmp_path, None) as spool:
        add(spool, (dark_first, np.arange(120) % 3))
        spool.refuse_range()


@pytest.mark.parametrize(("count", "refused"), [(15, False), (16, True)])
def test_a_few_dark_images_are_no_range(count: int, refused: bool, pictures: Pixels, tmp_path: Path) -> None:
    with spooled(tmp_path, None) as spool:
        add(spool, ((pictures[:count] // 10).astype(np.float32), np.arange(count) % 3))
        with pytest.raises(SourceError, match="allowed are 0-1 and 0-255") if refused else nullcontext():
            spool.refuse_range()


def test_a_survey_sees_what_init_would_see(pictures: Pixels, tmp_path: Path) -> None:
    with spooled(tmp_path, None) as spool:
        add(spool, (pictures[:50], np.repeat(["a", "b", "c"], 20)[:50]))
        add(spool, pictures[:30], role="unlabeled")
        seen = spool.survey()
    assert dict(seen.classes) == {"a": 20, "b": 20, "c": 10}
    assert (seen.unlabeled_images, seen.validation_images, seen.test_images) == (30, None, None)
    assert (seen.median_side, seen.grey, seen.imbalance) == (12, False, 2.0)
