"""Training data: the images of an analysis with people's labels and accepted pseudo-labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.autolabeling.analysis import Analysis
from selftrain.autolabeling.folder import AnalysisFolder
from selftrain.autolabeling.kept_images import KeptImages, Part
from selftrain.data import columns
from selftrain.data.inputs.images import Array
from selftrain.data.inputs.labels import LabelForm
from selftrain.errors import ConfigError, SourceError

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
LabelKind = Literal["index", "one_hot", "soft"]
LoadedPart = Literal["training", "held_out"]
Example = tuple[Any, ...]
"""(x, y), or (x, y, w) with weights."""


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images with labels, as the loaders of torch and Grain read them: they have a length, and an item per row.

    `labels` are int64 (n,), or float32 (n, classes). `weights` are float32 (n,), or None. People gave the first
    `people` labels, and the model gave the others. An item is (x, y) or (x, y, w), of numpy values.
    """

    images: KeptImages
    labels: Array
    weights: Floats | None
    people: int
    class_names: tuple[str, ...]
    files: bool

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Example:
        if not -len(self) <= row < len(self):
            raise IndexError(row)  # a loop over the rows ends here
        return tuple(each[0] for each in self.gather(np.array([row % len(self)])))

    def gather(self, rows: Int64s) -> Example:
        """The examples of `rows` (k,) as arrays: x (k, ...), y (k,) or (k, classes), and w (k,) with weights."""
        x, y = self.images.gather(rows), self.labels[rows]
        return (x, y) if self.weights is None else (x, y, self.weights[rows])

    def all(self) -> Example:
        """All examples as arrays, people's labels first."""
        return self.gather(np.arange(len(self)))

    def batches(self, size: int, *, seed: int | None) -> Iterator[Example]:
        """All examples once in batches of `size`, in an order drawn from `seed`; None: people's labels first."""
        order = np.arange(len(self)) if seed is None else np.random.default_rng(seed).permutation(len(self))
        for start in range(0, len(order), size):
            yield self.gather(order[start : start + size])


class ChannelsFirst:
    """LabeledImages for torch: `transform` is called with each x, a numpy array as stored.

    Images of files are stored as uint8 (h, w, c). Without a transform, they become (c, h, w), and arrays stay as they
    were given.
    """

    def __init__(self, examples: LabeledImages, transform: Callable[[Array], object] | None) -> None:
        self.examples = examples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: int) -> Example:
        x, *rest = self.examples[row]
        if self.transform is not None:
            return (self.transform(x), *rest)
        return (np.ascontiguousarray(np.moveaxis(x, -1, 0)) if self.examples.files else x, *rest)


def open_training_data(
    path: Path,
    *,
    part: LoadedPart = "training",
    unlabeled_weight: float | None = None,
    labels: LabelKind | None = None,
) -> LabeledImages:
    """The examples in the folder `path` that `autolabel` wrote.

    `part` "training" gives the labelled images that were not held out, then the unlabelled ones with an accepted label.
    "held_out" gives the labelled images that were held out. A person's label has weight 1. A pseudo-label has its own
    weight times `unlabeled_weight`; None: no weights.

    `labels` says how labels are written. None: as they were given, with names as indices. If they were given as one-hot
    rows and the analysis has soft targets, pseudo-labels are then the model's probabilities.

    Raises ConfigError for an unknown `part` or `labels`. Raises SourceError for a weight that is not a number from 0, a
    folder without a finished analysis, files that are gone, and "held_out" where validation images were given.
    """
    if part not in get_args(LoadedPart):
        raise ConfigError(f"part is {part!r}; give one of {', '.join(get_args(LoadedPart))}")
    if labels is not None and labels not in get_args(LabelKind):
        raise ConfigError(f"labels is {labels!r}; give one of {', '.join(get_args(LabelKind))}, or None")
    _check_weight(unlabeled_weight)
    folder = AnalysisFolder(path)
    if part == "held_out":
        return _held_out(folder, labels=labels, weighted=unlabeled_weight is not None)
    return _training(folder, unlabeled_weight=unlabeled_weight, labels=labels)


def _check_weight(weight: object) -> None:
    """Raise SourceError unless `weight` is a number from 0, or None."""
    allowed = isinstance(weight, int | float | np.number) and not isinstance(weight, bool) and 0 <= weight < math.inf
    if weight is not None and not allowed:
        raise SourceError(f"unlabeled_weight is {weight!r}; give a number from 0, or None for no weights")


def _training(folder: AnalysisFolder, *, unlabeled_weight: float | None, labels: LabelKind | None) -> LabeledImages:
    analysis = folder.read()
    images, pseudo = folder.images(analysis), folder.labels()
    human = np.flatnonzero(_is_part(images, Part.TRAINING))
    accepted = pseudo.accepted
    position = pc.index_in(accepted["image_id"].combine_chunks(), value_set=_pool_ids(images))
    rows = np.concatenate([human, _pool_rows(images)[position.to_numpy(zero_copy_only=False).astype(np.int64)]])
    indices = np.concatenate([_labels(images, human), accepted["label"].to_numpy().astype(np.int64)])
    kind = labels or _default_kind(analysis)
    targets = _encoded(indices, kind, classes=len(analysis.class_names))
    if kind == "soft":
        targets[len(human) :] = columns.list_values(accepted["probs"], len(pseudo.class_names))
    weights = None
    if unlabeled_weight is not None:
        of_pool = accepted["weight"].to_numpy() * np.float32(unlabeled_weight)
        weights = np.concatenate([np.ones(len(human), np.float32), of_pool]).astype(np.float32)
    return _checked(images.take(rows), targets, weights, analysis, people=len(human))


def _held_out(folder: AnalysisFolder, *, labels: LabelKind | None, weighted: bool) -> LabeledImages:
    analysis = folder.read()
    images = folder.images(analysis)
    rows = np.flatnonzero(_is_part(images, Part.HELD_OUT))
    if not len(rows):
        raise SourceError(f"{folder.root} holds out no labelled image; use the validation images that it was given")
    kind = labels or _default_kind(analysis)
    targets = _encoded(_labels(images, rows), kind, classes=len(analysis.class_names))
    weights = np.ones(len(rows), np.float32) if weighted else None
    return _checked(images.take(rows), targets, weights, analysis, people=len(rows))


def _checked(
    images: KeptImages, labels: Array, weights: Floats | None, analysis: Analysis, *, people: int
) -> LabeledImages:
    images.check_files()
    return LabeledImages(images, labels, weights, people, analysis.class_names, analysis.files)


def _default_kind(analysis: Analysis) -> LabelKind:
    if analysis.labels is not LabelForm.ONE_HOT:
        return "index"
    return "soft" if analysis.targets == "soft" else "one_hot"


def _encoded(indices: Int64s, kind: LabelKind, *, classes: int) -> Array:
    """Class indices (n,) as they are, or one-hot float32 (n, classes)."""
    return indices if kind == "index" else np.eye(classes, dtype=np.float32)[indices]


def _is_part(images: KeptImages, part: Part) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.equal(images.index["part"], part.value))


def _pool_rows(images: KeptImages) -> Int64s:
    return np.flatnonzero(_is_part(images, Part.UNLABELED))


def _pool_ids(images: KeptImages) -> pa.Array:
    return images.index["image_id"].filter(pa.array(_is_part(images, Part.UNLABELED))).combine_chunks()


def _labels(images: KeptImages, rows: Int64s) -> Int64s:
    return np.asarray(images.index["label"].fill_null(-1).to_numpy()[rows], np.int64)
