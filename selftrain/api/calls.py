"""The Python API: self-training for people with training code of their own, without a pipeline or a tracking server.

This module holds only the defaults and the documentation of each call. Other modules of this folder do the work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from selftrain.autolabeling.analysis import Analysis
from selftrain.autolabeling.settings import settings_of
from selftrain.autolabeling.user_model import OutputKind
from selftrain.config import Experiment, Fixed, Threshold
from selftrain.files.places import user_path
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np

    from selftrain.api.fitting import FitResult

PathLike = str | os.PathLike[str]


def autolabel(
    *,
    model: object,
    labeled: object,
    unlabeled: object,
    out: PathLike,
    validation: object = None,
    threshold: Threshold | float | None = Fixed(),  # noqa: B008 - frozen
    targets: Literal["soft", "hard"] = "soft",
    max_per_class: int | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    bits: int | None = None,
    outputs: OutputKind | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    round: int = 1,
    batch_size: int = 256,
    limit: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Analysis:
    """Label the unlabelled images with `model`, keep the labels it is confident of, and write everything to `out`.

    The model's confidence is calibrated on labelled images that it was not trained on. These are the `validation`
    images, or else a share of `labeled`; `selftrain.held_out` says which ones to leave out of training.

    Args:
      - `model`: a Keras model, a torch module, the folder of a model that selftrain saved, the path of your own in a
        format of docs/data.md, or any callable. A callable gets a numpy batch (n, ...) and returns logits or
        probabilities (n, classes).
      - `labeled`: a folder of class folders, a tuple (images, labels), or a tf.data.Dataset, DataLoader or other
        iterable of pairs, batched or not. Labels are class indices, one-hot rows or names. Images are arrays of one
        shape and type (uint8 or float), in the range that the model reads.
      - `unlabeled`: a folder, an array (n, ...), a list of images or paths, or an iterable of any length. It is read
        once, in chunks, and never held in memory.
      - `out`: the folder to write. It must be new or empty, or left by a call that failed before it labelled anything.
      - `validation`: labelled images to judge the model on, given like `labeled`. None: hold out a share of `labeled`.
      - `threshold`: the lowest confidence (0-1) to accept, None to accept every label, or a threshold of
        `selftrain.config`. Default: 0.9.
      - `targets`: what `load_from` gives as the label of an unlabelled image where labels are one-hot. "soft": the
        model's probabilities. "hard": a one-hot row.
      - `max_per_class`: the most labels to accept per class, most confident first. None: no limit.
      - `class_names`: a name for each output of the model, in order. None: those of the saved model, or else the sorted
        names of the labels. Required if the names are numbers whose order as text differs from that of their values.
      - `image_size`: the side in pixels to which files are decoded, as square uint8 RGB. None: what the model reads.
      - `bits`: how many of 16 bits the grey pictures among the files fill, such as 12. None: those of the saved model,
        or all 16; then pictures that fill fewer are left out.
      - `outputs`: "logits" or "probabilities". None: found from the answers to the held-out images.
      - `held_out`: the share (0-1) of `labeled` to judge the model on, by a hash of each image. `validation` replaces
        it.
      - `seed`: determines which images are held out.
      - `round`: the number of the self-training round, from 1. A `Quantile` threshold accepts more in later rounds.
      - `batch_size`: images per call of the model.
      - `limit`: the most unlabelled images to read; for a stream that never ends. None: all of them.
      - `resume`: continue an interrupted labelling of the same images by the same model, or return a finished one.
        False: refuse a folder that holds either.
      - `progress`: called with the number of images done, their total, and a note. None: shown on stderr.

    Returns:
        The analysis: counts, calibration, acceptance per class and warnings. It is also in `out`/analysis.json.

    Raises:
      - SourceError: images or labels are missing, unreadable or do not fit together.
      - PredictionError: `model` is not a model, does not answer logits or probabilities, or is not better than chance.
      - ConfigError: an argument is not allowed, or `out` holds other files or is being written by another call.

    Example:
        A model that sees the brightness of the whole image, where the label is that of the left half:

        >>> import numpy as np
        >>> import selftrain
        >>> images = np.random.default_rng(0).integers(0, 256, (400, 4, 4), np.uint8)
        >>> labels = (images[:, :, :2].mean(axis=(1, 2)) > 128).astype(int)
        >>> def model(batch):
        ...     logit = batch.mean(axis=(1, 2)) - 128.0
        ...     return np.stack([-logit, logit], axis=1)
        >>> analysis = selftrain.autolabel(
        ...     model=model, labeled=(images[:300], labels[:300]), unlabeled=images[300:], out="labels"
        ... )
        >>> analysis.counts.unlabeled, analysis.counts.accepted, analysis.outputs
        (100, 19, 'logits')
    """
    from selftrain.api import labeling

    settings = settings_of(
        threshold=threshold,
        targets=targets,
        max_per_class=max_per_class,
        batch_size=batch_size,
        class_names=class_names,
        round=round,
        held_out=held_out,
        seed=seed,
        outputs=outputs,
        limit=limit,
        bits=bits,
    )
    images = labeling.LabelingImages(labeled, unlabeled, validation, image_size, limit)
    return labeling.autolabel(model, images, settings, out=user_path(out), resume=resume, progress=progress)


def fit(
    *,
    labeled: object = None,
    unlabeled: object = None,
    validation: object = None,
    test: object = None,
    experiment: Experiment | None = None,
    settings: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    out: PathLike,
    workspace: PathLike = ".selftrain",
    progress: Progress = silent,
) -> FitResult:
    """Train a teacher, then larger students on pseudo-labels until the gate ends the loop, and evaluate on test once.

    Images are either all folders, or all arrays, lists or streams as in `autolabel`. Arrays are grey or RGB, with
    values in 0-255 or 0-1.

    Args:
      - `labeled`: class folders, or images (n, height, width[, channels]) with labels (n,). None: `experiment` brings
        its own source.
      - `unlabeled`: a folder or images without labels.
      - `validation`: labelled images for the gate. None: split off `labeled`.
      - `test`: labelled images for the report. None: split off `labeled`.
      - `experiment`: all settings, as `selftrain run --config` reads them. None: what `selftrain init` would choose for
        these images.
      - `settings`: changes to these settings, such as {"gate": {"target": 0.95}}.
      - `class_names`: the names of labels that are numbers, in order; labels that are names must be among them.
      - `out`: the folder for the results. It must be new or empty, and not the current folder.
      - `workspace`: the folder for the data set, decoded images and checkpoints, which may not lie in `out`. An
        `experiment` brings its own.
      - `progress`: called with the units done, their total, and a note such as "round 1, student: loss 0.41".

    Returns:
        The record of the run and the folder of the best model. The record has the fields of `selftrain status --json`;
        those of the registry, tracking and data versions are empty. `out` holds model/, record.json, evaluation.json,
        pseudo_labels.parquet and experiment.json. After a kill, the same call continues the training where it stopped.

    Raises:
      - SourceError: images or labels do not fit together, or no unlabelled image is left to learn from.
      - ConfigError: a setting is not allowed, or an argument would not be used.
      - WithdrawnError: `selftrain recall` withdrew the model of `teacher.start`, or one that it was trained from.
      - SelftrainError: any other expected failure; it is the base of all these errors.

    Example:
        150 labelled and 150 unlabelled digits, with trainings too short to be of use:

        >>> import selftrain
        >>> from sklearn.datasets import load_digits
        >>> digits = load_digits()
        >>> images = (digits.images * 15).astype("uint8")  # (1797, 8, 8), 0-255
        >>> short = {"steps": 12, "validate_every": 6}
        >>> result = selftrain.fit(
        ...     labeled=(images[:150], digits.target[:150]),
        ...     unlabeled=images[150:300],
        ...     settings={"teacher": short, "student": short, "gate": {"target": 0.99, "max_rounds": 1}},
        ...     out="fitted",
        ... )
        >>> result.record.status, result.model.name
        ('completed', 'model')
    """
    from selftrain.api import fitting
    from selftrain.api.fit_images import images_of_call

    images = images_of_call(labeled, unlabeled, validation, test, class_names)
    where, place = user_path(workspace), user_path(out)
    return fitting.fit(images, experiment, changes=settings or {}, workspace=where, out=place, progress=progress)


def analyze_data_then_save_to(
    model: object, labeled_training_data: object, unlabeled_training_data: object, path: PathLike
) -> Analysis:
    """Call `autolabel` with its defaults. The name and the arguments are those that users of Masterful know.

    Args:
      - `model`: the model, as in `autolabel`.
      - `labeled_training_data`: labelled images, as `labeled` of `autolabel`.
      - `unlabeled_training_data`: unlabelled images, as `unlabeled` of `autolabel`.
      - `path`: the folder to write, as `out` of `autolabel`.

    Returns:
        The analysis, as from `autolabel`.

    Raises:
      - SourceError, PredictionError, ConfigError: as `autolabel` does.

    Example:
        >>> import numpy as np
        >>> import selftrain
        >>> images = np.random.default_rng(0).random((300, 8))[:, None].repeat(8, axis=1)  # (300, 8, 8), 0-1
        >>> labels = images[:, 0].argmax(axis=1)
        >>> def model(batch):
        ...     return 20 * batch[:, 0]  # logits (n, 8)
        >>> pairs = (images[:200], labels[:200])
        >>> analysis = selftrain.analyze_data_then_save_to(model, pairs, images[200:], "masterful")
        >>> len(analysis.class_names), analysis.threshold
        (8, '0.9')
    """
    return autolabel(model=model, labeled=labeled_training_data, unlabeled=unlabeled_training_data, out=path)


def held_out(images: object, *, share: float = 0.2, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Tell which of `images` `autolabel` holds out to judge a model on: leave these out of its training.

    Whether an image is held out depends only on its own bytes, `share` and `seed`.

    Args:
      - `images`: an array (n, ...), or a list of n images or image files.
      - `share`: about which share (0-1) of the images is held out.
      - `seed`: determines which images are held out.

    Returns:
        A mask (n,), True for the images that are held out.

    Raises:
      - SourceError: the images cannot be used.
      - ConfigError: `share` is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> import selftrain
        >>> images = np.arange(10 * 8 * 8).reshape(10, 8, 8) / 640
        >>> train = images[~selftrain.held_out(images)]
        >>> len(train), len(images[~selftrain.held_out(images, share=0.5)])
        (8, 6)
    """
    from selftrain.api import labeling

    return labeling.held_out(images, share=share, seed=seed)
