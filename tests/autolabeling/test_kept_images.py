"""Kept images: gathered as they were given, from arrays or from the user's files, which may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from selftrain.autolabeling.kept_images import KeptImages, Part, index_rows, with_values, write_array
from selftrain.data.inputs.images import ImageChunk, image_ids
from selftrain.data.inputs.opening import open_images
from selftrain.errors import SourceError


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[KeptImages, np.ndarray]:
    """Seven images in two array files."""
    pictures = np.random.default_rng(0).random((7, 3, 5, 2)).astype(np.float32)
    parts = []
    for name, rows in (("a.npy", slice(0, 4)), ("b.npy", slice(4, 7))):
        write_array(tmp_path / "images", name, pictures[rows])
        parts.append(index_rows(ImageChunk(pictures[rows], image_ids(pictures[rows])), name))
    return KeptImages(tmp_path / "images", pa.concat_tables(parts), (3, 5, 2), "float32"), pictures


@pytest.fixture
def files(tmp_path: Path) -> KeptImages:
    """Four pictures of 12 pixels, read as 8."""
    for row in range(4):
        pixels = np.random.default_rng(row).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
    (chunk,) = open_images(tmp_path, role="x", labeled=False, image_rank=3, image_size=8).chunks()
    return KeptImages(tmp_path, index_rows(chunk, "none"), (8, 8, 3), "uint8")


def test_rows_are_gathered_in_any_order_over_all_arrays(arrays: tuple[KeptImages, np.ndarray]) -> None:
    kept, pictures = arrays
    rows = np.array([6, 0, 4, 3, 0])
    np.testing.assert_array_equal(kept.gather(rows), pictures[rows])
    np.testing.assert_array_equal(kept.take(np.array([5, 1])).gather(np.array([1, 0])), pictures[[1, 5]])
    assert kept.gather(np.arange(0)).shape == (0, 3, 5, 2)


def test_the_index_survives_parquet(arrays: tuple[KeptImages, np.ndarray], tmp_path: Path) -> None:
    kept, pictures = arrays
    named = KeptImages(
        kept.folder, with_values(kept.index, "part", np.full(7, Part.TRAINING.value)), kept.shape, kept.dtype
    )
    named.write(tmp_path / "index.parquet")
    back = KeptImages.read(tmp_path / "index.parquet", folder=kept.folder, shape=(3, 5, 2), dtype="float32")
    assert back.index.equals(named.index)
    np.testing.assert_array_equal(back.gather(np.arange(7)), pictures)


def test_arrays_are_kept_without_pickle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_array(tmp_path, "a.npy", np.array([{}], dtype=object))
    assert not list(tmp_path.iterdir())


def test_an_array_that_is_gone_is_named(arrays: tuple[KeptImages, np.ndarray]) -> None:
    kept, _ = arrays
    (kept.folder / "b.npy").unlink()
    with pytest.raises(SourceError, match=r"b\.npy cannot be read"):
        kept.gather(np.array([5]))


def test_files_are_decoded_again(files: KeptImages, tmp_path: Path) -> None:
    (chunk,) = open_images(tmp_path, role="x", labeled=False, image_rank=3, image_size=8).chunks()
    np.testing.assert_array_equal(files.gather(np.array([3, 1])), chunk.images[[3, 1]])
    np.testing.assert_array_equal(files.gather(np.array([2])), chunk.images[[2]])
    files.check_files()


def test_a_file_that_changed_is_not_taken_for_the_one_that_was_labelled(files: KeptImages, tmp_path: Path) -> None:
    size = (tmp_path / "1.png").stat().st_size
    other = (tmp_path / "2.png").read_bytes()
    (tmp_path / "1.png").write_bytes(other + b"\0" * (size - len(other)) if len(other) <= size else other)
    with pytest.raises(SourceError, match=r"1\.png has changed since the analysis|1\.png can no longer be read"):
        files.gather(np.array([0, 1, 2]))


def test_files_that_are_gone_or_of_another_size_are_named_at_once(files: KeptImages, tmp_path: Path) -> None:
    (tmp_path / "3.png").unlink()
    (tmp_path / "0.png").write_bytes(b"short")
    with pytest.raises(SourceError, match=r"2 files are gone or changed since the analysis: .*0\.png, .*3\.png;"):
        files.check_files()
