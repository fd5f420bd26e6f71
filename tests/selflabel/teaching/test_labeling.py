"""Labelling the pool: the validation images are asked alike, and what is accepted is measured on their labels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from selftrain.config import Fixed, PseudoLabel, TargetPrecision
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest
from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import PredictionError
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.selflabel.graph.spaces import NetworkSpace
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.asked import asked_rows
from selftrain.selflabel.teaching.labeling import join, label_shard

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

NAMES = ("blue", "green", "red")


def painted(*, validation: int, pool: int, wrong: int = 0) -> tuple[Manifest, ArrayPixels]:
    """6 training, `validation` and `pool` images of the three colours in turn; `wrong` of the labels held out lie.

    Any part is as bright, and so as easy, as the others.
    """
    total = 6 + validation + pool
    number = np.arange(total)
    colour = number % 3
    images = np.random.default_rng(0).integers(0, 60, (total, 16, 16, 3), np.uint8)
    brightness = np.random.default_rng(1).permutation(np.linspace(10, 190, total)).astype(np.uint8)
    images[number, :, :, 2 - colour] += brightness[:, None, None]
    split = np.repeat(["train", "validation", "unlabeled"], [6, validation, pool])
    human = split != "unlabeled"
    label = np.where((number >= 6) & (number < 6 + wrong), (colour + 1) % 3, colour)
    table = pa.table(
        {
            "image_id": [f"{each:064x}" for each in number],
            "shard": ["s"] * total,
            "index": number.astype(np.int32),
            "origin": [f"{each}.png" for each in number],
            "width": np.full(total, 16, np.int32),
            "height": np.full(total, 16, np.int32),
            "phash": number.astype(np.uint64),
            "split": split,
            "label": pa.array(label.astype(np.int32), mask=~human),
            "label_source": pa.array(np.where(human, "human", ""), mask=~human),
            "weight": np.ones(total, np.float32),
        }
    )
    return Manifest.build(table, LabelMap(NAMES)), ArrayPixels(images)


def shards_of(
    manifest: Manifest, pixels: ArrayPixels, teacher: SavedModel, settings: PseudoLabel, parts: int = 1
) -> list[pa.Table]:
    """The teacher's answers for validation and the pool, in `parts` shards."""
    rows = asked_rows(manifest, settings)
    return [label_shard(pixels, teacher, some, settings=settings) for some in np.array_split(rows, parts)]


def label_pool(
    manifest: Manifest, pixels: ArrayPixels, teacher: SavedModel, *, settings: PseudoLabel, round_index: int
) -> PseudoLabels:
    shards = shards_of(manifest, pixels, teacher, settings)
    return join(manifest, teacher, shards, settings=settings, round_index=round_index)


@pytest.mark.parametrize("parts", [2, 7])
def test_shards_in_any_order_make_the_pseudo_labels_that_one_makes(colour_model: Path, parts: int) -> None:
    manifest, pixels = painted(validation=30, pool=41)
    teacher, settings = SavedModel.read(colour_model), PseudoLabel(threshold=TargetPrecision(target=0.9))
    whole = label_pool(manifest, pixels, teacher, settings=settings, round_index=1)
    shards = shards_of(manifest, pixels, teacher, settings, parts)
    joined = join(manifest, teacher, shards[::-1], settings=settings, round_index=1)
    assert joined.table.drop_columns(["probs"]).equals(whole.table.drop_columns(["probs"]))
    assert joined.digest == whole.digest


def test_a_shard_that_is_missing_or_there_twice_is_refused(colour_model: Path) -> None:
    manifest, pixels = painted(validation=30, pool=30)
    teacher, settings = SavedModel.read(colour_model), PseudoLabel()
    one, other = shards_of(manifest, pixels, teacher, settings, 2)
    for shards in ([], [one], [one, other, other]):
        with pytest.raises(PredictionError, match="answers for 60 images: each image needs one"):
            join(manifest, teacher, shards, settings=settings, round_index=1)


