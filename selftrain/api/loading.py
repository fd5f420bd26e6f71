"""Loading calls of the API: what `autolabel` wrote, as data sets of TensorFlow, torch, Grain and numpy."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from selftrain.autolabeling.training_data import ChannelsFirst, Example, LabelKind, LoadedPart, open_training_data
from selftrain.files.places import user_path

if TYPE_CHECKING:
    import grain
    import tensorflow as tf

PathLike = str | os.PathLike[str]


def load_from(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
    seed: int | None = 0,
) -> tf.data.Dataset:
    """Load what `autolabel` wrote to `path` as an unbatched tf.data.Dataset of (x, y), or (x, y, w) with weights.

    x is an image as it was given. y is its label: a person's, or the model's where the model was confident enough.

    Args:
      - `path`: the folder that `autolabel` wrote.
      - `unlabeled_weight`: the weight w of a label from the model; a person's label has 1. None: no weights.
      - `labels`: "index" (int64), "one_hot" (float32 (classes,)) or "soft" (float32 (classes,), the model's
        probabilities). None: as the labelled images had them, with names as indices.
      - `part`: "training", or "held_out" for the labelled images that the model was judged on.
      - `seed`: determines the order of the examples, a new one in each pass. None: people's labels first.

    Returns:
        The data set, whose length is known.

    Raises:
      - SourceError: the folder holds no finished analysis, files are gone, or the weight is not a number from 0.
      - ConfigError: `labels` or `part` is not one of those above.

    Example:
        After the example of `autolabel`:

        >>> import selftrain
        >>> data = selftrain.load_from("labels", unlabeled_weight=0.5)
        >>> x, y, w = next(iter(data.batch(32)))
        >>> x.shape, y.dtype.name
        (TensorShape([32, 4, 4]), 'int64')
    """
    from selftrain.api.tf_data import tf_dataset

    examples = open_training_data(user_path(path), part=part, unlabeled_weight=unlabeled_weight, labels=labels)
    return tf_dataset(examples, seed=seed)


def as_numpy(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
) -> Example:
    """Load what `autolabel` wrote to `path` as arrays in memory, people's labels first.

    Args:
      - `path`, `unlabeled_weight`, `labels`, `part`: as in `load_from`.

    Returns:
        (x, y), or (x, y, w) with weights: x (n, ...), y (n,) or (n, classes), w float32 (n,).

    Raises:
      - SourceError, ConfigError: as `load_from` does.

    Example:
        After the example of `autolabel`:

        >>> import selftrain
        >>> x, y, w = selftrain.as_numpy("labels", unlabeled_weight=0.5)
        >>> x.dtype, len(x) == len(y), sorted(set(w.tolist()))
        (dtype('uint8'), True, [0.5, 1.0])
    """
    return open_training_data(user_path(path), part=part, unlabeled_weight=unlabeled_weight, labels=labels).all()


def as_torch(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
    transform: Callable[[npt.NDArray[Any]], object] | None = None,
) -> ChannelsFirst:
    """Load what `autolabel` wrote to `path` as a map-style data set for torch's DataLoader.

    Torch itself is not imported: an example holds numpy values, which a DataLoader turns into tensors.

    Args:
      - `path`, `unlabeled_weight`, `labels`, `part`: as in `load_from`.
      - `transform`: called with each x as a numpy array. Files give uint8 (height, width, 3), as the transforms of
        torchvision expect it. None: images of files become (3, height, width), and arrays stay as they were given.

    Returns:
        The data set: its length, and (x, y) or (x, y, w) by row.

    Raises:
      - SourceError, ConfigError: as `load_from` does.

    Example:
        After the example of `autolabel`:

        >>> import selftrain
        >>> data = selftrain.as_torch("labels", transform=lambda image: image / 255)
        >>> x, y = data[0]
        >>> x.shape, bool(x.max() <= 1)
        ((4, 4), True)
    """
    return ChannelsFirst(
        open_training_data(user_path(path), part=part, unlabeled_weight=unlabeled_weight, labels=labels), transform
    )


def as_grain(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
) -> grain.MapDataset[Example]:
    """Load what `autolabel` wrote to `path` as a Grain MapDataset, people's labels first.

    Args:
      - `path`, `unlabeled_weight`, `labels`, `part`: as in `load_from`.

    Returns:
        The data set, neither shuffled nor batched.

    Raises:
      - SourceError, ConfigError: as `load_from` does.

    Example:
        After the example of `autolabel`:

        >>> import selftrain
        >>> x, y = selftrain.as_grain("labels").seed(0).shuffle().batch(32)[0]
        >>> x.shape, y.shape
        ((32, 4, 4), (32,))
    """
    import grain

    return grain.MapDataset.source(
        open_training_data(user_path(path), part=part, unlabeled_weight=unlabeled_weight, labels=labels)
    )
