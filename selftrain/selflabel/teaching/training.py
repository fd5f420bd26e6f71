"""Training for classification: from a manifest and its pixels to a trained, calibrated, saved model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt

from selftrain.config import Recipe
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.pixels import Pixels
from selftrain.errors import ConfigError, TrainingDivergedError
from selftrain.evaluate.statistics.forecast import LabelForecast
from selftrain.learn.models import divergence
from selftrain.learn.models.calibrate import fit_temperature
from selftrain.learn.models.contract import FORECAST_FILE, Contract, SavedModel, file_digest
from selftrain.learn.models.kept_features import logits_of
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.learn.networks import variables
from selftrain.learn.networks.backbones import untrained
from selftrain.learn.networks.batchnorm import layers_of_type
from selftrain.learn.networks.copies import write_weights
from selftrain.learn.training.batches import Examples
from selftrain.learn.training.course import Unlabeled
from selftrain.learn.training.curve import write_curve
from selftrain.learn.training.examples import examples, whole_pool
from selftrain.learn.training.run import TrainingResult, train
from selftrain.selflabel.teaching.fitted import fit_head_to, forecast_of_labels, without_steps

if TYPE_CHECKING:  # thresholds and plans are inputs of a step, so their code stays out of its code digest
    from selftrain.selflabel.rounds.plan import ControlPlan, Plan, TeacherPlan
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
    from selftrain.selflabel.teaching.task import Destination

Ints = npt.NDArray[np.int64]
CHURN_IMAGES = 2_048
"""Teacher and student are compared on at most this many images: their disagreement to about one percentage point."""


def train_teacher(manifest: Manifest, pixels: Pixels, plan: TeacherPlan, *, into: Destination) -> SavedModel:
    """Train on the human labels of `manifest`, calibrate on validation, and save.

    `pixels` are aligned with the manifest's rows. A killed training resumes from its checkpoint. Raises
    TrainingDivergedError, as `train` does.
    """
    return _train(Lesson(manifest, pixels, plan.recipe, plan.backbone, plan.seed), into)


def train_student(
    manifest: Manifest,
    labels: PseudoLabels,
    pixels: Pixels,
    plan: Plan,
    *,
    teacher: SavedModel | None = None,
    into: Destination,
    churn_images: int = CHURN_IMAGES,
) -> SavedModel:
    """Train on the human labels of `manifest` and the accepted ones of `labels`, calibrate on validation, and save.

    This is Noisy Student (Xie et al., 2020, algorithm 1, step 3), with soft targets where the labels keep
    probabilities. The model's contract names the cut-offs of the labels and the teacher that gave them. The training
    resumes as `train_teacher` does. A method that learns in training reads the unlabelled images themselves, and uses
    `labels` only for `churn`. If the plan asks for it, the network begins with the weights of `teacher` (the paper's
    "warm-start"). Raises ConfigError if that model is missing or its architecture differs.

    The contract's `churn` is the share of at most `churn_images` of the pool on which student and teacher disagree. A
    student that diverges does not end the run. It leaves the reason in place of a model (`divergence.reason`).
    """
    recipe, by_rounds = plan.recipe, not plan.recipe.in_training
    start = _weights_of(teacher, plan)
    by_teacher = (by_rounds and labels.accepted.num_rows > 0) or start is not None
    lesson = Lesson(
        labels.applied_to(manifest) if by_rounds else manifest.without_pseudo_labels(),
        pixels,
        recipe,
        plan.backbone,
        plan.seed,
        pseudo_weight=recipe.pseudo_weight if by_rounds else 0.0,
        min_human_share=recipe.min_human_share if by_rounds else 1.0,
        thresholds=labels.cutoffs_by_class() if by_rounds else {},
        unlabeled=None if by_rounds else whole_pool(manifest, recipe),
        lineage=(*labels.lineage, labels.teacher) if by_teacher else (),
        start=start,
        compared=_sample(manifest, labels, churn_images, seed=plan.seed),
    )
    return _train_or_leave_the_reason(lesson, into)


def train_control(manifest: Manifest, pixels: Pixels, plan: ControlPlan, *, into: Destination) -> SavedModel:
    """Train the supervised control: the plan's network on the human labels of `manifest` alone.

    It has the image-steps of the models that it is compared with (`rounds.recipes.control_recipe`). So it shows what
    the unlabelled images added beyond the longer training. If it diverges, it leaves the reason in place of a model,
    as a student does.
    """
    lesson = Lesson(manifest, pixels, plan.recipe, plan.backbone, plan.seed, forecasts=True)
    return _train_or_leave_the_reason(lesson, into)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network is trained on: images and targets, the recipe, and the facts about their teacher.

    `unlabeled` are images to learn from in training. `start` lends its weights. `compared` are rows (n,) of the pool
    and the classes (n,) that the teacher gave them. If it `forecasts`, and only a head is fitted, it leaves a file on
    what more labels would add.
    """

    manifest: Manifest
    pixels: Pixels
    recipe: Recipe
    backbone: str
    seed: int
    pseudo_weight: float = 0.0
    min_human_share: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    lineage: tuple[str, ...] = ()
    unlabeled: Unlabeled | None = None
    start: SavedModel | None = None
    compared: tuple[Ints, Ints] | None = None
    forecasts: bool = False

    @property
    def contract(self) -> Contract:
        """The contract as far as it is known before the training."""
        return Contract(
            backbone=self.backbone,
            image_size=self.pixels.size,
            class_names=self.manifest.label_map.names,
            manifest_digest=self.manifest.digest,
            lineage=self.lineage,
            seed=self.seed,
            bits=self.manifest.bits,
        )

    @property
    def key(self) -> str:
        """The name of its checkpoints: a digest of everything that decides the training's result."""
        weights = Path(self.recipe.weights) if self.recipe.weights else None
        content = file_digest(weights) if weights is not None and weights.is_file() else ""
        start = self.start.digest if self.start is not None else ""
        size, seed = str(self.pixels.size), str(self.seed)
        parts = [self.manifest.digest, self.recipe.model_dump_json(), content, self.backbone, size, seed, start]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]