def test_a_shard_of_another_number_of_classes_is_refused(colour_model: Path) -> None:
    """Cut into rows of three, six logits per image would answer for two images each."""
    manifest, pixels = painted(validation=30, pool=30)
    teacher, settings = SavedModel.read(colour_model), PseudoLabel()
    (shard,) = shards_of(manifest, pixels, teacher, settings)
    twice = np.asarray(shard["logits"].combine_chunks().flatten()).reshape(-1, 3).repeat(2, axis=1)
    wide = pa.table({"row": shard["row"], "logits": pa.FixedSizeListArray.from_arrays(twice.reshape(-1), 6)})
    with pytest.raises(PredictionError, match="a shard has 6 logits per image, not 3"):
        join(manifest, teacher, [wide], settings=settings, round_index=1)


def test_what_is_accepted_is_measured_on_the_validation_images(colour_model: Path) -> None:
    manifest, pixels = painted(validation=60, pool=90, wrong=6)
    settings = PseudoLabel(threshold=Fixed(value=0.4))
    labels = label_pool(manifest, pixels, SavedModel.read(colour_model), settings=settings, round_index=1)
    assert len(labels) == 90
    assert labels.teacher == SavedModel.read(colour_model).contract.identity
    assert labels.table["label"].to_pylist() == [index % 3 for index in range(66, 156)]
    assert labels.measured is not None
    assert labels.curve is not None
    assert labels.curve.held_out == 60
    assert labels.measured.images - labels.measured.right <= 6
    assert labels.curve.right[-1] <= 54


def test_labels_name_the_teachers_of_their_teacher(colour_model: Path, tmp_path: Path) -> None:
    model, contract = load(colour_model)
    taught = save(model, contract.model_copy(update={"lineage": ("first",)}), tmp_path / "taught")
    manifest, pixels = painted(validation=0, pool=3)
    assert label_pool(manifest, pixels, taught, settings=PseudoLabel(), round_index=2).lineage == ("first",)


def test_wrong_labels_lower_the_confidence_of_the_pool(colour_model: Path) -> None:
    teacher = SavedModel.read(colour_model)
    confidence = []
    for wrong in (0, 20):
        manifest, pixels = painted(validation=60, pool=30, wrong=wrong)
        labels = label_pool(manifest, pixels, teacher, settings=PseudoLabel(), round_index=1)
        confidence.append(float(labels.table["confidence"].to_numpy().mean()))
    assert confidence[1] < confidence[0] - 0.01


def test_a_target_precision_and_its_alternatives_run_on_the_validation_images(colour_model: Path) -> None:
    manifest, pixels = painted(validation=60, pool=90)
    threshold = TargetPrecision(target=0.9)
    settings = PseudoLabel(threshold=threshold, align="labeled_prior", weight="precision", flips=True)
    labels = label_pool(manifest, pixels, SavedModel.read(colour_model), settings=settings, round_index=1)
    assert labels.accepted.num_rows > 60
    assert labels.findings == ("all classes share a threshold, measured on their 60 held-out predictions together",)
    assert set(labels.accepted["weight"].to_pylist()) == {1.0}


def test_without_validation_images_the_pool_is_labelled_and_nothing_measured(colour_model: Path) -> None:
    manifest, pixels = painted(validation=0, pool=9)
    labels = label_pool(manifest, pixels, SavedModel.read(colour_model), settings=PseudoLabel(), round_index=1)
    assert (len(labels), labels.measured, labels.curve) == (9, None, None)


def test_labels_are_spread_over_similar_images_and_the_reader_is_told(colour_model: Path) -> None:
    manifest, pixels = painted(validation=30, pool=60)
    teacher = SavedModel.read(colour_model)
    alone = label_pool(manifest, pixels, teacher, settings=PseudoLabel(), round_index=1)
    spread = label_pool(manifest, pixels, teacher, settings=PseudoLabel(labeler="propagate"), round_index=1)
    colours = np.arange(60) % 3
    right = [float((each.probs().argmax(axis=1) == colours).mean()) for each in (alone, spread)]
    assert right[1] >= right[0] - 0.05
    assert any("similar images" in each for each in spread.findings)
    assert not any("similar images" in each for each in alone.findings)


