"""Distillation: a small model learns what a saved model, or an ensemble, answers to images without labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from selftrain.config import Distillation, Recipe
from selftrain.config.arguments import as_section, checked, checked_bits
from selftrain.errors import ConfigError
from selftrain.files.places import check_out, user_path
from selftrain.files.workspace import Workspace
from selftrain.learn.adoption.adopt import NOTHING_KNOWN, Known, adopt
from selftrain.learn.adoption.formats import ANY_SIDE, digest_of, is_brought, side_of
from selftrain.learn.distillation.material import Material, material, one_hot
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import check_replaceable, save, values_digest
from selftrain.progress import Progress, noting, silent

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    import pyarrow as pa

    from selftrain.learn.distillation.soft_targets import Distilling
    from selftrain.learn.training.run import TrainingResult


_ASKED = 256  # images at most


@dataclass(frozen=True)
class DistillationResult:
    """A distilled model: where it is, both models' accuracy on validation (0-1) and their numbers of parameters.

    It learnt from `images` images. It did not learn from `held_out` images, which validation holds, or from `repeated`
    ones, which came before. `curve` has a row per look at validation, as in `selftrain.learn.training.curve.SCHEMA`.
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


@dataclass(frozen=True, eq=False)
class _Teacher:
    """The loaded model that is distilled, and its contract."""

    model: keras.Model
    contract: Contract


@dataclass(frozen=True, eq=False)
class _Brought:
    """A teacher that the user brings, before it is asked; `contract` has the size and classes that it reads."""

    path: Path
    contract: Contract

    def asked(self, found: Material, known: Known) -> _Teacher:
        """The teacher, asked how it reads images on those of validation. Raises PredictionError as `adopt` does."""
        judges = found.validation
        most = np.linspace(0, len(judges.rows) - 1, min(len(judges.rows), _ASKED)).round().astype(int)
        shown, labels = judges.pixels.gather(judges.rows[most]), judges.targets[most].argmax(axis=1)
        model, contract = adopt(
            self.path,
            class_names=self.contract.class_names,
            image_size=self.contract.image_size,
            known=replace(known, labeled=lambda side: (shown, labels)),
        )
        digests = {"weights_sha256": digest_of(self.path), "values_sha256": values_digest(model)}
        return _Teacher(
            model, contract.model_copy(update=digests if model.weights else digests | {"values_sha256": ""})
        )


def _opened(path: Path, class_names: tuple[str, ...], known: Known) -> _Teacher | _Brought:
    """The teacher at `path`. Raises ConfigError for classes that are missing, and for arguments that do nothing."""
    if not is_brought(path):
        if class_names or known != NOTHING_KNOWN:
            raise ConfigError(f"{path} names its classes and reads 0-255; leave out class_names, pixels and bits")
        return _Teacher(*load(path))
    if not class_names:
        raise ConfigError(f"{path} does not name its classes; give class_names=[...] in the order of its outputs")
    side = side_of(path) or ANY_SIDE
    return _Brought(path, Contract(backbone=path.name, image_size=side, class_names=class_names, bits=known.bits))


