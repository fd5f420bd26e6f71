import shutil
from pathlib import Path

import numpy as np
import pytest

from selftrain import config
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import ManifestError


def filled(folders: Path, name: str = "store") -> tuple[ImageStore, IngestResult]:
    source = open_source(config.FolderSource(labeled=str(folders / "labeled"), unlabeled=str(folders / "unlabeled")))
    store = ImageStore(folders / name)
    return store, ingest(source, source.scan(), store, settings=config.Ingest(), splitting=config.Splitting())


def test_the_id_is_there_before_the_first_ingest_and_stays(folders: Path) -> None:
    before = ImageStore(folders / "store").id()
    store, _ = filled(folders)
    assert store.id() == before
    filled(folders)
    assert store.id() == before


def test_another_store_has_another_id(folders: Path) -> None:
    assert ImageStore(folders / "one").id() != ImageStore(folders / "two").id()


@pytest.mark.parametrize("pattern", ["shards/*.arrayrecord", "shards/*.npy", "manifest.parquet", "index.parquet"])
def test_a_store_that_lost_a_file_gets_a_new_id_and_is_made_whole(folders: Path, pattern: str) -> None:
    store, done = filled(folders)
    before = store.id()
    next(store.root.glob(pattern)).unlink()
    assert store.id() != before
    assert filled(folders)[1].manifest.digest == done.manifest.digest


def test_a_wiped_store_is_filled_again(folders: Path) -> None:
    store, done = filled(folders)
    before = store.id()
    shutil.rmtree(store.root)
    assert store.id() != before
    _, again = filled(folders)
    assert (again.files_read, again.manifest.digest) == (34, done.manifest.digest)


def test_a_store_taken_back_to_an_older_version_gets_a_new_id(folders: Path, draw) -> None:
    store, _ = filled(folders)
    shutil.copytree(store.root, folders / "older")
    draw(folders / "unlabeled/new.png", seed=800)
    filled(folders)
    before = store.id()
    shutil.rmtree(store.root)
    (folders / "older").rename(store.root)
    assert store.id() != before


def test_a_truncated_shard_is_read_again_from_the_source(folders: Path) -> None:
    store, done = filled(folders)
    shard = next(store.shards.glob("*.arrayrecord"))
    shard.write_bytes(shard.read_bytes()[:100])
    _, again = filled(folders)
    assert (again.files_read, again.manifest.digest) == (34, done.manifest.digest)


def test_a_damaged_index_is_made_again(folders: Path) -> None:
    store, done = filled(folders)
    store.index_path.write_bytes(b"PAR1 cut")
    _, again = filled(folders)
    assert (again.files_read, again.manifest.digest) == (34, done.manifest.digest)


def test_images_are_read_in_the_order_asked_for(folders: Path) -> None:
    store, done = filled(folders)
    table = done.manifest.table.take([5, 2, 9, 2])
    images = store.read(table["shard"].to_pylist(), table["index"].to_numpy())
    assert images == [Path(origin).read_bytes() for origin in table["origin"].to_pylist()]
    assert store.gray(table["shard"].to_pylist(), table["index"].to_numpy()).shape == (4, 32, 32)


def test_a_missing_shard_is_named(folders: Path) -> None:
    store, done = filled(folders)
    with pytest.raises(ManifestError, match=r"gone\.arrayrecord.*missing.*dvc pull"):
        store.read(["gone.arrayrecord"], np.array([0]))
    with pytest.raises(ManifestError, match="damaged"):
        store.read(done.manifest.table["shard"].to_pylist()[:1], np.array([99]))
