"""Given images: every kind comes out as the same chunks, and what does not fit is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from selftrain.data.inputs import images as given
from selftrain.data.inputs.images import ImageChunk, ImageStream, image_ids
from selftrain.data.inputs.opening import ids_of, open_images
from selftrain.data.inputs.streams import is_single
from selftrain.errors import SourceError

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def pictures() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3), np.uint8)


@pytest.fixture
def labels() -> npt.NDArray[np.int64]:
    return np.arange(10) % 3


def opened(what: object, *, labeled: bool = False, rank: int | None = None) -> ImageStream:
    return open_images(what, role="photos", labeled=labeled, image_rank=rank, image_size=None)


def whole(source: ImageStream) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    chunks = list(source.chunks())
    marks = [chunk.labels for chunk in chunks if chunk.labels is not None]
    return np.concatenate([chunk.images for chunk in chunks]), np.concatenate(marks) if marks else None


class MapStyle:
    """A data set as torch has them: a length, and a pair a row."""

    def __init__(self, pictures: Pixels, labels: npt.NDArray[np.int64]) -> None:
        self.pictures, self.labels = pictures, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Pixels, int]:
        return self.pictures[row], int(self.labels[row])


class Loader:
    """Batches of a data set, as torch's DataLoader gives them: lists of a tensor for images and one for labels."""

    def __init__(self, dataset: MapStyle, batch_size: int, *, drop_last: bool = False) -> None:
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last

    def __iter__(self) -> Iterator[list[object]]:
        for start in range(0, len(self.dataset), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield [Tensor(self.dataset.pictures[part]), Tensor(self.dataset.labels[part])]


class Tensor:
    """What torch's tensors ask for before they are numpy arrays."""

    def __init__(self, values: npt.NDArray[Any], *, on: str = "gpu", grad: bool = True) -> None:
        self.values, self.on, self.grad = values, on, grad

    def detach(self) -> Tensor:
        return Tensor(self.values, on=self.on, grad=False)

    def cpu(self) -> Tensor:
        return Tensor(self.values, on="cpu", grad=self.grad)

    def numpy(self) -> npt.NDArray[Any]:
        assert self.on == "cpu"
        assert not self.grad
        return self.values


def kinds(pictures: Pixels, labels: npt.NDArray[np.int64]) -> dict[str, object]:
    pairs = list(zip(pictures, labels, strict=True))
    return {
        "arrays": (pictures, labels),
        "lists": (list(pictures), labels.tolist()),
        "pictures of Pillow": ([Image.fromarray(each) for each in pictures], labels),
        "list of pairs": pairs,
        "generator": (pair for pair in pairs),
        "batches of odd sizes": [(pictures[:7], labels[:7]), (pictures[7:8], labels[7:8]), (pictures[8:], labels[8:])],
        "map style": MapStyle(pictures, labels),
        "loader": Loader(MapStyle(pictures, labels), 4),
    }


@pytest.mark.parametrize("kind", list(kinds(np.zeros((1, 6, 5, 3), np.uint8), np.zeros(1, np.int64))))
def test_every_kind_gives_the_same_images_and_labels(
    pictures: Pixels, labels: npt.NDArray[np.int64], kind: str
) -> None:
    images, marks = whole(opened(kinds(pictures, labels)[kind], labeled=True))
    np.testing.assert_array_equal(images, pictures)
    assert marks is not None
    np.testing.assert_array_equal(marks, labels)


@pytest.mark.parametrize("kind", ["map style", "loader", "generator"])
def test_labels_of_unlabelled_images_are_not_read(pictures: Pixels, labels: npt.NDArray[np.int64], kind: str) -> None:
    images, marks = whole(opened(kinds(pictures, labels)[kind]))
    np.testing.assert_array_equal(images, pictures)
    assert marks is None


@pytest.mark.keras
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("rank", [None, 3])
def test_a_tf_data_set_is_read_batched_or_not(
    pictures: Pixels, labels: npt.NDArray[np.int64], batch: int | None, rank: int | None
) -> None:
    import tensorflow as tf

    pairs = tf.data.Dataset.from_tensor_slices((pictures, labels))
    alone = tf.data.Dataset.from_tensor_slices(pictures)
    if batch:
        pairs, alone = pairs.batch(batch), alone.batch(batch)
    images, marks = whole(opened(pairs, labeled=True, rank=rank))
    np.testing.assert_array_equal(images, pictures)
    np.testing.assert_array_equal(marks, labels)
    np.testing.assert_array_equal(whole(opened(alone, rank=rank))[0], pictures)


@pytest.mark.keras
def test_grey_images_without_a_channel_are_told_apart_by_the_model_or_by_their_labels() -> None:
    import tensorflow as tf

    pictures = np.random.default_rng(1).integers(0, 256, (12, 8, 8), np.uint8)
    marks = np.eye(8, dtype=np.float32)[np.arange(12) % 8]
    for made in (
        opened(tf.data.Dataset.from_tensor_slices((pictures, np.arange(12))).batch(5), labeled=True),
        opened(tf.data.Dataset.from_tensor_slices((pictures, marks)).batch(5), labeled=True, rank=2),
        opened(tf.data.Dataset.from_tensor_slices((pictures, marks)), labeled=True, rank=2),
    ):
        np.testing.assert_array_equal(whole(made)[0], pictures)


@pytest.mark.keras
def test_batches_of_grey_images_are_batches_for_a_model_that_reads_a_channel() -> None:
    import tensorflow as tf

    pictures = np.random.default_rng(1).integers(0, 256, (12, 8, 8), np.uint8)
    alone = tf.data.Dataset.from_tensor_slices(pictures).batch(5)
    pairs = tf.data.Dataset.from_tensor_slices((pictures, np.arange(12))).batch(5)
    for made in (opened(alone, rank=3), opened(pairs, labeled=True, rank=3)):
        np.testing.assert_array_equal(whole(made)[0], pictures)


def test_chunks_have_one_size_however_the_stream_is_cut(
    pictures: Pixels, labels: npt.NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given, "CHUNK_BYTES", 4 * pictures[0].nbytes)
    for kind in ("arrays", "generator", "loader", "batches of odd sizes"):
        chunks = list(opened(kinds(pictures, labels)[kind], labeled=True).chunks())
        assert [len(chunk) for chunk in chunks] == [4, 4, 2], kind


def test_a_stream_is_never_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "CHUNK_BYTES", 4 * 16)
    drawn = 0

    def endless() -> Iterator[Pixels]:
        nonlocal drawn
        while True:
            drawn += 1
            yield np.full((4, 4), drawn % 256, np.uint8)

    chunks = opened(endless()).chunks()
    for _ in range(5):
        next(chunks)
    assert drawn <= 5 * 4 + 1