def _train_or_leave_the_reason(lesson: Lesson, into: Destination) -> SavedModel:
    """Like `_train`, but a training that diverges leaves the reason in place of a model."""
    began = time.monotonic()
    try:
        return _train(lesson, into)
    except TrainingDivergedError as error:
        spent = {"seconds": time.monotonic() - began}
        return divergence.leave(error.message, lesson.contract.model_copy(update=spent), into.folder)


def _train(lesson: Lesson, into: Destination) -> SavedModel:
    """Train the lesson's network, calibrate it on validation and save it with its curve."""
    manifest, pixels, recipe = lesson.manifest, lesson.pixels, lesson.recipe
    classes = len(manifest.label_map)
    network = untrained(recipe, lesson.backbone, image_size=pixels.size, classes=classes, seed=lesson.seed)
    if lesson.start is not None:
        _take_weights(network, lesson.start)
    validation = examples(manifest, pixels, Split.VALIDATION)
    trained, more = _taught(network, lesson, validation, into)
    told = lesson.contract.model_copy(update={"image_steps": trained.image_steps})
    logits = logits_of(trained.model, told, pixels, validation.rows)
    learnt = {
        "temperature": fit_temperature(logits, validation.targets.argmax(axis=1)),
        "thresholds": dict(lesson.thresholds),
        "image_steps": trained.image_steps,
        "seconds": trained.seconds,
        "batch_parts": trained.parts,
        "churn": None if lesson.compared is None else _churn(trained.model, told, pixels, *lesson.compared),
    }
    saved = save(trained.model, lesson.contract.model_copy(update=learnt), into.folder)
    write_curve(trained.curve, into.folder)
    if more is not None:
        more.write(into.folder / FORECAST_FILE)
    return saved


def _taught(
    network: keras.Model, lesson: Lesson, validation: Examples, into: Destination
) -> tuple[TrainingResult, LabelForecast | None]:
    """The lesson's head, if it is to be fitted, and then its steps, if there are any; and a forecast of labels."""
    recipe, began = lesson.recipe, time.monotonic()
    material = examples(lesson.manifest, lesson.pixels, Split.TRAIN, pseudo_weight=lesson.pseudo_weight)
    fitted = None
    if recipe.head == "fitted":
        fitted = fit_head_to(network, material, recipe, seed=lesson.seed, progress=into.progress)
    if recipe.fits_only:
        trained, told = without_steps(network, validation, began=began), None
        if lesson.forecasts and fitted is not None:
            names, seed = lesson.contract.class_names, lesson.seed
            told = forecast_of_labels(network, material, validation, names=names, head=fitted, seed=seed)
        return trained, told
    trained = train(
        network,
        recipe=recipe,
        train=material,
        validation=validation,
        min_human_share=lesson.min_human_share,
        unlabeled=lesson.unlabeled,
        seed=lesson.seed,
        checkpoints=into.checkpoints.of(lesson.key),
        devices=into.devices,
        progress=into.progress,
    )
    return trained, None


def _sample(manifest: Manifest, labels: PseudoLabels, images: int, *, seed: int) -> tuple[Ints, Ints] | None:
    """At most `images` of the pool: rows of `manifest` and their classes by `labels`, both (n,); None without a pool.

    Raises ManifestError for labels of an image that is not in the pool.
    """
    if len(labels) == 0:
        return None
    rows = manifest.without_pseudo_labels().pool_rows(labels.table["image_id"])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:images])
    return rows[chosen], labels.table["label"].to_numpy()[chosen]


def _churn(model: keras.Model, contract: Contract, pixels: Pixels, rows: Ints, classes: Ints) -> float:
    """The share in 0-1 of the images at `rows` for which `model` does not answer `classes`."""
    return float((logits_of(model, contract, pixels, rows).argmax(axis=1) != classes).mean())


def _weights_of(teacher: SavedModel | None, plan: Plan) -> SavedModel | None:
    """The model that lends a student its weights; None for a new network."""
    if plan.recipe.start == "student":
        raise ConfigError("student.start is 'student'; a plan must set it to 'new' or 'teacher' for its round")
    if not plan.goes_on:
        return None
    if teacher is None:
        raise ConfigError("student.start is 'teacher', but no teacher was given")
    return teacher


def _take_weights(network: keras.Model, teacher: SavedModel) -> None:
    source, contract = load(teacher.folder)
    if _build(source) != _build(network):
        raise ConfigError(
            f"student.start is 'teacher', but the teacher ({contract.backbone}, {contract.image_size} px) and the "
            f"student ({network.input_shape[1]} px) have different architectures; give it the teacher's backbone, "
            "weights, reduce_strides and image_size, or set student.start to 'new'"
        )
    write_weights(network, variables.read(source.weights))


def _build(model: keras.Model) -> tuple[list[Any], list[Any]]:
    """The shapes of a model's weights, and its strides, which do not show in those shapes."""
    convolutions = [
        layer for kind in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D) for layer in layers_of_type(model, kind)
    ]
    return [tuple(each.shape) for each in model.weights], [tuple(layer.strides) for layer in convolutions]
