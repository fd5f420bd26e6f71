"""Distill: a saved model, or an ensemble, taught to a smaller one by its answers to unlabelled images."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.config import Augmentation, Precision, Recipe
from selftrain.config.arguments import checked
from selftrain.data.inputs.images import Ids, image_ids
from selftrain.errors import ConfigError
from selftrain.files.places import check_out, user_path
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import check_replaceable, save
from selftrain.progress import Progress, noting, silent

if TYPE_CHECKING:
    import keras
    import pyarrow as pa

    from selftrain.data.inputs.squares import SquareImages
    from selftrain.data.store.pixels import Pixels
    from selftrain.learn.distillation.course import Softening
    from selftrain.learn.training.batches import Examples

Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
HELD_OUT = 0.2  # of the labelled images, where no others are given to validate on
NO_LABEL = -1
_COMPARED = 256  # images at a time


@dataclass(frozen=True)
class DistillationResult:
    """A distilled model: where it is, both models' accuracy on validation (0-1) and their numbers of parameters.

    `images` were learnt from; `held_out` of those given were not, because validation holds them too, and `repeated` not
    a second time. `curve` has a row a look, as in `selftrain.learn.training.curve.SCHEMA`.
    """

    saved: SavedModel
    accuracy: float
    teacher_accuracy: float
    parameters: int
    teacher_parameters: int
    images: int
    held_out: int
    repeated: int
    curve: pa.Table


def distill(
    *,
    teacher: str | os.PathLike[str],
    images: object,
    labeled: object = None,
    validation: object = None,
    out: str | os.PathLike[str],
    backbone: str = "efficientnet_b0_050",
    weights: str | None = None,
    temperature: float = 3.0,
    label_weight: float = 0.1,
    steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    augmentation: Augmentation = "natural",
    validate_every: int = 200,
    freeze_steps: int = 0,
    precision: Precision = "float32",
    seed: int = 0,
    workspace: str | os.PathLike[str] = ".selftrain",
    checkpoint_s: float = 30.0,
    progress: Progress = silent,
) -> DistillationResult:
    """Train `backbone` to answer as the saved model in the folder `teacher` does, and save it to the folder `out`.

    Distillation (Hinton et al. 2015, arXiv:1503.02531): on `images` (a folder, an array, a list, a stream, or Pixels)
    and on `labeled` ones (class folders, or (images, labels)), towards the teacher's calibrated probabilities softened
    by `temperature`; `label_weight` is the part that people's labels have in the loss of an image that has one.
    `precision` is of the steps, as a recipe's.

    `validation`, labelled images that the teacher was not trained on, picks the weights and calibrates them; None:
    a fifth of `labeled` is held out for it. An image that validation holds is not learnt from, wherever else it is
    given; one without a label that comes twice is learnt from once, with its label if it has one elsewhere. The result
    reads images of the teacher's size, has its class names and is used as any saved model. Called again with the same
    arguments after a kill, it goes on where it was. An `out` that holds anything is refused, but an earlier model
    distilled from the same teacher, which is replaced.

    Raises ConfigError for a setting or an `out` that is not allowed and where there is nothing to validate on or to
    learn from, SourceError for images or labels that do not do, BackboneError, UntrustedFileError for a teacher that
    was changed, TrainingDivergedError; as `selftrain.distill` also WithdrawnError for a teacher that `workspace`'s
    recall log names.
    """
    from selftrain.learn.distillation.course import Distilling, Softening
    from selftrain.learn.models.calibrate import fit_temperature
    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.training.batches import Batches
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.learn.training.curve import write_curve
    from selftrain.learn.training.run import train_course, untrained

    recipe = checked(
        Recipe,
        backbone=backbone,
        weights=weights,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        label_smoothing=0.0,
        augmentation=augmentation,
        strength="strong",
        validate_every=validate_every,
        freeze_steps=freeze_steps,
        precision=precision,
    )
    softening = Softening(temperature, label_weight)
    _refuse(softening)
    out, workspace = user_path(out), user_path(workspace)
    check_out(out, workspace=workspace)
    model, contract = load(user_path(teacher))
    check_replaceable(out, lineage=contract.taught, trained=True)
    size, classes = contract.image_size, len(contract.class_names)
    small = untrained(recipe, backbone, image_size=size, classes=classes, seed=seed)
    place = Workspace(workspace).ensure()
    found = material(images, labeled, validation, contract, place.decoded_cache, seed=seed)
    examples = _examples(model, contract, found, softening, noting(progress, "the teacher's answers"))
    key = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:24]
    trained = train_course(
        small,
        Distilling(recipe, Batches(examples, batch_size, seed), softening),
        recipe=recipe,
        validation=found.judged,
        checkpoints=Checkpoints(place.checkpoints / "distilled" / key, checkpoint_s),
        progress=noting(progress, "distill"),
    )
    judged, right = found.judged, found.judged.targets.argmax(axis=1)
    answers, before = (predict_logits(each, judged.pixels, judged.rows) for each in (trained.model, model))
    promised = Contract(
        backbone=backbone,
        image_size=size,
        class_names=contract.class_names,
        temperature=fit_temperature(answers, right),
        manifest_digest=contract.manifest_digest,
        lineage=contract.taught,
        image_steps=trained.image_steps,
        seconds=trained.seconds,
        seed=seed,
    )
    saved = save(trained.model, promised, out)
    write_curve(trained.curve, saved.folder)
    return DistillationResult(
        saved=saved,
        accuracy=float((answers.argmax(axis=1) == right).mean()),
        teacher_accuracy=float((before.argmax(axis=1) == right).mean()),
        parameters=trained.model.count_params(),
        teacher_parameters=model.count_params(),
        images=len(found.rows),
        held_out=found.held_out,
        repeated=found.repeated,
        curve=trained.curve,
    )


def _refuse(softening: Softening) -> None:
    """Raise ConfigError for a softening that is none."""
    if not 0 < softening.temperature < math.inf:
        raise ConfigError(
            f"temperature is {softening.temperature}; it divides logits: give a number above 0, such as 3"
        )
    if not 0 <= softening.label_weight <= 1:
        raise ConfigError(f"label_weight is {softening.label_weight}; it is a part of the loss: give 0 to 1")


@dataclass(frozen=True, eq=False)
class Material:
    """What is learnt from: `rows` (n,) of `pixels` with their class indices or NO_LABEL (n,); and validation.

    `held_out` images are left out because validation holds them, `repeated` ones because they are among the rows.
    """

    pixels: Pixels
    rows: Int64s
    labels: Int64s
    judged: Examples
    held_out: int
    repeated: int


def material(
    images: object, labeled: object, validation: object, contract: Contract, cache: Path, *, seed: int
) -> Material:
    """The images given to `distill`, sorted into what is learnt from and what validates. Raises as it does."""
    from selftrain.data.inputs.held_out import held_out_mask
    from selftrain.data.inputs.squares import JoinedImages, gather, gathered_pixels

    def opened(given: object, role: str) -> SquareImages:
        size, names = contract.image_size, contract.class_names
        return gather(given, role=role, labeled=True, image_size=size, cache=cache, class_names=names)

    if labeled is None and validation is None:
        raise ConfigError("there are no labels to validate on; give validation=, or labeled= to hold some of it out")
    pool = gathered_pixels(images, role="images", image_size=contract.image_size, cache=cache)
    pixels: Pixels = pool.pixels
    labels, apart = np.full(len(pool), NO_LABEL), np.zeros(len(pool), np.bool_)
    if labeled is not None:
        known = opened(labeled, "labeled")
        share = HELD_OUT if validation is None else 0.0
        pixels, labels = JoinedImages((pixels, known.pixels)), np.concatenate([labels, known.labels])
        apart = np.concatenate([apart, held_out_mask(known.ids, share=share, seed=seed)])
    if validation is not None:
        held = opened(validation, "validation")
        judged = _validation(held.pixels, held.rows, held.labels, contract)
        return _without(judged, pixels, labels, apart)
    if not apart.any():
        raise ConfigError("too few labelled images to hold a fifth of them out; label more, or give validation=")
    judged = _validation(pixels, np.flatnonzero(apart), labels[apart], contract)
    return _without(judged, pixels, labels, apart)


def _without(judged: Examples, pixels: Pixels, labels: Int64s, apart: Mask) -> Material:
    """All of `pixels` with their `labels` (n,) but those set `apart` (n,), the `judged` and repeated ones."""
    ids = _ids(pixels, np.arange(len(labels)))
    held = np.isin(ids, _ids(judged.pixels, judged.rows)) & ~apart
    again = _repeated(ids, labels) & ~apart & ~held
    rows = np.flatnonzero(~(apart | held | again))
    if not rows.size:
        raise ConfigError(f"validation holds all {len(labels)} images; give images= that it does not hold")
    return Material(pixels, rows, labels[rows], judged, int(held.sum()), int(again.sum()))


def _ids(pixels: Pixels, rows: Int64s) -> Ids:
    """Ids (n,) of what the models read: an image has the same one in a file, in another format, and in an array."""
    starts = range(0, len(rows), _COMPARED)
    return np.concatenate([np.empty(0, "S64"), *(image_ids(pixels.gather(rows[i : i + _COMPARED])) for i in starts)])


def _repeated(ids: Ids, labels: Int64s) -> Mask:
    """Which images (n,) without label were there before, or are there with one."""
    labeled_first = np.argsort(labels == NO_LABEL, kind="stable")
    first = labeled_first[np.unique(ids[labeled_first], return_index=True)[1]]
    repeated: Mask = labels == NO_LABEL
    repeated[first] = False
    return repeated


def _validation(pixels: Pixels, rows: Int64s, labels: Int64s, contract: Contract) -> Examples:
    from selftrain.learn.training.batches import Examples

    ones = np.ones(len(rows), np.float32)
    return Examples(pixels, rows, _one_hot(labels, len(contract.class_names)), ones, ones.astype(np.bool_))


def _examples(
    model: keras.Model, contract: Contract, found: Material, softening: Softening, progress: Progress
) -> Examples:
    """The images with the teacher's softened probabilities and their labels, as `both_targets`."""
    from selftrain.learn.distillation.course import both_targets
    from selftrain.learn.models.calibrate import softmax
    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.training.batches import Examples

    logits = predict_logits(model, found.pixels, found.rows, progress=progress)
    soft = softmax(logits, contract.temperature * softening.temperature)
    one_hot = _one_hot(found.labels, len(contract.class_names))
    ones = np.ones(len(found.rows), np.float32)
    return Examples(found.pixels, found.rows, both_targets(soft, one_hot), ones, ones.astype(np.bool_))


def _one_hot(labels: Int64s, classes: int) -> npt.NDArray[np.float32]:
    """One-hot rows (n, classes); all 0 for NO_LABEL."""
    rows: npt.NDArray[np.float32] = (labels[:, None] == np.arange(classes)).astype(np.float32)
    return rows