def distill(
    *,
    teacher: str | os.PathLike[str],
    images: object,
    labeled: object = None,
    validation: object = None,
    out: str | os.PathLike[str],
    recipe: Distillation | Mapping[str, object] = Distillation(),  # noqa: B008 - frozen
    class_names: Sequence[str] = (),
    pixels: str | None = None,
    bits: int | None = None,
    seed: int = 0,
    workspace: str | os.PathLike[str] = ".selftrain",
    progress: Progress = silent,
) -> DistillationResult:
    """Distil as `selftrain.distill` does, but without reading a recall log. See there for the arguments."""
    from selftrain.learn.networks.backbones import untrained
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.learn.training.run import train_course

    recipe = as_section(Distillation, recipe, name="recipe")
    steps = recipe_of_steps(recipe)
    out, workspace = user_path(out), user_path(workspace)
    check_out(out, workspace=workspace)
    known = Known(pixels=pixels, bits=checked_bits(bits))
    large = _opened(user_path(teacher), tuple(class_names), known)
    reads = large.contract
    if isinstance(large, _Teacher):
        check_replaceable(out, lineage=reads.taught, trained=True)
    small = untrained(steps, recipe.backbone, image_size=reads.image_size, classes=len(reads.class_names), seed=seed)
    place = Workspace(workspace).ensure()
    found = material(images, labeled, validation, reads, place.decoded_cache, seed=seed)
    if isinstance(large, _Brought):
        large = large.asked(found, known)
        check_replaceable(out, lineage=large.contract.taught, trained=True)
    training = train_course(
        small,
        _course(large, found, recipe, seed=seed, progress=noting(progress, "the teacher's answers")),
        recipe=steps,
        validation=found.validation,
        checkpoints=Checkpoints(place.checkpoints / "distilled" / _key(out), recipe.checkpoint_s),
        progress=noting(progress, "distill"),
    )
    return _result(training, large, found, out, backbone=recipe.backbone, seed=seed)


def recipe_of_steps(recipe: Distillation) -> Recipe:
    """The training recipe that `recipe` describes. Raises ConfigError for values that a training does not allow."""
    shared = recipe.model_dump(exclude={"temperature", "label_weight", "checkpoint_s"})
    return checked(Recipe, **shared, label_smoothing=0.0, strength="strong")


def _key(out: Path) -> str:
    """Names the training whose model goes to `out`."""
    return hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:24]


def _course(large: _Teacher, found: Material, recipe: Distillation, *, seed: int, progress: Progress) -> Distilling:
    """The course on the images, with the teacher's softened probabilities and the labels as `both_targets`."""
    from selftrain.learn.distillation.soft_targets import Distilling, Softening, both_targets
    from selftrain.learn.models.calibrate import softmax
    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.training.batches import Batches, Examples

    logits = predict_logits(large.model, found.pixels, found.rows, progress=progress)
    soft = softmax(logits, large.contract.temperature * recipe.temperature)
    labels = one_hot(found.labels, len(large.contract.class_names))
    ones = np.ones(len(found.rows), np.float32)
    examples = Examples(found.pixels, found.rows, both_targets(soft, labels), ones, ones.astype(np.bool_))
    batches = Batches(examples, recipe.batch_size, seed)
    return Distilling(recipe_of_steps(recipe), batches, Softening(recipe.temperature, recipe.label_weight))


def _result(
    training: TrainingResult, large: _Teacher, found: Material, out: Path, *, backbone: str, seed: int
) -> DistillationResult:
    """Calibrates the small model on validation, compares it there with its teacher, and saves it to `out`."""
    from selftrain.learn.models.calibrate import fit_temperature
    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.training.curve import write_curve

    images, labels = found.validation, found.validation.targets.argmax(axis=1)
    logits = predict_logits(training.model, images.pixels, images.rows)
    teacher_logits = predict_logits(large.model, images.pixels, images.rows)
    promise = Contract(
        backbone=backbone,
        image_size=large.contract.image_size,
        class_names=large.contract.class_names,
        temperature=fit_temperature(logits, labels),
        manifest_digest=large.contract.manifest_digest,
        lineage=large.contract.taught,
        image_steps=training.image_steps,
        seconds=training.seconds,
        batch_parts=training.parts,
        seed=seed,
        bits=large.contract.bits,
    )
    saved = save(training.model, promise, out)
    write_curve(training.curve, saved.folder)
    return DistillationResult(
        saved=saved,
        accuracy=float((logits.argmax(axis=1) == labels).mean()),
        teacher_accuracy=float((teacher_logits.argmax(axis=1) == labels).mean()),
        parameters=training.model.count_params(),
        teacher_parameters=large.model.count_params(),
        images=len(found.rows),
        held_out=found.held_out,
        repeated=found.repeated,
        curve=training.curve,
    )
