"""Teaching: from a manifest and its pixels to a trained, calibrated, saved model."""

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
from selftrain.learn.models import divergence
from selftrain.learn.models.calibrate import fit_temperature
from selftrain.learn.models.contract import Contract, SavedModel, file_digest
from selftrain.learn.models.loading import load
from selftrain.learn.models.predict import predict_logits
from selftrain.learn.models.saving import save
from selftrain.learn.networks import variables
from selftrain.learn.networks.batchnorm import layers_of_type
from selftrain.learn.networks.copies import write_weights
from selftrain.learn.training.course import Unlabeled
from selftrain.learn.training.curve import write_curve
from selftrain.learn.training.examples import examples, whole_pool
from selftrain.learn.training.run import train, untrained

if TYPE_CHECKING:  # what a threshold or a plan decides is in a step's inputs: it stays out of the digest of the code
    from selftrain.selflabel.rounds.plan import Plan, TeacherPlan
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
    from selftrain.selflabel.teaching.task import Destination

Ints = npt.NDArray[np.int64]
_COMPARED = 2_048  # images of the pool that teacher and student are compared on: a share to one point


def train_teacher(manifest: Manifest, pixels: Pixels, plan: TeacherPlan, *, into: Destination) -> SavedModel:
    """Train on the human labels of `manifest`, calibrate on validation, save.

    `pixels` are aligned with the manifest's rows. A killed training resumes from its own of the checkpoints. Raises
    TrainingDivergedError as `train` does.
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
) -> SavedModel:
    """Train a new model on the human labels of `manifest` and the accepted of `labels`, calibrate on validation, save.

    Noisy Student (Xie et al., 2020, algorithm 1, step 3): soft targets where the labels keep probabilities. The
    confidences that they were accepted above, and whose labels they are, go into the model's contract. Resumes as
    `train_teacher` does. Another method takes the unlabelled images themselves: `labels` only say what the teacher
    would have made of them. Where the plan asks for it, the weights to begin with are those of `teacher` (the paper's
    "warm-start"); ConfigError if it is missing or its architecture differs.

    The contract's `churn` compares its answers with its teacher's, on at most 2,048 images of the pool. A student that
    diverges costs no run its teacher: it leaves the reason in place of a model (`divergence.reason`).
    """
    recipe, by_rounds = plan.recipe, not plan.recipe.in_training
    start = _weights_of(teacher, plan)
    learnt_from = (by_rounds and labels.accepted.num_rows > 0) or start is not None
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
        lineage=(*labels.lineage, labels.teacher) if learnt_from else (),
        start=start,
        compared=_sample(manifest, labels, seed=plan.seed),
    )
    return _train_or_leave_the_reason(lesson, into)


def train_control(manifest: Manifest, pixels: Pixels, plan: Plan, *, into: Destination) -> SavedModel:
    """Train the plan's network by its recipe on the human labels of `manifest` alone: the supervised control.

    With the image-steps of the models it is compared with (`rounds.recipes.control_recipe`), it says what the
    unlabelled images gave beyond the longer training. One that diverges leaves the reason in place of a model, as a
    student does.
    """
    return _train_or_leave_the_reason(Lesson(manifest, pixels, plan.recipe, plan.backbone, plan.seed), into)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network is trained on: images and targets, by which recipe, and what is known of their teacher.

    `unlabeled` images are learnt from in training, `start` lends its weights, and `compared` are rows (n,) of the pool
    with the classes (n,) that the teacher gave them.
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

    @property
    def contract(self) -> Contract:
        """What is known of the model before it is trained."""
        return Contract(
            backbone=self.backbone,
            image_size=self.pixels.size,
            class_names=self.manifest.label_map.names,
            manifest_digest=self.manifest.digest,
            lineage=self.lineage,
            seed=self.seed,
        )

    @property
    def key(self) -> str:
        """The name of its checkpoints: everything that decides the training's result."""
        weights = Path(self.recipe.weights) if self.recipe.weights else None
        content = file_digest(weights) if weights is not None and weights.is_file() else ""
        begun = self.start.digest if self.start is not None else ""
        size, seed = str(self.pixels.size), str(self.seed)
        parts = [self.manifest.digest, self.recipe.model_dump_json(), content, self.backbone, size, seed, begun]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]


def _train_or_leave_the_reason(lesson: Lesson, into: Destination) -> SavedModel:
    """As `_train`; a training that diverges leaves the reason in place of a model."""
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
    trained = train(
        network,
        recipe=recipe,
        train=examples(manifest, pixels, Split.TRAIN, pseudo_weight=lesson.pseudo_weight),
        validation=validation,
        min_human_share=lesson.min_human_share,
        unlabeled=lesson.unlabeled,
        seed=lesson.seed,
        checkpoints=into.checkpoints.of(lesson.key),
        progress=into.progress,
    )
    logits = predict_logits(trained.model, pixels, validation.rows)
    learnt = {
        "temperature": fit_temperature(logits, validation.targets.argmax(axis=1)),
        "thresholds": dict(lesson.thresholds),
        "image_steps": trained.image_steps,
        "seconds": trained.seconds,
        "churn": None if lesson.compared is None else _churn(trained.model, pixels, *lesson.compared),
    }
    saved = save(trained.model, lesson.contract.model_copy(update=learnt), into.folder)
    write_curve(trained.curve, into.folder)
    return saved


def _sample(manifest: Manifest, labels: PseudoLabels, *, seed: int) -> tuple[Ints, Ints] | None:
    """A sample of the pool: rows of `manifest` and the classes that `labels` give them, both (n,); None of no pool.

    Raises ManifestError for labels of an image that is not in the pool.
    """
    if len(labels) == 0:
        return None
    rows = manifest.without_pseudo_labels().pool_rows(labels.table["image_id"])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:_COMPARED])
    return rows[chosen], labels.table["label"].to_numpy()[chosen]


def _churn(model: keras.Model, pixels: Pixels, rows: Ints, classes: Ints) -> float:
    """The share in 0-1 of the images at `rows` that `model` does not call by `classes`."""
    return float((predict_logits(model, pixels, rows).argmax(axis=1) != classes).mean())


def _weights_of(teacher: SavedModel | None, plan: Plan) -> SavedModel | None:
    """The model that a student starts from; None for a new network."""
    if plan.recipe.start == "student":
        raise ConfigError("student.start is 'student': a plan makes it 'new' or 'teacher', by the round")
    if not plan.goes_on:
        return None
    if teacher is None:
        raise ConfigError("student.start is 'teacher', but no teacher was given")
    return teacher


def _take_weights(network: keras.Model, teacher: SavedModel) -> None:
    known, contract = load(teacher.folder)
    if _build(known) != _build(network):
        raise ConfigError(
            f"student.start is 'teacher', but its teacher, {contract.backbone} for {contract.image_size} px, is built "
            f"otherwise than a student of {network.input_shape[1]} px: set student.backbone, weights, reduce_strides "
            "and image_size as the teacher's, or student.start to 'new'"
        )
    write_weights(network, variables.read(known.weights))


def _build(model: keras.Model) -> tuple[list[Any], list[Any]]:
    """The shapes of a model's weights, and its strides, which change no shape."""
    convolutions = [
        layer for kind in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D) for layer in layers_of_type(model, kind)
    ]
    return [tuple(each.shape) for each in model.weights], [tuple(layer.strides) for layer in convolutions]
