"""Teaching: from a manifest and its pixels to a trained, calibrated, saved model."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt

from selftrain.config import Recipe, Student, Teacher
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
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.learn.training.course import Unlabeled
from selftrain.learn.training.curve import write_curve
from selftrain.learn.training.examples import examples, whole_pool
from selftrain.learn.training.run import train, untrained
from selftrain.progress import Progress, silent

if TYPE_CHECKING:  # what a threshold does concerns no teacher: it stays out of the digest of the code behind it
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

Ints = npt.NDArray[np.int64]
_COMPARED = 2_048  # images of the pool that teacher and student are compared on: a share to one point


def train_teacher(
    manifest: Manifest,
    pixels: Pixels,
    *,
    recipe: Teacher,
    seed: int,
    folder: Path,
    checkpoints: Checkpoints,
    progress: Progress = silent,
) -> SavedModel:
    """Train on the human labels of `manifest`, calibrate on validation, save under `folder`.

    `pixels` are aligned with the manifest's rows. A killed training resumes from its own of the `checkpoints`. Raises
    TrainingDivergedError as `train` does.
    """
    return _teach(
        manifest,
        pixels,
        recipe=recipe,
        backbone=recipe.backbone,
        seed=seed,
        folder=folder,
        checkpoints=checkpoints,
        progress=progress,
    )


def train_student(
    manifest: Manifest,
    labels: PseudoLabels,
    pixels: Pixels,
    *,
    recipe: Student,
    backbone: str,
    seed: int,
    folder: Path,
    checkpoints: Checkpoints,
    teacher: SavedModel | None = None,
    progress: Progress = silent,
) -> SavedModel:
    """Train a new model on the human labels of `manifest` and the accepted of `labels`, calibrate on validation, save.

    Noisy Student (Xie et al., 2020, algorithm 1, step 3): soft targets where the labels keep probabilities. The
    confidences that they were accepted above, and whose labels they are, go into the model's contract. Resumes as
    `train_teacher` does. Another method takes the unlabelled images themselves: `labels` only say what the teacher
    would have made of them. Where `recipe.start` asks for it, the weights to begin with are those of `teacher` (the
    paper's "warm-start"); ConfigError if it is missing or its architecture differs, and for a `recipe.start` that
    `finished.recipe_after` has not made 'new' or 'teacher'.

    The contract's `churn` compares its answers with its teacher's, on at most 2,048 images of the pool. A student that
    diverges costs no run its teacher: it leaves the reason in place of a model (`divergence.reason`).
    """
    by_rounds = not recipe.in_training
    taught = labels.applied_to(manifest) if by_rounds else manifest.without_pseudo_labels()
    start = _weights_of(teacher, recipe)
    learnt_from = (by_rounds and labels.accepted.num_rows > 0) or start is not None
    return _teach(
        taught,
        pixels,
        recipe=recipe,
        backbone=backbone,
        pseudo_weight=recipe.pseudo_weight if by_rounds else 0.0,
        min_human_share=recipe.min_human_share if by_rounds else 1.0,
        thresholds=labels.cutoffs_by_class() if by_rounds else None,
        unlabeled=None if by_rounds else whole_pool(manifest, recipe),
        lineage=(*labels.lineage, labels.teacher) if learnt_from else (),
        start=start,
        answers=_answers(manifest, labels, seed=seed),
        may_diverge=True,
        seed=seed,
        folder=folder,
        checkpoints=checkpoints,
        progress=progress,
    )


def train_control(
    manifest: Manifest,
    pixels: Pixels,
    *,
    recipe: Student,
    backbone: str,
    seed: int,
    folder: Path,
    checkpoints: Checkpoints,
    progress: Progress = silent,
) -> SavedModel:
    """Train a student's backbone by its recipe on the human labels of `manifest` alone: the supervised control.

    With the image-steps of the models it is compared with (`finished.control_recipe`), it says what the unlabelled
    images gave beyond the longer training. One that diverges leaves the reason in place of a model, as a student does.
    """
    return _teach(
        manifest,
        pixels,
        recipe=recipe,
        backbone=backbone,
        may_diverge=True,
        seed=seed,
        folder=folder,
        checkpoints=checkpoints,
        progress=progress,
    )


def _teach(
    manifest: Manifest,
    pixels: Pixels,
    *,
    recipe: Recipe,
    backbone: str,
    seed: int,
    folder: Path,
    checkpoints: Checkpoints,
    progress: Progress,
    pseudo_weight: float = 0.0,
    min_human_share: float = 1.0,
    thresholds: dict[str, float] | None = None,
    lineage: tuple[str, ...] = (),
    unlabeled: Unlabeled | None = None,
    start: SavedModel | None = None,
    answers: tuple[Ints, Ints] | None = None,
    may_diverge: bool = False,
) -> SavedModel:
    began = time.monotonic()
    network = untrained(recipe, backbone, image_size=pixels.size, classes=len(manifest.label_map), seed=seed)
    if start is not None:
        _take_weights(network, start)
    validation = examples(manifest, pixels, Split.VALIDATION)
    contract = Contract(
        backbone=backbone,
        image_size=pixels.size,
        class_names=manifest.label_map.names,
        manifest_digest=manifest.digest,
        lineage=lineage,
        seed=seed,
    )
    try:
        trained = train(
            network,
            recipe=recipe,
            train=examples(manifest, pixels, Split.TRAIN, pseudo_weight=pseudo_weight),
            validation=validation,
            min_human_share=min_human_share,
            unlabeled=unlabeled,
            seed=seed,
            checkpoints=checkpoints.of(_key(manifest, recipe, backbone, pixels.size, seed, start)),
            progress=progress,
        )
    except TrainingDivergedError as error:
        if not may_diverge:
            raise
        spent = {"seconds": time.monotonic() - began}
        return divergence.leave(error.message, contract.model_copy(update=spent), folder)
    logits = predict_logits(trained.model, pixels, validation.rows)
    learnt = {
        "temperature": fit_temperature(logits, validation.targets.argmax(axis=1)),
        "thresholds": thresholds or {},
        "image_steps": trained.image_steps,
        "seconds": trained.seconds,
        "churn": None if answers is None else _churn(trained.model, pixels, *answers),
    }
    saved = save(trained.model, contract.model_copy(update=learnt), folder)
    write_curve(trained.curve, folder)
    return saved


def _answers(manifest: Manifest, labels: PseudoLabels, *, seed: int) -> tuple[Ints, Ints] | None:
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


def _weights_of(teacher: SavedModel | None, recipe: Student) -> SavedModel | None:
    """The model that a student starts from; None: it is created anew."""
    if recipe.start == "new":
        return None
    if recipe.start == "student":
        raise ConfigError(
            "student.start is 'student': `finished.recipe_after` makes it 'new' or 'teacher', by the round"
        )
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


def _key(
    manifest: Manifest, recipe: Recipe, backbone: str, image_size: int, seed: int, start: SavedModel | None
) -> str:
    weights = Path(recipe.weights) if recipe.weights else None
    content = file_digest(weights) if weights is not None and weights.is_file() else ""
    begun = start.digest if start is not None else ""
    text = "|".join([manifest.digest, recipe.model_dump_json(), content, backbone, str(image_size), str(seed), begun])
    return hashlib.sha256(text.encode()).hexdigest()[:24]