@pytest.mark.parametrize(
    ("image", "label", "rank", "single"),
    [
        ((32, 32, 3), (), None, True),
        ((None, 32, 32, 3), (None,), None, False),
        ((28, 28), (), None, True),
        ((16, 28, 28), (16,), None, False),
        ((3, 32, 32), (10,), None, True),
        ((8, 8, 1), (8,), None, True),
        ((16, 28, 28), None, 2, False),
        ((16, 28, 28), None, 3, True),
    ],
)
def test_what_is_one_image_and_what_is_a_batch(
    image: tuple[int, ...], label: tuple[int, ...] | None, rank: int | None, single: bool
) -> None:
    assert is_single(image, label, rank) is single


def test_an_image_has_the_same_id_wherever_it_comes(pictures: Pixels, labels: npt.NDArray[np.int64]) -> None:
    ids = image_ids(pictures)
    for kind in kinds(pictures, labels).values():
        found = np.concatenate([chunk.ids for chunk in opened(kind, labeled=True).chunks()])
        np.testing.assert_array_equal(found, ids)
    np.testing.assert_array_equal(ids_of(list(pictures[3:5])), ids[3:5])
    assert len(set(ids.tolist())) == 10
    assert image_ids(pictures[:1].reshape(1, 5, 6, 3)) != ids[:1]


def test_whole_numbers_are_bytes_and_doubles_are_floats() -> None:
    for dtype, kept in (("int64", "uint8"), ("float64", "float32"), ("float16", "float16"), ("uint8", "uint8")):
        assert whole(opened(np.ones((2, 4, 4), dtype)))[0].dtype == kept


class Nothing:
    """No images of any kind."""


