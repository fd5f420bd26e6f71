"""Streams that never end: refused where they say so, noticed where they repeat, ended by a limit."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from selftrain.data.inputs.images import ImageStream
from selftrain.data.inputs.opening import open_images
from selftrain.errors import SourceError

IMAGES = np.random.default_rng(0).integers(0, 256, (5000, 2, 2, 1), np.uint8)


def opened(given: object, *, limit: int | None = None, role: str = "unlabeled") -> ImageStream:
    return open_images(given, role=role, labeled=role == "labeled", image_rank=3, image_size=None, limit=limit)


def read(stream: ImageStream) -> npt.NDArray[np.uint8]:
    return np.concatenate([chunk.images for chunk in stream.chunks()])


def test_a_generator_that_repeats_is_noticed_when_it_has_come_round() -> None:
    stream = opened(itertools.cycle([IMAGES[:2500], IMAGES[2500:]]))
    with pytest.raises(SourceError, match=r"unlabeled gives the same images again: 5000 different .* say limit=N"):
        read(stream)


def test_a_generator_that_never_repeats_ends_at_the_limit() -> None:
    def fresh() -> Iterator[npt.NDArray[np.uint8]]:
        random = np.random.default_rng(0)
        while True:
            yield random.integers(0, 256, (100, 4, 4, 1), np.uint8)

    assert len(read(opened(fresh(), limit=8250))) == 8250


def test_nothing_is_read_beyond_the_limit() -> None:
    stream = iter([IMAGES[:4], IMAGES[4:8], IMAGES[8:12]])
    assert len(read(opened(stream, limit=6))) == 6
    assert np.array_equal(next(stream), IMAGES[8:12])


def test_a_generator_that_ends_may_hold_copies() -> None:
    assert len(read(opened(iter([IMAGES, IMAGES[:4000]])))) == 9000


def test_a_limit_cuts_an_array_too_and_its_count() -> None:
    stream = opened(IMAGES, limit=7)
    assert stream.count == 7
    assert np.array_equal(read(stream), IMAGES[:7])
    assert len(read(opened(IMAGES[:3], limit=7))) == 3


@pytest.mark.keras
def test_a_dataset_of_tensorflow_that_repeats_is_refused_before_it_is_read() -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(IMAGES[:6]).batch(4).repeat()
    with pytest.raises(SourceError, match=r"unlabeled repeats for ever; .*take\(N\), or say limit=N"):
        opened(dataset)
    with pytest.raises(SourceError, match=r"labeled repeats for ever; .*take\(N\)$"):
        opened(dataset, role="labeled")
    assert len(read(opened(dataset, limit=9))) == 9


@pytest.mark.keras
def test_a_keras_generator_whose_iterator_starts_again_is_read_once_by_index() -> None:
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    flow = ImageDataGenerator().flow(np.float32(IMAGES[:10]), np.arange(10), batch_size=4, shuffle=False)
    chunks = list(opened(flow, role="labeled").chunks())
    assert np.concatenate([chunk.labels for chunk in chunks if chunk.labels is not None]).tolist() == list(range(10))


@pytest.mark.keras
def test_a_keras_dataset_that_says_it_is_infinite_is_refused_or_ends_at_the_limit() -> None:
    import keras

    class Fresh(keras.utils.PyDataset):  # type: ignore[misc]
        @property
        def num_batches(self) -> None:
            return None

        def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
            return IMAGES[index * 4 : index * 4 + 4]

    with pytest.raises(SourceError, match="Fresh without a length"):
        opened(Fresh())
    assert np.array_equal(read(opened(Fresh(), limit=10)), IMAGES[:10])