@pytest.mark.parametrize("parts", [2, 5])
def test_spread_labels_are_the_same_from_any_shards(colour_model: Path, parts: int) -> None:
    manifest, pixels = painted(validation=30, pool=41)
    teacher, settings = SavedModel.read(colour_model), PseudoLabel(labeler="propagate")
    whole = label_pool(manifest, pixels, teacher, settings=settings, round_index=1)
    shards = shards_of(manifest, pixels, teacher, settings, parts)[::-1]
    joined = join(manifest, teacher, shards, settings=settings, round_index=1)
    np.testing.assert_allclose(joined.probs(), whole.probs(), atol=1e-4)


BACKBONE = "wide_resnet_16_1"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> NetworkSpace:
    """A space of a network whose weights lie in a file."""
    from selftrain.learn.networks.backbones import build, save_weights

    path = tmp_path_factory.mktemp("published") / "own.weights.h5"
    save_weights(build(BACKBONE, image_size=16, classes=3, seed=4), path)
    return NetworkSpace(name="the student's network", backbone=BACKBONE, weights=str(path), image_size=16)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("flips", [False, True])
def test_each_space_has_a_column_with_the_features_of_its_network(
    colour_model: Path, published: NetworkSpace, parts: int, flips: bool
) -> None:
    from selftrain.learn.models.features import features
    from selftrain.learn.networks.backbones import build

    _, pixels = painted(validation=30, pool=30)
    settings, rows = PseudoLabel(labeler="propagate", flips=flips), np.arange(66)
    split = np.array_split(rows, parts)
    spaces = {published: pixels}
    table = label_shard(pixels, SavedModel.read(colour_model), *split, settings=settings, spaces=spaces)
    assert table.column_names == ["row", "logits", "features", "features of the student's network"]
    network = build(BACKBONE, image_size=16, classes=2, weights=published.weights)
    views = [features(network, ArrayPixels(pixels.array[:, :, ::step]), rows) for step in ((1, -1) if flips else (1,))]
    found = np.asarray(table.column(3).combine_chunks().flatten()).reshape(66, -1)
    np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-4)


def test_a_space_of_the_teachers_own_network_is_no_further_one(published: NetworkSpace, tmp_path: Path) -> None:
    from selftrain.learn.models.contract import Contract
    from selftrain.learn.networks.backbones import build

    _, pixels = painted(validation=30, pool=30)
    own = build(BACKBONE, image_size=16, classes=3, weights=published.weights)
    teacher = save(own, Contract(backbone=BACKBONE, image_size=16, class_names=NAMES), tmp_path / "teacher")
    settings = PseudoLabel(labeler="propagate")
    table = label_shard(pixels, teacher, np.arange(66), settings=settings, spaces={published: pixels})
    assert table.column_names == ["row", "logits", "features"]


def test_labels_are_spread_in_all_spaces_and_the_reader_is_told_which_count(
    colour_model: Path, published: NetworkSpace
) -> None:
    manifest, pixels = painted(validation=30, pool=60)
    teacher, settings = SavedModel.read(colour_model), PseudoLabel(labeler="propagate")
    rows, spaces = asked_rows(manifest, settings), {published: pixels}
    shards = [label_shard(pixels, teacher, some, settings=settings, spaces=spaces) for some in np.array_split(rows, 3)]
    labels = join(manifest, teacher, shards[::-1], settings=settings, round_index=1)
    assert (labels.probs().argmax(axis=1) == np.arange(60) % 3).mean() > 0.9
    (finding,) = [each for each in labels.findings if "similar images" in each]
    assert "the teacher's features: " in finding or "did not help" in finding


def test_shards_with_other_spaces_are_refused(colour_model: Path, published: NetworkSpace) -> None:
    manifest, pixels = painted(validation=30, pool=30)
    teacher, settings = SavedModel.read(colour_model), PseudoLabel(labeler="propagate")
    halves = np.array_split(asked_rows(manifest, settings), 2)
    one = label_shard(pixels, teacher, halves[0], settings=settings, spaces={published: pixels})
    other = label_shard(pixels, teacher, halves[1], settings=settings)
    for shards in ([one, other], [other, one]):
        with pytest.raises(PredictionError, match="the shards have different columns"):
            join(manifest, teacher, shards, settings=settings, round_index=1)
