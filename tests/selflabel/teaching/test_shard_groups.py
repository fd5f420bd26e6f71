"""Shard groups: however the pool is divided, its pseudo-labels are those of one step, and a group is asked once."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from selftrain.config import Machine, Place, PseudoLabel, Quantile
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset, open_dataset
from selftrain.data.store.shards import create_shard
from selftrain.errors import ManifestError, PredictionError
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.shard_groups import (
    GroupAnswers,
    asking,
    images_of,
    join_groups,
    label_group,
    named,
    shard_groups,
)
from selftrain.selflabel.teaching.task import TaskData, label_pool, task_of

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
NAMES = ("blue", "green", "red")
SETTINGS = PseudoLabel(threshold=Quantile(start=0.5), max_per_class=40, batch_size=64)
TASK = task_of("classification")


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 90, (16, 16, 3), np.uint8)
    pixels[..., 2 - number % 3] += np.uint8(20 + number % 120)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def stored(dataset: Dataset, sizes: dict[str, int]) -> Manifest:
    """A manifest of images in shards of these sizes, really written; one in ten is for validation, one for training."""
    rows: list[dict[str, object]] = []
    for shard, size in sizes.items():
        path = dataset.store.shards / f"{shard}.arrayrecord"
        writer = create_shard(path)
        for index in range(size):
            number = 10_000 * (ord(shard) - ord("a")) + index
            writer.write(png(number))
            kind = {0: "train", 1: "validation"}.get(index % 10, "unlabeled")
            human = kind != "unlabeled"
            rows.append(
                {
                    "image_id": f"{number * 7919 % 1_000_003:064x}",
                    "shard": path.name,
                    "index": index,
                    "origin": str(number),
                    "width": 16,
                    "height": 16,
                    "phash": number,
                    "split": kind,
                    "label": number % 3 if human else None,
                    "label_source": "human" if human else None,
                    "weight": 1.0,
                }
            )
        writer.close()
    return Manifest.build(pa.Table.from_pylist(rows), LabelMap(NAMES))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(Place(workspace=str(tmp_path / "ws")), Machine(decoded_mb=0, workers=1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A convolutional network, whose last bits could depend on the batch."""
    from selftrain.learn.models.saving import save
    from selftrain.learn.networks.backbones import build

    model = build("wide_resnet_16_1", image_size=16, classes=3)
    contract = Contract(backbone="wide_resnet_16_1", image_size=16, class_names=NAMES)
    return save(model, contract, tmp_path_factory.mktemp("teacher") / "model")


def answers_of(dataset: Dataset, manifest: Manifest, teacher: SavedModel, size: int) -> list[GroupAnswers]:
    return [
        label_group(TASK, TaskData(images_of(manifest, group, SETTINGS), dataset), teacher, settings=asking(SETTINGS))
        for group in shard_groups(manifest, size, SETTINGS)
    ]


def joined(dataset: Dataset, manifest: Manifest, teacher: SavedModel, answers: list[GroupAnswers]) -> PseudoLabels:
    return join_groups(TASK, TaskData(manifest, dataset), teacher, answers, settings=SETTINGS, round_index=1)


def test_one_and_many_groups_make_the_very_pseudo_labels_of_one_step(dataset: Dataset, teacher: SavedModel) -> None:
    manifest = stored(dataset, {"a": 150, "b": 3, "c": 70, "d": 33})
    whole = label_pool(TASK, TaskData(manifest, dataset), teacher, settings=SETTINGS, round_index=1)
    assert 0 < np.count_nonzero(whole.table["accepted"].to_numpy()) < len(whole)
    for size, count in ((4, 1), (3, 2), (1, 4)):
        answers = answers_of(dataset, manifest, teacher, size)
        assert len(answers) == count
        assert joined(dataset, manifest, teacher, answers[::-1]).digest == whole.digest


