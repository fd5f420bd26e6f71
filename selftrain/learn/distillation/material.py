"""Material: the images that a distillation learns from, and those that validate it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.data.inputs.images import Ids, image_ids
from selftrain.errors import ConfigError
from selftrain.learn.models.contract import Contract

if TYPE_CHECKING:
    from selftrain.data.inputs.squares import SquareImages
    from selftrain.data.store.pixels import Pixels
    from selftrain.learn.training.batches import Examples

Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
HELD_OUT = 0.2
"""The share of the labelled images that is held out for validation if no validation images are given."""
NO_LABEL = -1
_COMPARED = 256  # images at a time


@dataclass(frozen=True, eq=False)
class Material:
    """The images to learn from: `rows` (n,) of `pixels`, with class indices or NO_LABEL in `labels` (n,).

    `held_out` images were left out because `validation` holds them too, and `repeated` ones because the rows already
    hold them.
    """

    pixels: Pixels
    rows: Int64s
    labels: Int64s
    validation: Examples
    held_out: int
    repeated: int


def material(
    images: object, labeled: object, validation: object, contract: Contract, cache: Path, *, seed: int
) -> Material:
    """The images that a user gave to `distill`, at the size and bits and with the classes of the teacher's `contract`.

    Raises ConfigError if there is nothing to validate on or to learn from, and SourceError for images or labels that
    cannot be used.
    """
    from selftrain.data.inputs.squares import JoinedImages, gather, gathered_pixels

    def with_labels(source: object, role: str) -> SquareImages:
        size, names = contract.image_size, contract.class_names
        return gather(
            source, role=role, labeled=True, image_size=size, cache=cache, class_names=names, bits=contract.bits
        )

    if labeled is None and validation is None:
        raise ConfigError("no labels to validate on; give validation=, or labeled= to hold some of it out")
    pool = gathered_pixels(images, role="images", image_size=contract.image_size, cache=cache, bits=contract.bits)
    pixels: Pixels = pool.pixels
    labels, held_out = np.full(len(pool), NO_LABEL), np.zeros(len(pool), np.bool_)
    if labeled is not None:
        human = with_labels(labeled, "labeled")
        pixels, labels = JoinedImages((pixels, human.pixels)), np.concatenate([labels, human.labels])
        held_out = np.concatenate([held_out, _held_out(human.ids, nothing=validation is not None, seed=seed)])
    if validation is not None:
        own = with_labels(validation, "validation")
        judges = _validation(own.pixels, own.rows, own.labels, contract)
    elif held_out.any():
        judges = _validation(pixels, np.flatnonzero(held_out), labels[held_out], contract)
    else:
        raise ConfigError("too few labelled images to hold a fifth of them out; label more, or give validation=")
    return _without(judges, pixels, labels, held_out)


def _held_out(ids: Ids, *, nothing: bool, seed: int) -> Mask:
    from selftrain.data.inputs.held_out import held_out_mask

    return held_out_mask(ids, share=0.0 if nothing else HELD_OUT, seed=seed)


def _without(validation: Examples, pixels: Pixels, labels: Int64s, held_out: Mask) -> Material:
    """The material from `pixels` and `labels` (n,), without images held out, in validation, or repeated."""
    ids = _ids(pixels, np.arange(len(labels)))
    validating = np.isin(ids, _ids(validation.pixels, validation.rows)) & ~held_out
    repeated = _repeated(ids, labels) & ~held_out & ~validating
    rows = np.flatnonzero(~(held_out | validating | repeated))
    if not rows.size:
        raise ConfigError(f"validation holds all {len(labels)} images; give images= that it does not hold")
    return Material(pixels, rows, labels[rows], validation, int(validating.sum()), int(repeated.sum()))


def _ids(pixels: Pixels, rows: Int64s) -> Ids:
    """Ids (n,) of the pixels that models read. An image has the same id in a file of any format and in an array."""
    starts = range(0, len(rows), _COMPARED)
    return np.concatenate([np.empty(0, "S64"), *(image_ids(pixels.gather(rows[i : i + _COMPARED])) for i in starts)])


def _repeated(ids: Ids, labels: Int64s) -> Mask:
    """Which images (n,) without a label repeat an earlier one, or one that has a label."""
    labeled_first = np.argsort(labels == NO_LABEL, kind="stable")
    first = labeled_first[np.unique(ids[labeled_first], return_index=True)[1]]
    repeated: Mask = labels == NO_LABEL
    repeated[first] = False
    return repeated


def _validation(pixels: Pixels, rows: Int64s, labels: Int64s, contract: Contract) -> Examples:
    from selftrain.learn.training.batches import Examples

    ones = np.ones(len(rows), np.float32)
    return Examples(pixels, rows, one_hot(labels, len(contract.class_names)), ones, ones.astype(np.bool_))


def one_hot(labels: Int64s, classes: int) -> npt.NDArray[np.float32]:
    """One-hot rows (n, classes) of `labels` (n,); all 0 for NO_LABEL.

    >>> one_hot(np.array([1, NO_LABEL]), 2).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    rows: npt.NDArray[np.float32] = (labels[:, None] == np.arange(classes)).astype(np.float32)
    return rows
