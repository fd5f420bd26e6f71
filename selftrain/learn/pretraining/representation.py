"""Representation: a backbone pretrained on images without labels, as a weights file from which a teacher starts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.config import Pretraining
from selftrain.config.arguments import as_section
from selftrain.data.inputs.squares import gather, gathered_pixels
from selftrain.errors import BackboneError, ConfigError
from selftrain.files.places import check_folder, user_path
from selftrain.files.workspace import Workspace
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

    from selftrain.learn.pretraining.pretrain import LabeledRows

WEIGHTS_SUFFIX = ".weights.h5"


@dataclass(frozen=True)
class Representation:
    """A pretrained backbone: `weights` is the file, `yaml` makes a teacher start from it.

    - `knn_before`, `knn_after`: the share of labelled images whose nearest neighbours in the features vote for their
      label, before and after pretraining; None without labels.
    - `curve`: a row per look with step, loss, spread (1 healthy, 0 collapsed), knn_accuracy and learning_rate.
    - `seconds`: wall time over all starts.
    - `images`, `unreadable`: how many images were learnt from, and how many files were left out.
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
        """The line of a configuration that starts a teacher from these weights."""
        return f"teacher: {{backbone: {self.backbone}, weights: {self.weights}}}"


def learn_representation(
    *,
    images: object,
    labeled: object = None,
    recipe: Pretraining | Mapping[str, object] = Pretraining(),  # noqa: B008 - frozen
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    workspace: str | os.PathLike[str] = ".selftrain",
    progress: Progress = silent,
) -> Representation:
    """Pretrain a backbone on `images` without labels, and save its weights.

    With `teacher: {weights: PATH}`, a teacher starts from the file. Its batch norm keeps the statistics of these
    images. After a kill, the same call continues the training.

    Args:
      - `images`: a folder, an array uint8 (n, h, w[, 3]), a list of images or paths, a stream, or Pixels of the
        recipe's `image_size`.
      - `labeled`: class folders, or (images, labels). The backbone does not learn from them. Each look at the features
        reports the share of them whose nearest neighbours vote for their label (arXiv:1805.01978).
      - `recipe`: how to train, a `selftrain.config.Pretraining` or a mapping of its keys: backbone, image size,
        objective, steps and the other settings.
      - `out`: the file, *.weights.h5. None: `workspace`/representations/BACKBONE-OBJECTIVE.weights.h5. A file there is
        replaced only by the same call, because a configuration may name it.
      - `seed`: sets the first weights, the order of the images, and the views.
      - `workspace`: the folder for decoded images and checkpoints.
      - `progress`: called with the steps done, their total, and a note.

    Returns:
        The file, the neighbours' accuracy before and after, and a row per look at the features.

    Raises:
      - SourceError: images cannot be used, or there is a single labelled image.
      - BackboneError: the backbone cannot be built, or `out` has another suffix.
      - ConfigError: `recipe` is not allowed, `out` holds other weights or something else, or there are fewer images
        than a batch.
      - TrainingDivergedError: the loss is not finite, or the features collapse.

    Example:
        >>> import numpy as np
        >>> import selftrain
        >>> images = np.random.default_rng(0).integers(0, 256, (32, 8, 8), np.uint8)
        >>> recipe = {"backbone": "wide_resnet_16_1", "image_size": 8, "steps": 2, "batch_size": 8}
        >>> found = selftrain.learn_representation(images=images, recipe=recipe, out="noise.weights.h5")
        >>> print(found.yaml)
        teacher: {backbone: wide_resnet_16_1, weights: noise.weights.h5}
    """
    from selftrain.learn.networks import backbones
    from selftrain.learn.pretraining.pretrain import curve_of, identity, pretrain
    from selftrain.learn.training.checkpoint import Checkpoints

    recipe = as_section(Pretraining, recipe, name="recipe")
    place = Workspace(user_path(workspace)).ensure()
    weights = _weights_file(out, recipe, place)
    size = recipe.image_size
    model = backbones.build(
        recipe.backbone, image_size=size, classes=2, reduce_strides=recipe.reduce_strides, seed=seed
    )
    pool = gathered_pixels(images, role="images", image_size=size, cache=place.decoded_cache)
    judges = _judges(labeled, size, place)
    learned = identity(model, recipe=recipe, pixels=pool.pixels, rows=pool.rows, seed=seed)
    _refuse_other_weights(weights, learned)
    key = hashlib.sha256(str(weights.resolve()).encode()).hexdigest()[:24]
    done = pretrain(
        model,
        recipe=recipe,
        pixels=pool.pixels,
        rows=pool.rows,
        labeled=judges,
        seed=seed,
        checkpoints=Checkpoints(place.checkpoints / "representations" / key, recipe.checkpoint_s),
        progress=progress,
    )
    backbones.save_weights(done.model, weights, learned=learned)
    return Representation(
        weights=weights,
        backbone=recipe.backbone,
        image_size=size,
        knn_before=done.knn_before,
        knn_after=done.looks[-1].knn_accuracy,
        curve=curve_of(done),
        seconds=done.seconds,
        images=len(pool.rows),
        unreadable=len(pool.unreadable),
    )


def _weights_file(out: str | os.PathLike[str] | None, recipe: Pretraining, place: Workspace) -> Path:
    """Where the weights go. Raises BackboneError for another suffix, ConfigError for a file that is not ours."""
    from selftrain.learn.networks.backbones import learned_by

    default = place.root / "representations" / f"{recipe.backbone}-{recipe.objective}{WEIGHTS_SUFFIX}"
    weights = default if out is None else user_path(out)
    if not weights.name.endswith(WEIGHTS_SUFFIX):
        raise BackboneError(f"out is {str(weights)!r}; give a name that ends in {WEIGHTS_SUFFIX}")
    if os.path.lexists(weights) and learned_by(weights) is None:
        raise ConfigError(
            f"out={str(weights)!r} was not written by learn_representation; it was left as it is, give another out"
        )
    check_folder(weights.parent, option="out")
    return weights


def _judges(labeled: object, size: int, place: Workspace) -> LabeledRows | None:
    from selftrain.learn.pretraining.pretrain import LabeledRows

    if labeled is None:
        return None
    judges = gather(labeled, role="labeled", labeled=True, image_size=size, cache=place.decoded_cache)
    return LabeledRows(judges.pixels, judges.rows, judges.labels)


def _refuse_other_weights(weights: Path, learned: str) -> None:
    """Raise ConfigError if `weights` exists and comes from another training than `learned`."""
    from selftrain.learn.networks.backbones import learned_by

    if os.path.lexists(weights) and learned_by(weights) != learned:
        raise ConfigError(
            f"out={str(weights)!r} was learned from other images, with other settings or by an earlier version; "
            f"it was left as it is, give another out"
        )