@pytest.mark.parametrize(
    ("what", "labeled", "said"),
    [
        (np.full((2, 4, 4), 300), False, "integers must be in 0-255"),
        (np.full((2, 4, 4), np.nan), False, "2 images hold NaN or infinity (rows 0, 1)"),
        (np.full((2, 4, 4), "a"), False, "images of type"),
        (np.zeros((5, 4)), False, "one image has the shape (4,)"),
        (np.zeros((5, 4, 4, 4, 4)), False, "one image has the shape (4, 4, 4, 4)"),
        ([np.zeros((4, 4)), np.zeros((5, 4))], False, "different shapes, (4, 4) and (5, 4)"),
        (iter([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))]), False, "different shapes, (4, 4, 3) and (5, 4, 3)"),
        (iter([{"image": 1}]), False, "its elements are dicts with image"),
        ((np.zeros((2, 4, 4)), np.zeros(2)), False, "is a tuple of two arrays"),
        ([np.zeros((2, 4, 4)), np.zeros(2)], True, "is a list of two arrays; give a tuple (images, labels)"),
        ({"image": 1, "label": 2}, True, "photos is a dict of image, label; give a tuple (images, labels)"),
        ({"image": np.zeros((2, 4, 4))}, False, "photos is a dict of image; give the images alone"),
        (np.zeros((2, 4, 4)), True, "ndarray of shape (2, 4, 4) without labels"),
        ((np.zeros((2, 4, 4)), [1]), True, "2 images and 1 labels"),
        (iter([(np.zeros((4, 8, 8)), np.zeros(3))]), True, "a batch has 4 images and labels of shape (3,)"),
        (iter([np.zeros((4, 4))]), True, "labelled ones are pairs"),
        (Nothing(), False, "photos is Nothing; allowed are"),
        ("nowhere", False, "the model does not say which size it reads; give image_size="),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(what: object, labeled: bool, said: str) -> None:
    with pytest.raises(SourceError, match="photos") as error:
        whole(opened(what, labeled=labeled))
    assert said in error.value.message


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("folder", "images is the path 'folder'; give an array of images, or a list of images or image files"),
        (["missing.png"], "images: 'missing.png' cannot be read (No such file or directory); correct the path"),
        (iter(()), "give an array of images, or a list"),
        (None, "images is NoneType; give an array"),
    ],
)
def test_what_has_no_ids_is_said(what: object, said: str) -> None:
    with pytest.raises(SourceError) as error:
        ids_of(what)
    assert said in error.value.message


def test_no_images_have_no_ids() -> None:
    assert ids_of([]).shape == (0,)


@pytest.fixture
def folder(tmp_path: Path, pictures: Pixels) -> Path:
    """Class folders ant and bee with five pictures each, 20 pixels a side."""
    for row, picture in enumerate(pictures):
        path = tmp_path / "set" / ("ant", "bee")[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).resize((20, 20)).save(path)
    return tmp_path / "set"


def files(what: object, *, labeled: bool, channels: int = 3) -> list[ImageChunk]:
    source = open_images(what, role="photos", labeled=labeled, image_rank=3, image_size=8, channels=channels)
    return list(source.chunks())


@pytest.mark.parametrize("dtype", ["U", object])
def test_an_array_of_paths_is_read_as_a_list_of_them(folder: Path, dtype: Any) -> None:
    paths = sorted(str(path) for path in folder.rglob("*.png"))
    (listed,), (chunk,) = files(paths, labeled=False), files(np.array(paths, dtype), labeled=False)
    np.testing.assert_array_equal(chunk.images, listed.images)
    np.testing.assert_array_equal(ids_of(np.array(paths, dtype)), listed.ids)
    (pairs,) = files((np.array(paths, dtype), np.arange(10)), labeled=True)
    np.testing.assert_array_equal(pairs.labels, np.arange(10))


def test_class_folders_are_labelled_by_their_names(folder: Path) -> None:
    (chunk,) = files(folder, labeled=True)
    assert chunk.images.shape == (10, 8, 8, 3)
    assert chunk.labels is not None
    assert chunk.labels.tolist() == ["ant"] * 5 + ["bee"] * 5
    assert chunk.paths is not None
    assert [Path(path).parent.name for path in chunk.paths] == chunk.labels.tolist()
    assert chunk.sizes == tuple(Path(path).stat().st_size for path in chunk.paths)
    np.testing.assert_array_equal(chunk.ids, ids_of(list(chunk.paths)))


