"""Students of a round: what they learn from, and whom they name as their teachers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from selftrain.config import Consistency, DigitsSource, Experiment, Fixed, Gate, PseudoLabel, Student
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import ConfigError, ManifestError, UntrustedFileError
from selftrain.learn.models import divergence
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.rounds.plan import Plan
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.teaching.task import Destination

if TYPE_CHECKING:
    from selftrain.learn.models.contract import Contract, SavedModel

STEPS, BATCH, MU = 2, 4, 2
STRIDED = "efficientnet_b0_050"  # a network whose strides can be fewer
TOO_FAST: dict[str, Any] = {"learning_rate": 1e30, "warmup": 0.0}

pytestmark = [
    pytest.mark.keras,
    # Keras warns that fit does not shuffle a Grain pipeline: it is shuffled by us.
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


def plan_of(steps: int, backbone: str, **recipe: Any) -> Plan:
    """The plan of round 1, without what a round would change in the recipe."""
    of_steps = {"batch_size": BATCH, "validate_every": steps} if steps else {}
    student = Student(augmentation="digits", steps=steps, **of_steps, **recipe)
    return Plan(task="classification", index=1, teacher=0, recipe=student, backbone=backbone, image_size=16, seed=1)


@dataclass(frozen=True)
class Round:
    """Digits, the pool of which was labelled by lot."""

    e: Experiment
    manifest: Manifest
    labels: PseudoLabels

    def student(
        self,
        labels: PseudoLabels,
        folder: Path,
        *,
        steps: int = STEPS,
        teacher: SavedModel | None = None,
        backbone: str = "wide_resnet_16_1",  # the one that is traced fastest
        churn_images: int = 2048,
        **recipe: Any,
    ) -> SavedModel:
        """A student of `labels`."""
        from selftrain.selflabel.teaching.training import train_student

        return train_student(
            self.manifest,
            labels,
            open_dataset(self.e.place, self.e.machine).pixels(self.manifest, 16),
            plan_of(steps, backbone, **recipe),
            teacher=teacher,
            into=Destination(folder / "model", Checkpoints(folder / "checkpoints")),
            churn_images=churn_images,
        )

    def turned(self, student: SavedModel) -> float:
        """The share of the pool that on which `student` disagrees with the labels."""
        from selftrain.learn.models.loading import load
        from selftrain.learn.models.predict import predict_logits

        pixels = open_dataset(self.e.place, self.e.machine).pixels(self.manifest, 16)
        logits = predict_logits(load(student.folder)[0], pixels, self.manifest.rows(Split.UNLABELED))
        return float(np.mean(logits.argmax(axis=1) != self.labels.table["label"].to_numpy()))

    def taught(self, labels: PseudoLabels, folder: Path, **recipe: Any) -> Contract:
        """The contract of a student of `labels`."""
        return self.student(labels, folder, **recipe).contract


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Round:
    workspace = tmp_path_factory.mktemp("digits")
    e = Experiment(source=DigitsSource(labeled=40, validation=30, test=30), workspace=str(workspace))
    source, store = open_source(e.source), open_dataset(e.place).store
    manifest = ingest(source, source.scan(), store, settings=e.ingest, splitting=e.splitting).manifest
    pool = manifest.rows(Split.UNLABELED)
    probs = np.random.default_rng(0).dirichlet(np.full(10, 0.2), len(pool)).astype(np.float32)
    settings, names = PseudoLabel(threshold=Fixed(value=None)), manifest.label_map.names
    labels = select(manifest.image_ids()[pool], probs, settings, round_index=1, teacher="lot", class_names=names)
    return Round(e, manifest, replace(labels, lineage=("chance",)))


def test_a_student_in_training_takes_the_pool_itself_and_no_pseudo_label(digits: Round, tmp_path: Path) -> None:
    assert digits.labels.applied_to(digits.manifest).digest != digits.manifest.digest
    contract = digits.taught(
        digits.labels, tmp_path, method="softmatch", consistency=Consistency(mu=MU), churn_images=8
    )
    assert contract.manifest_digest == digits.manifest.digest
    assert contract.thresholds == {}
    assert contract.lineage == ()
    assert contract.image_steps == STEPS * BATCH * (1 + 2 * MU)
    assert contract.churn is not None
    assert (8 * contract.churn).is_integer()  # of a sample of 8


def test_a_student_of_pseudo_labels_names_its_teacher_and_that_ones_teachers(digits: Round, tmp_path: Path) -> None:
    student = digits.student(digits.labels, tmp_path)
    contract = student.contract
    assert divergence.reason(student) is None
    assert contract.lineage == ("chance", "lot")
    assert contract.manifest_digest == digits.labels.applied_to(digits.manifest).digest
    assert contract.churn == digits.turned(student)
    told = contract.model_copy(update={"churn": None})
    assert replace(student, contract=told).digest == student.digest


def test_a_student_that_no_label_was_sure_enough_for_has_no_teacher(digits: Round, tmp_path: Path) -> None:
    table = digits.labels.table
    unsure = replace(digits.labels, table=table.set_column(4, table.schema.field(4), [[False] * len(table)]))
    assert digits.taught(unsure, tmp_path).lineage == ()


@pytest.mark.parametrize("method", ["noisy_student", "fixmatch"])
def test_labels_of_an_image_that_is_not_in_the_pool_are_refused_by_name_before_training(
    digits: Round, tmp_path: Path, method: Literal["noisy_student", "fixmatch"]
) -> None:
    table = digits.labels.table
    stranger = pa.array(["f" * 64, *table["image_id"].to_pylist()[1:]], table.schema.field("image_id").type)
    where = table.schema.get_field_index("image_id")
    labels = replace(digits.labels, table=table.set_column(where, table.schema.field(where), stranger))
    with pytest.raises(ManifestError, match="1 images for pseudo-labels are not in the unlabelled pool: ffff"):
        digits.student(labels, tmp_path, method=method)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.fixture(scope="module")
def taught(digits: Round, tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    return digits.student(digits.labels, tmp_path_factory.mktemp("taught"))


@pytest.mark.parametrize("method", ["noisy_student", "fixmatch"])
def test_a_student_that_starts_from_its_teacher_has_its_weights_and_names_it(
    digits: Round, taught: SavedModel, tmp_path: Path, method: Literal["noisy_student", "fixmatch"]
) -> None:
    from selftrain.learn.models.loading import load

    going_on: dict[str, Any] = {"start": "teacher", "learning_rate": 1e-12, "weight_decay": 0.0, "ema": None}
    student = digits.student(digits.labels, tmp_path, teacher=taught, method=method, dropout=0.0, **going_on)
    assert student.contract.lineage == ("chance", "lot")
    before, after = (load(each.folder)[0].trainable_weights for each in (taught, student))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


def test_whether_a_student_starts_from_its_teacher_is_settled_before_it_is_trained(
    digits: Round, taught: SavedModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a plan must set it to 'new' or 'teacher'"):
        digits.student(digits.labels, tmp_path, teacher=taught, start="student")


@pytest.mark.slow
def test_a_student_cannot_start_from_a_teacher_that_is_built_otherwise(digits: Round, tmp_path: Path) -> None:
    taught = digits.student(digits.labels, tmp_path / "taught", backbone=STRIDED, reduce_strides=False)
    for backbone, reduced in (("efficientnet_b0", False), (STRIDED, True)):
        begin: dict[str, Any] = {"start": "teacher", "backbone": backbone, "reduce_strides": reduced}
        with pytest.raises(ConfigError, match="have different architectures"):
            digits.student(digits.labels, tmp_path, teacher=taught, **begin)


def test_the_same_training_again_is_the_same_model_in_another_file(digits: Round, tmp_path: Path) -> None:
    one, again = (digits.taught(digits.labels, tmp_path / name) for name in ("one", "again"))
    assert one.identity == again.identity
    assert one.weights_sha256 != again.weights_sha256


def test_a_student_that_diverges_leaves_its_reason_in_place_of_a_model(digits: Round, tmp_path: Path) -> None:
    from selftrain.learn.models.contract import SavedModel
    from selftrain.learn.models.loading import load
    from selftrain.selflabel.teaching.scoring import score

    lost = digits.student(digits.labels, tmp_path, steps=20, **TOO_FAST)
    said = divergence.reason(lost)
    assert said is not None
    assert "at step" in said
    assert "lower learning_rate" in said
    assert SavedModel.read(lost.folder) == lost
    assert lost.contract.lineage == ("chance", "lot")
    with pytest.raises(UntrustedFileError):
        load(lost.folder)
    pixels = open_dataset(digits.e.place, digits.e.machine).pixels(digits.manifest, 16)
    scores = score(digits.manifest, pixels, lost)
    assert np.isnan(scores.accuracy)
    assert np.isnan(type(scores).model_validate_json(scores.model_dump_json()).log_loss)


def test_a_control_that_diverges_costs_no_run_its_report(digits: Round, taught: SavedModel, tmp_path: Path) -> None:
    from selftrain.selflabel.rounds.history import History
    from selftrain.selflabel.rounds.outcome import findings
    from selftrain.selflabel.rounds.results import teacher_round
    from selftrain.selflabel.teaching.scoring import evaluate_on_test, score
    from selftrain.selflabel.teaching.training import train_control

    pixels = open_dataset(digits.e.place, digits.e.machine).pixels(digits.manifest, 16)
    lost = train_control(
        digits.manifest,
        pixels,
        plan_of(20, "wide_resnet_16_1", **TOO_FAST),
        into=Destination(tmp_path / "model", Checkpoints(tmp_path / "checkpoints")),
    )
    assert divergence.trained([taught, None, lost]) == (taught,)
    report = evaluate_on_test(digits.manifest, taught, taught, lost, pixels_at=lambda size: pixels)
    assert report.control is None
    assert report.control_diverged == divergence.reason(lost)
    first = teacher_round(digits.manifest, taught, score(digits.manifest, pixels, taught), Gate())
    (found,) = [each for each in findings(History().with_round(first), report) if "unlabelled data help?" in each]
    assert "unknown: the control's training failed: " in found
    assert "lower learning_rate" in found


def test_weights_that_are_lost_in_the_last_step_are_a_divergence_too(digits: Round, tmp_path: Path) -> None:
    lost = digits.student(digits.labels, tmp_path, steps=1, learning_rate=3e38, warmup=0.0, ema=None)
    said = divergence.reason(lost)
    assert said is not None
    assert "the weights of step 1 answer with NaN or infinity" in said


@pytest.mark.parametrize("targets", ["soft", "hard"])
def test_a_pseudo_label_without_its_probabilities_names_a_class_and_one_with_them_does_not(
    digits: Round, targets: Literal["soft", "hard"]
) -> None:
    from selftrain.learn.training.examples import examples

    manifest = replace(digits.labels, targets=targets).applied_to(digits.manifest)
    pixels = open_dataset(digits.e.place, digits.e.machine).pixels(manifest, 16)
    train = examples(manifest, pixels, Split.TRAIN, pseudo_weight=1.0)
    assert (train.human.sum(), len(train)) == (40, 40 + len(digits.labels))
    np.testing.assert_array_equal(train.named, train.human | (targets == "hard"))


def test_a_fitted_head_is_the_regression_on_the_features_of_its_frozen_backbone(digits: Round, tmp_path: Path) -> None:
    from selftrain.learn.models.features import features
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.networks.backbones import build, save_weights

    weights = tmp_path / "backbone.weights.h5"
    save_weights(build("wide_resnet_16_1", image_size=16, classes=10, seed=5), weights)
    fitted = {"weights": str(weights), "head": "fitted", "reduce_strides": True}
    none = digits.labels.table
    unsure = replace(digits.labels, table=none.set_column(4, none.schema.field(4), [[False] * len(none)]))
    student = digits.student(unsure, tmp_path / "0", steps=0, **fitted)
    model, contract = load(student.folder)
    assert contract.image_steps == 0
    pixels = open_dataset(digits.e.place, digits.e.machine).pixels(digits.manifest, 16)
    rows = digits.manifest.rows(Split.TRAIN)
    right = predict_logits(model, pixels, rows).argmax(axis=1) == digits.manifest.labels()[rows]
    assert right.mean() > 0.5  # ten classes, an untrained backbone
    untouched = build("wide_resnet_16_1", image_size=16, classes=10, weights=str(weights))
    np.testing.assert_allclose(features(model, pixels, rows), features(untouched, pixels, rows), rtol=1e-4, atol=1e-4)
    again = digits.student(unsure, tmp_path / "1", steps=0, **fitted)
    assert again.contract.values_sha256 == contract.values_sha256


def test_steps_after_a_fitted_head_go_on_from_it(digits: Round, tmp_path: Path) -> None:
    from selftrain.learn.networks.backbones import build, save_weights

    weights = tmp_path / "backbone.weights.h5"
    save_weights(build("wide_resnet_16_1", image_size=16, classes=10, seed=5), weights)
    contract = digits.taught(digits.labels, tmp_path / "0", weights=str(weights), head="fitted", learning_rate=1e-6)
    assert contract.image_steps == STEPS * BATCH
