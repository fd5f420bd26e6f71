"""Labelled images, loaded from an analysis: people's labels and accepted pseudo-labels, to train on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.autolabeling.analysis import Analysis
from selftrain.autolabeling.folder import AnalysisFolder
from selftrain.autolabeling.kept_images import KeptImages, Part
from selftrain.data.inputs.images import Array
from selftrain.data.inputs.labels import LabelForm
from selftrain.errors import ConfigError, SourceError
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
LabelKind = Literal["index", "one_hot", "soft"]
LoadedPart = Literal["training", "held_out"]
Example = tuple[Any, ...]
"""(x, y), or (x, y, w) where the data have weights."""


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images with labels by row, as torch's and Grain's loaders want them: `len`, and an item a row.

    `labels` are int64 (n,), or float32 (n, classes); `weights` float32 (n,), None for examples without; `human` (n,)
    tells a person's label. An item is (x, y) or (x, y, w), numpy values.
    """

    images: KeptImages
    labels: Array
    weights: Floats | None
    human: npt.NDArray[np.bool_]
    class_names: tuple[str, ...]
    files: bool

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Example:
        if not -len(self) <= row < len(self):
            raise IndexError(row)  # ends an iteration
        return tuple(each[0] for each in self.gather(np.array([row % len(self)])))

    def gather(self, rows: Int64s) -> Example:
        """The examples of `rows` (k,) as arrays: x (k, ...), y (k,) or (k, classes), and w (k,) where there are any."""
        x, y = self.images.gather(rows), self.labels[rows]
        return (x, y) if self.weights is None else (x, y, self.weights[rows])

    def batches(self, size: int, *, seed: int | None) -> Iterator[Example]:
        """All examples once in batches of `size`, shuffled by `seed`; None: people's labels first, as they lie."""
        order = np.arange(len(self)) if seed is None else np.random.default_rng(seed).permutation(len(self))
        for start in range(0, len(order), size):
            yield self.gather(order[start : start + size])


class ChannelsFirst:
    """LabeledImages for torch: `transform` is called with each x, a numpy array as stored (files: uint8 (h, w, c)).

    Without a transform the images of files are (c, h, w); arrays stay as they were given.
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


def load_analysis(
    folder: AnalysisFolder,
    *,
    part: LoadedPart = "training",
    unlabeled_weight: float | None = None,
    labels: LabelKind | None = None,
) -> LabeledImages:
    """`load_training` or `load_held_out`, as `part` says, with weights where there is an `unlabeled_weight`.

    Raises ConfigError for another part and labels of another kind, SourceError for a weight that is none and as they.
    """
    if part not in get_args(LoadedPart):
        raise ConfigError(f"part is {part!r}; give one of {', '.join(get_args(LoadedPart))}")
    if labels is not None and labels not in get_args(LabelKind):
        raise ConfigError(f"labels is {labels!r}; give one of {', '.join(get_args(LabelKind))}, or None")
    _refuse_weight(unlabeled_weight)
    if part == "held_out":
        return load_held_out(folder, labels=labels, weighted=unlabeled_weight is not None)
    return load_training(folder, unlabeled_weight=unlabeled_weight, labels=labels)


def _refuse_weight(weight: object) -> None:
    """Raise SourceError for what is no weight."""
    allowed = isinstance(weight, int | float | np.number) and not isinstance(weight, bool) and 0 <= weight < math.inf
    if weight is not None and not allowed:
        raise SourceError(f"unlabeled_weight is {weight!r}; give a number from 0, or None for no weights")


def load_training(
    folder: AnalysisFolder, *, unlabeled_weight: float | None = None, labels: LabelKind | None = None
) -> LabeledImages:
    """The labelled images that were not held out, and the unlabelled ones with an accepted label.

    `unlabeled_weight` is the weight of a pseudo-label, where a person's is 1; None: no weights. `labels` says how they
    are written; None: as they were given, names as indices, and for one-hot ones the model's probabilities if the
    analysis has soft targets. Raises SourceError for a folder without a finished analysis, and for files that are gone.
    """
    analysis = folder.read()
    images, pseudo = folder.images(analysis), folder.labels()
    human = np.flatnonzero(_is_part(images, Part.TRAINING))
    accepted = pseudo.accepted
    position = pc.index_in(accepted["image_id"].combine_chunks(), value_set=_pool_ids(images))
    rows = np.concatenate([human, _pool_rows(images)[position.to_numpy(zero_copy_only=False).astype(np.int64)]])
    indices = np.concatenate([_labels(images, human), accepted["label"].to_numpy().astype(np.int64)])
    kind = labels or _usual_labels(analysis)
    chosen = _written(indices, kind, classes=len(analysis.class_names))
    if kind == "soft":
        chosen[len(human) :] = _probs(pseudo, accepted)
    weights = None
    if unlabeled_weight is not None:
        own = accepted["weight"].to_numpy() * np.float32(unlabeled_weight)
        weights = np.concatenate([np.ones(len(human), np.float32), own]).astype(np.float32)
    return _loaded(images.take(rows), chosen, weights, people=len(human), analysis=analysis)


def load_held_out(folder: AnalysisFolder, *, labels: LabelKind | None = None, weighted: bool = False) -> LabeledImages:
    """The labelled images that the model was judged on, of weight 1 if `weighted`; for validation, not for training.

    Raises SourceError where the analysis was given validation images of its own, and as `load_training`.
    """
    analysis = folder.read()
    images = folder.images(analysis)
    rows = np.flatnonzero(_is_part(images, Part.HELD_OUT))
    if not len(rows):
        raise SourceError(f"{folder.root} holds out no labelled image; it was given validation images, use those")
    kind = labels or _usual_labels(analysis)
    written = _written(_labels(images, rows), kind, classes=len(analysis.class_names))
    weights = np.ones(len(rows), np.float32) if weighted else None
    return _loaded(images.take(rows), written, weights, people=len(rows), analysis=analysis)


def _loaded(
    images: KeptImages, labels: Array, weights: Floats | None, *, people: int, analysis: Analysis
) -> LabeledImages:
    images.check_files()
    human = np.arange(len(labels)) < people
    return LabeledImages(images, labels, weights, human, analysis.class_names, analysis.files)


def _usual_labels(analysis: Analysis) -> LabelKind:
    if analysis.labels is not LabelForm.ONE_HOT:
        return "index"
    return "soft" if analysis.targets == "soft" else "one_hot"


def _written(indices: Int64s, kind: LabelKind, *, classes: int) -> Array:
    """Class indices (n,) as they are, or one-hot float32 (n, classes)."""
    return indices if kind == "index" else np.eye(classes, dtype=np.float32)[indices]


def _probs(pseudo: PseudoLabels, accepted: pa.Table) -> Floats:
    flat = pc.list_flatten(accepted["probs"]).to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(-1, len(pseudo.class_names))


def _is_part(images: KeptImages, part: Part) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.equal(images.index["part"], part.value))


def _pool_rows(images: KeptImages) -> Int64s:
    return np.flatnonzero(_is_part(images, Part.UNLABELED))


def _pool_ids(images: KeptImages) -> pa.Array:
    return images.index["image_id"].filter(pa.array(_is_part(images, Part.UNLABELED))).combine_chunks()


def _labels(images: KeptImages, rows: Int64s) -> Int64s:
    return np.asarray(images.index["label"].fill_null(-1).to_numpy()[rows], np.int64)
