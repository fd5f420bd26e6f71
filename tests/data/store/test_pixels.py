import os
from pathlib import Path

import numpy as np
import pytest

from selftrain import config
from selftrain.data.images.decode import decode
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.decoded_files import prune
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.pixels import ArrayPixels, Pixels, decoded
from selftrain.errors import ManifestError

DIGITS = open_source(config.DigitsSource())


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, ImageStore]:
    store = ImageStore(tmp_path_factory.mktemp("digits") / "store")
    done = ingest(DIGITS, DIGITS.scan(), store, settings=config.Ingest(), splitting=config.Splitting())
    return done.manifest, store


def pixels(digits: tuple[Manifest, ImageStore], folder: Path, **options: int) -> Pixels:
    return decoded(*digits, 20, cache_dir=folder, **({"budget_mb": 100} | options))


def test_pixels_lie_in_the_order_of_the_manifest(digits: tuple[Manifest, ImageStore], tmp_path: Path) -> None:
    made = pixels(digits, tmp_path)
    rows = np.array([1700, 3, 3, 900])
    origins = digits[0].table["origin"].take(rows).to_pylist()
    assert (len(made), made.size) == (1797, 20)
    np.testing.assert_array_equal(made.gather(rows), [decode(DIGITS.read(origin), 20) for origin in origins])


def test_over_the_budget_they_are_decoded_on_demand_and_are_the_same(
    digits: tuple[Manifest, ImageStore], tmp_path: Path
) -> None:
    streamed = pixels(digits, tmp_path, budget_mb=0)
    assert list(tmp_path.iterdir()) == []
    rows = np.random.default_rng(0).permutation(1797)[:300]
    np.testing.assert_array_equal(streamed.gather(rows), pixels(digits, tmp_path).gather(rows))


def test_processes_decode_the_same_pixels(digits: tuple[Manifest, ImageStore], tmp_path: Path) -> None:
    one = pixels(digits, tmp_path / "one", workers=1)
    two = pixels(digits, tmp_path / "two", workers=2, alone_up_to=0)
    np.testing.assert_array_equal(one.gather(np.arange(1797)), two.gather(np.arange(1797)))


def test_pseudo_labels_use_the_same_file(digits: tuple[Manifest, ImageStore], tmp_path: Path) -> None:
    pixels(digits, tmp_path)
    before = [(path.name, path.stat().st_ino) for path in tmp_path.iterdir()]
    manifest, store = digits
    rows = manifest.rows(Split.UNLABELED)[:4]
    labeled = manifest.with_pseudo_labels(
        manifest.image_ids()[rows],
        labels=np.zeros(4, np.int32),
        confidence=np.full(4, 0.9, np.float32),
        probs=np.full((4, 10), 0.1, np.float16),
        weight=np.ones(4, np.float32),
        round=1,
        teacher="t",
    )
    pixels((labeled, store), tmp_path)
    assert [(path.name, path.stat().st_ino) for path in tmp_path.iterdir()] == before


def test_a_file_is_marked_as_used_and_made_again_once_it_was_removed(
    digits: tuple[Manifest, ImageStore], tmp_path: Path
) -> None:
    first = pixels(digits, tmp_path)
    (file,) = tmp_path.iterdir()
    os.utime(file, (0, 0))
    pixels(digits, tmp_path)
    assert file.stat().st_mtime > 1e9
    prune(tmp_path, budget_mb=2)
    assert list(tmp_path.iterdir()) == []
    rows = np.arange(1797)
    np.testing.assert_array_equal(first.gather(rows), pixels(digits, tmp_path).gather(rows))


def test_a_failed_decoding_leaves_no_file(digits: tuple[Manifest, ImageStore], tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="missing"):
        pixels((digits[0], ImageStore(tmp_path / "elsewhere")), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_array_pixels_give_memory_of_their_own() -> None:
    array = np.zeros((3, 4, 4, 3), np.uint8)
    got = ArrayPixels(array).gather(np.array([2, 0]))
    got += 1
    assert array.max() == 0