def test_a_pool_that_grew_by_a_shard_has_its_old_groups_and_their_answers_still_serve(
    dataset: Dataset, teacher: SavedModel
) -> None:
    before = stored(dataset, {"b": 40, "c": 20})
    kept = dict(zip(shard_groups(before, 1, SETTINGS), answers_of(dataset, before, teacher, 1), strict=True))
    after = stored(dataset, {"a": 30, "b": 40, "c": 20})
    new = [group for group in shard_groups(after, 1, SETTINGS) if group not in kept]
    assert [group.shards for group in new] == [("a.arrayrecord",)]
    data = TaskData(images_of(after, new[0], SETTINGS), dataset)
    answers = [*kept.values(), label_group(TASK, data, teacher, settings=asking(SETTINGS))]
    whole = label_pool(TASK, TaskData(after, dataset), teacher, settings=SETTINGS, round_index=1)
    assert joined(dataset, after, teacher, answers).digest == whole.digest


def test_an_image_that_was_labelled_since_makes_its_group_another_one(dataset: Dataset) -> None:
    before = stored(dataset, {"a": 30, "b": 30})
    rows = before.rows(Split.UNLABELED)
    moved = before.with_pseudo_labels(
        before.image_ids()[rows[:1]],
        labels=np.array([0]),
        confidence=np.array([0.9]),
        probs=None,
        weight=1.0,
        round=1,
        teacher="t",
    )
    first, second = shard_groups(before, 1, SETTINGS), shard_groups(moved, 1, SETTINGS)
    assert len(set(first) - set(second)) == 1
    (changed,) = set(first) - set(second)
    with pytest.raises(PredictionError, match="hold other images than their group names"):
        images_of(moved, changed, SETTINGS)


def test_without_a_size_or_without_images_to_label_there_is_no_group(dataset: Dataset) -> None:
    manifest = stored(dataset, {"a": 20})
    assert shard_groups(manifest, None, SETTINGS) == ()
    assert shard_groups(manifest.part(Split.TRAIN), 1, SETTINGS) == ()


def test_another_threshold_asks_no_group_again_but_another_batch_size_does() -> None:
    assert asking(SETTINGS) == asking(SETTINGS.model_copy(update={"threshold": Quantile(start=0.1)}))
    assert asking(SETTINGS) != asking(SETTINGS.model_copy(update={"batch_size": 32}))


def test_answers_survive_a_file_with_their_digest(dataset: Dataset, teacher: SavedModel, tmp_path: Path) -> None:
    manifest = stored(dataset, {"a": 20, "b": 20})
    one, other = answers_of(dataset, manifest, teacher, 1)
    one.write(tmp_path / "answers.parquet")
    assert GroupAnswers.read(tmp_path / "answers.parquet").digest == one.digest != other.digest


def test_a_group_that_is_missing_or_of_another_pool_is_refused_by_the_join(
    dataset: Dataset, teacher: SavedModel
) -> None:
    manifest = stored(dataset, {"a": 20, "b": 20})
    answers = answers_of(dataset, manifest, teacher, 1)
    with pytest.raises(PredictionError, match="each image needs one"):
        joined(dataset, manifest, teacher, answers[:1])
    smaller = stored(dataset, {"a": 20})
    with pytest.raises(PredictionError, match="answers are for images that the manifest lacks"):
        joined(dataset, smaller, teacher, answers)


def test_a_group_whose_shard_cannot_be_read_is_named(dataset: Dataset, teacher: SavedModel) -> None:
    manifest = stored(dataset, {"a": 20, "b": 20})
    group = shard_groups(manifest, 1, SETTINGS)[1]
    (dataset.store.shards / "b.arrayrecord").unlink()
    data = TaskData(images_of(manifest, group, SETTINGS), dataset)
    with pytest.raises(ManifestError, match=r"shards b\.arrayrecord were not labelled: .*missing"), named(group):
        label_group(TASK, data, teacher, settings=asking(SETTINGS))
