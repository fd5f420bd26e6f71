"""Representation: a backbone pretrained on unlabelled images, as a weights file that a teacher starts from."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.config import Augmentation, Precision
from selftrain.config.arguments import check_image_size, checked
from selftrain.errors import BackboneError, ConfigError
from selftrain.files.places import check_folder, user_path
from selftrain.files.workspace import Workspace
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

    from selftrain.learn.pretraining.two_views import Objective

WEIGHTS_SUFFIX = ".weights.h5"


@dataclass(frozen=True)
class Representation:
    """A pretrained backbone: `weights` is the file, `yaml` what makes a teacher start from it.

    `knn_before` and `knn_after` are the shares of labelled images that their neighbours name right by the features,
    before and after pretraining; None without labels. `curve` has a row a look: step, loss, spread (1 healthy, 0
    collapsed), knn_accuracy, learning_rate. `seconds` is wall time, over all starts; `unreadable` files were left out.
    """

    weights: Path
    backbone: str
    image_size: int
    knn_before: float | None
    knn_after: float | None
    curve: pa.Table
    seconds: float
    images: int
    unreadable: int

    @property
    def yaml(self) -> str:
        """The line for a configuration."""
        return f"teacher: {{backbone: {self.backbone}, weights: {self.weights}}}"


def learn_representation(
    *,
    images: object,
    labeled: object = None,
    backbone: str = "efficientnet_b0_050",
    image_size: int = 32,
    objective: Objective = "simclr",
    steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    augmentation: Augmentation = "natural",
    precision: Precision = "float32",
    look_every: int = 200,
    reduce_strides: bool = True,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    workspace: str | os.PathLike[str] = ".selftrain",
    checkpoint_s: float = 30.0,
    progress: Progress = silent,
) -> Representation:
    """Pretrain `backbone` on `images` without labels, and save its weights to `out` (*.weights.h5).

    `images`: a folder, an array uint8 (n, h, w[, 3]), a list of images or paths, a stream, or Pixels of `image_size`.
    `labeled` (class folders, or (images, labels)) is not learnt from: with it each look says how many of its images
    their nearest neighbours name right (arXiv:1805.01978). `objective` is "simclr" (arXiv:2002.05709) or
    "barlow_twins" (arXiv:2103.03230); `precision` is of the steps, as a recipe's. `out` None:
    `workspace`/representations/BACKBONE-OBJECTIVE.weights.h5. Called again with the same arguments after a kill, it
    goes on where it was. A file that is there is replaced by the same call only: one of other images or settings, which
    a configuration may name, and one that this function did not write are refused before training.

    A teacher starts from the file by `teacher: {weights: PATH}`; its batch norm keeps the statistics of these images.
    Raises SourceError for images that do not do and for one labelled image alone, BackboneError, ConfigError for a
    setting or an `out` that is not allowed, and TrainingDivergedError for a loss that is not finite and for features
    that collapse.
    """
    from selftrain.data.inputs.squares import gather, gathered_pixels
    from selftrain.learn.networks import backbones
    from selftrain.learn.pretraining.pretrain import LabeledRows, curve_of, identity, pretrain
    from selftrain.learn.pretraining.two_views import Pretraining
    from selftrain.learn.training.checkpoint import Checkpoints

    check_image_size(image_size)
    recipe = checked(
        Pretraining,
        objective=objective,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augmentation=augmentation,
        precision=precision,
        look_every=look_every,
    )
    place = Workspace(user_path(workspace)).ensure()
    usual = place.root / "representations" / f"{backbone}-{objective}{WEIGHTS_SUFFIX}"
    weights = usual if out is None else user_path(out)
    if not weights.name.endswith(WEIGHTS_SUFFIX):
        raise BackboneError(f"out is {str(weights)!r}; give a name that ends in {WEIGHTS_SUFFIX}")
    there = os.path.lexists(weights)
    if there and backbones.learned_by(weights) is None:
        raise ConfigError(
            f"out={str(weights)!r} was not written by learn_representation; it was left as it is, give another out"
        )
    check_folder(weights.parent, option="out")
    model = backbones.build(backbone, image_size=image_size, classes=2, reduce_strides=reduce_strides, seed=seed)
    pool = gathered_pixels(images, role="images", image_size=image_size, cache=place.decoded_cache)
    judged = None
    if labeled is not None:
        known = gather(labeled, role="labeled", labeled=True, image_size=image_size, cache=place.decoded_cache)
        judged = LabeledRows(known.pixels, known.rows, known.labels)
    learned = identity(model, recipe=recipe, pixels=pool.pixels, rows=pool.rows, seed=seed)
    if there and backbones.learned_by(weights) != learned:
        raise ConfigError(
            f"out={str(weights)!r} was learned from other images, with other settings or by an earlier version; "
            f"it was left as it is, give another out"
        )
    key = hashlib.sha256(str(weights.resolve()).encode()).hexdigest()[:24]
    done = pretrain(
        model,
        recipe=recipe,
        pixels=pool.pixels,
        rows=pool.rows,
        labeled=judged,
        seed=seed,
        checkpoints=Checkpoints(place.checkpoints / "representations" / key, checkpoint_s),
        progress=progress,
    )
    backbones.save_weights(done.model, weights, learned=learned)
    return Representation(
        weights=weights,
        backbone=backbone,
        image_size=image_size,
        knn_before=done.knn_before,
        knn_after=done.looks[-1].knn_accuracy,
        curve=curve_of(done),
        seconds=done.seconds,
        images=len(pool.rows),
        unreadable=len(pool.unreadable),
    )
