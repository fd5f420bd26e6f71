"""Large files: one that is too large for an image is refused before any of it is in memory."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from selftrain.data.images.openers import MOST_BYTES, image_bytes
from selftrain.data.ingest.chunks import Limits, SourceChunk, write_chunk, write_chunk_of_files
from selftrain.data.inputs.files import read_image
from selftrain.data.inputs.images import Unreadable
from selftrain.data.store.shards import PENDING
from selftrain.errors import ImageError
from selftrain.learn.models.predict_files import FilePixels

SIZE = MOST_BYTES + 1
LIMITS = Limits(max_pixels=1000, min_side=1, max_bytes=MOST_BYTES)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A file that begins like a TIFF and takes no space on disk."""
    path = tmp_path / "large.tif"
    path.write_bytes(b"II*\0")
    os.truncate(path, SIZE)
    return path


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES // 4
    finally:
        tracemalloc.stop()


def test_reading_it_says_how_large_an_image_may_be(sparse: Path) -> None:
    with pytest.raises(ImageError, match="256 MB encoded, at most 256 MB are allowed") as refused:
        image_bytes(sparse)
    assert refused.value.reason == "too_large"


def reasons(root: Path) -> list[str]:
    (rows,) = (root / PENDING).glob("*.json")
    found: list[str] = json.loads(rows.read_text())["reason"]
    return found


def test_ingest_puts_it_into_quarantine(sparse: Path, tmp_path: Path) -> None:
    chunk = {"paths": [str(sparse)], "sizes": [SIZE], "mtimes_ns": [0]}
    (tmp_path / "store" / PENDING).mkdir(parents=True)
    write_chunk_of_files(root=str(tmp_path / "store"), chunk=chunk, limits=vars(LIMITS))
    assert reasons(tmp_path / "store") == ["too_large"]


def test_ingest_does_not_ask_an_archive_for_it(tmp_path: Path) -> None:
    def read(path: str) -> bytes:
        raise AssertionError(path)

    (tmp_path / PENDING).mkdir()
    write_chunk(tmp_path, SourceChunk(["photos.zip::a.png"], [SIZE], [0]), read=read, limits=LIMITS)
    assert reasons(tmp_path) == ["too_large"]


def test_autolabel_lists_it_as_unreadable(sparse: Path) -> None:
    read = read_image(str(sparse), size=8, channels=3)
    assert isinstance(read, Unreadable)
    assert read.reason == "too_large"


def test_predict_lists_it_as_unread(sparse: Path) -> None:
    with FilePixels((str(sparse),), 8, as_ingest=False) as files:
        assert not files.gather(np.array([0])).any()
    assert files.unread[0].reason == "too_large"
