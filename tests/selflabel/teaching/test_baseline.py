"""The baseline: a head on frozen features that knows the human labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from selftrain.config import DigitsSource, Experiment, Student, Teacher
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.data.store.pixels import Pixels
from selftrain.evaluate.statistics.forecast import LabelForecast
from selftrain.learn.models import divergence
from selftrain.learn.models.contract import FORECAST_FILE
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.rounds.plan import BaselinePlan, TeacherPlan
from selftrain.selflabel.rounds.recipes import baseline_recipe
from selftrain.selflabel.teaching.task import Destination

if TYPE_CHECKING:
    from selftrain.learn.models.contract import SavedModel

BACKBONE = "wide_resnet_16_1"
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


@dataclass(frozen=True)
class Lessons:
    """Digits and a teacher that saw them for two steps."""

    manifest: Manifest
    pixels: Pixels
    teacher: SavedModel

    def baseline(self, folder: Path, first_teacher: SavedModel | None = None) -> SavedModel:
        """The baseline on the features of `first_teacher`."""
        from selftrain.selflabel.teaching.baseline import train_baseline

        recipe = baseline_recipe(Student(augmentation="digits", steps=2), of_teacher=True)
        plan = BaselinePlan(
            task="classification", index=0, recipe=recipe, backbone=BACKBONE, image_size=16, seed=3, of_teacher=True
        )
        teacher = first_teacher or self.teacher
        return train_baseline(self.manifest, self.pixels, plan, first_teacher=teacher, into=into(folder))


def into(folder: Path) -> Destination:
    return Destination(folder / "model", Checkpoints(folder / "checkpoints"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Lessons:
    from selftrain.selflabel.teaching.training import train_teacher

    folder = tmp_path_factory.mktemp("digits")
    e = Experiment(source=DigitsSource(labeled=40, validation=30, test=30), workspace=str(folder))
    source, dataset = open_source(e.source), open_dataset(e.place)
    manifest = ingest(source, source.scan(), dataset.store, settings=e.ingest, splitting=e.splitting).manifest
    pixels = dataset.pixels(manifest, 16)
    recipe = Teacher(backbone=BACKBONE, augmentation="digits", steps=2, batch_size=4, validate_every=2)
    plan = TeacherPlan(task="classification", recipe=recipe, image_size=16, seed=1)
    return Lessons(manifest, pixels, train_teacher(manifest, pixels, plan, into=into(folder / "teacher")))


def test_it_is_scikit_learns_regression_on_the_features_of_the_first_teacher(digits: Lessons, tmp_path: Path) -> None:
    from selftrain.learn.heads.logistic import Targets, fit_logistic
    from selftrain.learn.models.features import features
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.predict import predict_logits

    saved = digits.baseline(tmp_path)
    told = LabelForecast.read((saved.folder / FORECAST_FILE).read_text(encoding="utf-8"))
    assert told.gains == ()
    assert (told.unknown or "").startswith("the features are learned from these labels")
    rows = digits.manifest.rows(Split.TRAIN)
    read = features(load(digits.teacher.folder)[0], digits.pixels, rows)
    labels = np.eye(10, dtype=np.float32)[digits.manifest.labels()[rows]]
    by_hand = fit_logistic(read, Targets(labels, np.ones(len(rows), np.float32), np.ones(len(rows), bool)), seed=3)
    asked = digits.manifest.rows(Split.VALIDATION)
    answers = predict_logits(load(saved.folder)[0], digits.pixels, asked)
    expected = by_hand.logits(features(load(digits.teacher.folder)[0], digits.pixels, asked))
    np.testing.assert_allclose(answers, expected, rtol=1e-2, atol=1e-2)
    assert divergence.reason(saved) is None


def test_its_contract_says_that_no_step_was_taken_and_whose_labels_its_features_learnt_from(
    digits: Lessons, tmp_path: Path
) -> None:
    contract = digits.baseline(tmp_path).contract
    assert contract.image_steps == 0
    assert contract.lineage == digits.teacher.contract.taught
    assert contract.class_names == digits.manifest.label_map.names
    assert contract.temperature > 0


def test_a_teacher_without_features_leaves_the_reason_and_does_not_end_the_run(digits: Lessons, tmp_path: Path) -> None:
    import keras

    from selftrain.learn.models.contract import Contract
    from selftrain.learn.models.saving import save
    from selftrain.selflabel.teaching.scoring import evaluate_on_test

    image = keras.Input((16, 16, 3), name="image")
    brightness = keras.layers.GlobalAveragePooling2D()(image)
    answers = keras.layers.Concatenate()([brightness, brightness, brightness, brightness[:, :1]])
    contract = Contract(backbone="by_hand", image_size=16, class_names=digits.manifest.label_map.names)
    mean = save(keras.Model(image, answers), contract, tmp_path / "mean")
    lost = digits.baseline(tmp_path, mean)
    said = divergence.reason(lost)
    assert said is not None
    assert "so it has no features" in said
    report = evaluate_on_test(
        digits.manifest, digits.teacher, digits.teacher, baseline=lost, pixels_at=lambda _: digits.pixels
    )
    assert (report.baseline, report.baseline_failed) == (None, said)


def test_test_answers_of_the_baseline_are_compared_with_the_final_models(digits: Lessons, tmp_path: Path) -> None:
    from selftrain.selflabel.teaching.scoring import evaluate_on_test, probs_on_test

    saved = digits.baseline(tmp_path)
    report = evaluate_on_test(
        digits.manifest, digits.teacher, digits.teacher, baseline=saved, pixels_at=lambda _: digits.pixels
    )
    labels = digits.manifest.labels()[digits.manifest.rows(Split.TEST)]
    right = float((probs_on_test(digits.manifest, digits.pixels, saved).argmax(axis=1) == labels).mean())
    assert report.baseline is not None
    assert report.baseline.reference == pytest.approx(right)
    assert report.baseline.difference == pytest.approx(report.accuracy - right)
    assert report.on_labels == report.baseline
