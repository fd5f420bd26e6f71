"""Sets of grey pictures that fill some of 16 bits: from `init` through the store to the pixels that are trained on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain import config
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.sources.survey import survey
from selftrain.data.store.dataset import Dataset
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.pixels import decoded
from selftrain.errors import ConfigError, SourceError
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import Contract
from selftrain.scaffold.choices import choose
from selftrain.scaffold.draft import Wishes
from selftrain.selflabel.teaching.task import TaskData


def painted(root: Path, *, bits: int, count: int = 16) -> config.FolderSource:
    """Grey pictures of 16 bits that fill `bits`, in class folders and a pool; each is another."""
    for place, row in [(place, row) for place in ("labeled/dark", "labeled/light", "pool") for row in range(count)]:
        noise = np.random.default_rng([row, len(place)]).integers(0, 1 << 15, (24, 24), np.uint16)
        bright = noise + np.uint16(32767 if place.endswith("light") else 0)
        bright[0, 0] = 65535
        path = root / place / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(bright >> np.uint16(16 - bits)).save(path)
    return config.FolderSource(labeled=str(root / "labeled"), unlabeled=str(root / "pool"))


def taken(source: config.FolderSource, store: ImageStore, bits: int | None) -> IngestResult:
    opened = open_source(source)
    settings = config.Ingest.model_validate({"bits": bits})
    return ingest(opened, opened.scan(), store, settings=settings, splitting=config.Splitting())


@pytest.mark.parametrize(
    ("bits", "chosen"), [(8, 8), (9, 10), (10, 10), (12, 12), (13, 14), (14, 14), (15, None), (16, None)]
)
def test_init_chooses_the_bits_that_the_brightest_picture_fills(tmp_path: Path, bits: int, chosen: int | None) -> None:
    source = painted(tmp_path, bits=bits)
    seen = survey(source)
    assert (seen.bits, [note for note in seen.notes if "shallow" in note]) == (chosen, [])
    assert choose(source, seen, Wishes()).experiment.ingest.bits == chosen


def test_one_dark_picture_among_full_ones_is_not_a_matter_of_the_set(tmp_path: Path) -> None:
    source = painted(tmp_path, bits=16)
    Image.fromarray(np.full((24, 24), 900, np.uint16)).save(tmp_path / "pool" / "dark.png")
    assert survey(source).bits is None


def test_pixels_of_twelve_bits_are_those_of_sixteen(tmp_path: Path) -> None:
    images = {}
    for bits, said in ((16, None), (12, 12)):
        store = ImageStore(tmp_path / f"store{bits}")
        done = taken(painted(tmp_path / f"{bits}", bits=bits), store, said)
        assert (done.quarantine.num_rows, done.manifest.bits) == (0, said)
        by_place = np.argsort([origin.rpartition("/")[0][-4:] + origin for origin in names(done.manifest, tmp_path)])
        pixels = decoded(done.manifest, store, 16, cache_dir=tmp_path / "cache", budget_mb=100)
        images[bits] = pixels.gather(by_place)
        on_demand = decoded(done.manifest, store, 16, cache_dir=tmp_path / "cache", budget_mb=0)
        np.testing.assert_array_equal(on_demand.gather(by_place), images[bits])
    np.testing.assert_array_equal(images[12], images[16])
    assert images[12].max() == 255


def names(manifest: Manifest, root: Path) -> list[str]:
    return ["/".join(Path(origin).relative_to(root).parts[1:]) for origin in manifest.table["origin"].to_pylist()]


def test_other_bits_read_the_files_again_and_are_another_data_set(tmp_path: Path) -> None:
    source, store = painted(tmp_path, bits=12), ImageStore(tmp_path / "store")
    with pytest.raises(SourceError, match="48 of 48 source files cannot be used: 48 shallow; see"):
        taken(source, store, None)
    first, again, deeper = (taken(source, store, bits) for bits in (12, 12, 14))
    assert (first.files_read, again.files_read, deeper.files_read) == (48, 0, 48)
    assert first.manifest.digest == again.manifest.digest != deeper.manifest.digest
    bright = [
        decoded(each.manifest, store, 24, cache_dir=tmp_path / "cache", budget_mb=100).gather(np.arange(48)).max()
        for each in (first, deeper)
    ]
    assert bright == [255, 63]
    with pytest.raises(SourceError, match="48 too_deep"):
        taken(source, store, 10)


def test_a_manifest_keeps_its_bits(tmp_path: Path) -> None:
    done = taken(painted(tmp_path, bits=12), ImageStore(tmp_path / "store"), 12)
    done.manifest.write(tmp_path / "written.parquet")
    read = Manifest.read(tmp_path / "written.parquet")
    assert (read.bits, read.digest) == (12, done.manifest.digest)
    pool = read.part(Split.UNLABELED)
    assert (read.part(Split.TRAIN).bits, pool.bits) == (12, 12)
    labelled = read.with_pseudo_labels(
        pool.table["image_id"],
        labels=np.zeros(len(pool), np.int64),
        confidence=np.ones(len(pool), np.float32),
        probs=None,
        weight=1.0,
        round=1,
        teacher="t",
    )
    assert (labelled.bits, labelled.without_pseudo_labels().bits) == (12, 12)


def test_a_model_is_shown_the_pictures_by_the_bits_that_it_was_trained_with(tmp_path: Path) -> None:
    """A champion of 12 bits is not asked about a quarter of the light once the set has 14."""
    dataset = Dataset(Workspace(tmp_path / "workspace"), "set", config.Machine())
    source = painted(tmp_path, bits=12)
    seen = {}
    for bits in (12, 14):
        manifest = taken(source, dataset.store, bits).manifest
        contract = Contract(class_names=("dark", "light"), backbone="tiny", image_size=24, bits=12)
        seen[bits] = TaskData(manifest, dataset).pixels_for(contract).gather(np.arange(len(manifest)))
    np.testing.assert_array_equal(seen[14], seen[12])
    assert seen[14].max() == 255


def test_a_detector_has_no_bits() -> None:
    source = {"kind": "coco", "annotations": "a.json", "images": "i", "unlabeled": "u"}
    with pytest.raises(ConfigError, match=r"ingest\.bits is for classification"):
        config.parse({"task": "detection", "source": source, "ingest": {"bits": 12}})
