"""The space of a run: which images are drawn, and which vectors place them, from a real store."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain import config
from selftrain.adapters.report import space as module
from selftrain.adapters.report.space import TILE, space_of
from selftrain.config import Fixed, Machine, PseudoLabel
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import Dataset
from selftrain.data.store.feature_files import FeatureFiles
from selftrain.data.store.image_store import ImageStore
from selftrain.files.workspace import Workspace
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

RECORD = RunRecord(run_id="r", name="set", status="completed")
NAMES = ("class0", "class1")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Manifest]:
    """20 images of two classes and 30 of the pool: noise of one of two shades."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for index in range(50):
        folder = root / "labeled" / f"class{index % 2}" if index < 20 else root / "pool"
        folder.mkdir(parents=True, exist_ok=True)
        shade = 40 + 120 * (index % 2)
        Image.fromarray((shade + rng.integers(0, 90, (24, 24, 3))).astype(np.uint8)).save(folder / f"{index:02}.png")
    dataset = Dataset(Workspace(root / "workspace"), "set", Machine())
    source = open_source(config.FolderSource(labeled=str(root / "labeled"), unlabeled=str(root / "pool")))
    done = ingest(
        source, source.scan(), dataset.store, settings=config.Ingest(), splitting=config.Splitting(), workers=1
    )
    return dataset, done.manifest


def taught(manifest: Manifest, round_index: int = 1) -> PseudoLabels:
    ids = manifest.part(Split.UNLABELED).table["image_id"].to_pylist()
    probs = np.random.default_rng(round_index).dirichlet([0.3, 0.3], len(ids))
    settings = PseudoLabel(threshold=Fixed(value=0.8))
    return select(ids, probs, settings, round_index=round_index, teacher="t" * 64, class_names=NAMES)


def test_without_a_model_or_kept_features_the_last_teachers_answers_place_the_pool(
    opened: tuple[Dataset, Manifest],
) -> None:
    dataset, manifest = opened
    found = space_of(RECORD, dataset, manifest, [taught(manifest)])
    assert found is not None
    assert set(found.ids) == set(taught(manifest).table["image_id"].to_pylist())
    assert set(found.labels) == {-1}
    assert "these are answers, not features" in found.basis
    assert found.rule == "Drawn are all 30 images of the pool."


def test_a_registry_that_cannot_be_opened_does_not_cost_the_page(opened: tuple[Dataset, Manifest]) -> None:
    dataset, manifest = opened
    lost = RECORD.model_copy(update={"model_uri": "models:/nobody/1"})
    found = space_of(lost, dataset, manifest, [taught(manifest)])
    assert found is not None
    assert "these are answers" in found.basis


def test_kept_features_place_the_pool_and_the_training_images_but_no_image_of_validation_or_test(
    opened: tuple[Dataset, Manifest], tmp_path: Path
) -> None:
    dataset, manifest = opened
    dataset = Dataset(dataset.workspace, dataset.name, dataset.machine)
    ids = manifest.table["image_id"].to_pylist()
    features = np.random.default_rng(0).normal(size=(len(ids), 12)).astype(np.float32)
    folder = dataset.workspace.features_cache
    folder.mkdir(parents=True, exist_ok=True)
    FeatureFiles(folder, 10).keep(f"{'a' * 32}-24-plain", 12, ids, features)
    before = sorted((path.name, path.stat().st_size) for path in folder.iterdir())
    found = space_of(RECORD, dataset, manifest, [taught(manifest)])
    assert found is not None
    assert sorted((path.name, path.stat().st_size) for path in folder.iterdir()) == before
    train = manifest.part(Split.TRAIN)
    assert set(found.ids) == {*taught(manifest).table["image_id"].to_pylist(), *train.table["image_id"].to_pylist()}
    told = dict(zip(found.ids, found.labels, strict=True))
    assert [told[each] for each in train.table["image_id"].to_pylist()] == train.labels().tolist()
    assert "a frozen network" in found.basis
    sheet = Image.open(io.BytesIO(base64.b64decode(found.sprite.split(",")[1])))
    assert sheet.width == found.across * TILE
    shades = np.asarray(sheet.convert("L")).astype(float)
    for place, name in enumerate(found.names):
        top, left = (TILE * each for each in divmod(place, found.across))
        light = shades[top : top + TILE, left : left + TILE].mean() > 140
        assert light == (int(Path(name).stem) % 2 == 1)


def test_of_large_sets_those_with_the_smallest_ids_are_drawn(
    opened: tuple[Dataset, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, manifest = opened
    monkeypatch.setattr(module, "MOST_POOL", 12)
    found = space_of(RECORD, dataset, manifest, [taught(manifest)])
    assert found is not None
    pool = sorted(taught(manifest).table["image_id"].to_pylist())
    assert [each for each, label in zip(found.ids, found.labels, strict=True) if label < 0] == pool[:12]
    assert "12 of 30 images of the pool" in found.rule
    assert found.rule.endswith("by the smallest image ids: a draw by chance.")


def test_a_model_is_asked_about_the_grey_pictures_of_twelve_bits_that_it_was_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("labeled/dark", "labeled/light", "pool"):
        (tmp_path / place).mkdir(parents=True)
        for row in range(12):
            picture = rng.integers(0, 1 << 12, (24, 24), np.uint16)
            Image.fromarray(picture).save(tmp_path / place / f"{row}.png")
    dataset = Dataset(Workspace(tmp_path / "workspace"), "set", Machine())
    source = open_source(config.FolderSource(labeled=str(tmp_path / "labeled"), unlabeled=str(tmp_path / "pool")))
    deep = config.Ingest(bits=12)
    manifest = ingest(source, source.scan(), dataset.store, settings=deep, splitting=config.Splitting()).manifest
    rows = np.arange(len(manifest))
    drawn = module._Drawn(rows[:6], rows[6:], 6, len(rows) - 6)
    asked, trained_on = module._pixels(dataset, manifest, drawn, 24), dataset.pixels(manifest, 24)
    np.testing.assert_array_equal(asked.gather(rows), trained_on.gather(rows))
    assert asked.gather(rows).max() == 255
    assert asked.bits == 12, "features that the run kept are found under them"


def test_of_large_pictures_as_many_are_drawn_as_are_decoded_in_half_a_minute(
    opened: tuple[Dataset, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, manifest = opened
    read: list[int] = []
    monkeypatch.setattr(module, "MOST_SHOWN", 12 * 24 * 24)
    monkeypatch.setattr(type(dataset.store), "read", counted(type(dataset.store).read, read))
    monkeypatch.setattr(module, "_answered", lambda last, drawn: (drawn, np.eye(len(drawn.rows)), "none"))
    found = space_of(RECORD, dataset, manifest, [taught(manifest)])
    assert found is not None
    assert (len(found.ids), sum(label >= 0 for label in found.labels)) == (12, 4)
    assert "Drawn are 8 of 30 images of the pool and 4 of" in found.rule
    assert read == [1] * 12, "never are two files in memory"


def counted(read: Callable[..., list[bytes]], sizes: list[int]) -> Callable[..., list[bytes]]:
    def counting(store: ImageStore, shard: Sequence[str], index: np.ndarray) -> list[bytes]:
        sizes.append(len(index))
        return read(store, shard, index)

    return counting


def test_without_pseudo_labels_there_is_no_space(opened: tuple[Dataset, Manifest]) -> None:
    dataset, manifest = opened
    assert space_of(RECORD, dataset, manifest, []) is None