def test_a_folder_and_a_list_of_its_files_are_the_same(folder: Path) -> None:
    (chunk,) = files(folder, labeled=False)
    (listed,) = files([Path(path) for path in chunk.paths or ()], labeled=False)
    np.testing.assert_array_equal(chunk.images, listed.images)
    assert chunk.labels is None
    (marked,) = files((list(chunk.paths or ()), list(range(10))), labeled=True)
    assert marked.labels is not None
    assert marked.labels.tolist() == list(range(10))


def test_a_file_that_cannot_be_read_is_left_out_with_its_label(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MOST_ROWS", 4)
    (folder / "bee" / "1.png").write_bytes(b"no image")
    chunks = files(folder, labeled=True)
    assert [len(chunk) for chunk in chunks] == [4, 3, 2]
    assert [(Path(each.path).name, each.reason) for chunk in chunks for each in chunk.unreadable] == [
        ("1.png", "not_an_image")
    ]
    assert [len(chunk.labels) for chunk in chunks if chunk.labels is not None] == [4, 3, 2]


def test_a_grey_model_gets_grey_files(folder: Path) -> None:
    (chunk,) = files(folder, labeled=False, channels=1)
    (colour,) = files(folder, labeled=False)
    assert chunk.images.shape == (10, 8, 8, 1)
    np.testing.assert_allclose(chunk.images[..., 0], colour.images @ np.array([0.299, 0.587, 0.114]), atol=0.51)


@pytest.mark.parametrize("labeled", [True, False])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, labeled: bool) -> None:
    with pytest.raises(SourceError, match=r"gone.* is not a folder"):
        files(tmp_path / "gone", labeled=labeled)


@pytest.mark.parametrize("stream", [False, True])
def test_images_with_nan_are_named_by_their_row_over_all_chunks(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MOST_ROWS", 4)
    images = np.ones((12, 5, 5), np.float32)
    images[[9, 11], 2, 2] = np.nan
    opened = open_images(
        iter(images) if stream else images, role="labeled", labeled=False, image_rank=2, image_size=None
    )
    with pytest.raises(SourceError, match=r"2 images hold NaN or infinity \(rows 9, 11\)"):
        list(opened.chunks())


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV"])
def test_a_pillow_image_is_read_as_it_looks_whatever_its_numbers_mean(mode: str) -> None:
    looks = [Image.new("RGB", (4, 4), colour) for colour in ((200, 30, 10), (10, 30, 200))]
    stored = [look.quantize(4) if mode == "P" else look.convert(mode) for look in looks]
    images, _ = whole(opened(stored))
    assert images.shape == (2, 4, 4, 3)
    assert np.abs(images[0, 0, 0].astype(int) - (200, 30, 10)).max() <= 4
    assert np.abs(images[1, 0, 0].astype(int) - (10, 30, 200)).max() <= 4


def test_a_grey_pillow_image_lies_over_white_where_it_is_transparent_and_black_and_white_is_grey() -> None:
    both, _ = whole(opened([Image.new("LA", (4, 4), (90, 128))]))
    assert both[0, 0, 0].tolist() == [172, 172, 172]  # half of it is white
    colours, _ = whole(opened([Image.new("RGBA", (4, 4), (90, 80, 70, 128))]))
    assert colours[0, 0, 0].tolist() == [90, 80, 70, 128]  # for a model of four channels
    bits, _ = whole(opened([Image.new("1", (4, 4), 1)]))
    assert bits[0, 0, 0] == 255


def test_a_pillow_image_in_lab_is_refused() -> None:
    with pytest.raises(SourceError, match=r"LAB.*convert it to RGB"):
        whole(opened([Image.new("LAB", (4, 4))]))


def test_a_loader_of_unlabelled_images_that_drops_some_is_refused(pictures: Pixels) -> None:
    loader = Loader(MapStyle(pictures, np.zeros(10, np.int64)), 4, drop_last=True)
    with pytest.raises(SourceError, match=r"drops its last batch.*drop_last=False"):
        opened(loader)
    opened(loader, labeled=True)
    opened(Loader(MapStyle(pictures, np.zeros(10, np.int64)), 5, drop_last=True))
