"""The Python API: self-training for people with training code of their own; no pipeline, no tracking server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from selftrain.autolabeling.analysis import Analysis
from selftrain.autolabeling.folder import AnalysisFolder
from selftrain.autolabeling.training_data import (
    ChannelsFirst,
    Example,
    LabeledImages,
    LabelKind,
    LoadedPart,
    load_analysis,
)
from selftrain.autolabeling.user_model import OutputKind
from selftrain.config import Experiment, Fixed, Threshold
from selftrain.errors import ConfigError
from selftrain.files.places import user_path
from selftrain.learn.distillation import distill as distilling
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import grain
    import tensorflow as tf

    from selftrain.api.fitting import FitResult
    from selftrain.data.inputs.images import ImageStream

PathLike = str | os.PathLike[str]
P = ParamSpec("P")
R = TypeVar("R")


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
    outputs: OutputKind | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    round: int = 1,
    batch_size: int = 256,
    resume: bool = False,
    progress: Progress = silent,
) -> Analysis:
    """Let `model` label the unlabelled images, keep the labels it is sure enough of, and write all of it to `out`.

    `model`: a Keras model, a torch module, the folder of a model saved by selftrain, or any callable from a numpy batch
    to logits or probabilities (n, classes); which of the two is found out, or said by `outputs`. Of a model that
    answers probabilities, rows that are none are refused.

    `labeled`: a folder of class folders, a tuple (images, labels), or a tf.data.Dataset, DataLoader or other iterable
    of pairs, batched or not. Labels are class indices, one-hot rows or names. `unlabeled`: a folder, an array, a list
    of images or paths, or an iterable of any length; it is read once, in chunks, and never held in memory. Images are
    arrays of one shape and type, uint8 or float, as the model reads them; files are decoded to squares of `image_size`
    pixels (None: what the model reads), uint8 RGB.

    The model's confidence is calibrated on labelled images that it should not have been trained on: those of
    `validation`, or the share `held_out` of `labeled` by a hash of the image and `seed` - `selftrain.held_out` says
    which, so that you can leave them out of training. `threshold` is a confidence, None (all), or a threshold of
    selftrain.config; `max_per_class` a quota. `class_names` are those of the model's outputs, in their order; None: the
    sorted names of the labels; they are needed where names are numbers whose text sorts otherwise than their values.

    Returns the analysis, which is also `out`/analysis.json. An `out` that holds anything is refused, but for what a
    call left that failed before the first image was labelled; with `resume` an interrupted labelling of the same images
    by the same model goes on where it was. One that another call is writing is refused.

    Raises SourceError, PredictionError and ConfigError (all SelftrainError) with what came in and what to do.
    """
    from selftrain.api.user_models import open_user_model
    from selftrain.autolabeling.analyse import analyse
    from selftrain.autolabeling.folder import claim_folder
    from selftrain.autolabeling.settings import settings_of
    from selftrain.config.arguments import check_image_size
    from selftrain.data.inputs.opening import open_images

    if image_size is not None:
        check_image_size(image_size)
    asked, names = open_user_model(model)
    settings = settings_of(
        threshold=threshold,
        targets=targets,
        max_per_class=max_per_class,
        batch_size=batch_size,
        class_names=names if class_names is None else class_names,
        round=round,
        held_out=held_out,
        seed=seed,
        outputs=outputs,
    )
    if settings.held_out == 0 and validation is None:
        raise ConfigError("held_out is 0; it should be greater than 0, or give validation=")
    rank = None if asked.input_shape is None else len(asked.input_shape)

    def opened(given: object, role: str, *, labels: bool) -> ImageStream:
        size, channels = image_size or asked.side, asked.channels
        return open_images(given, role=role, labeled=labels, image_rank=rank, image_size=size, channels=channels)

    human, pool = opened(labeled, "labeled", labels=True), opened(unlabeled, "unlabeled", labels=False)
    judging = None if validation is None else opened(validation, "validation", labels=True)
    folder = AnalysisFolder(user_path(out))
    with claim_folder(folder, settings, resume=resume) as finished:
        if finished:
            return folder.read()
        return analyse(asked, human, pool, judging, folder, settings=settings, progress=progress)


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
    """The whole loop in one call: teacher, pseudo-labels, larger student, until the gate; then test, read once.

    `labeled` and `unlabeled` are folders, or arrays, lists or streams as `autolabel` takes them (grey or RGB, 0-255 or
    0-1); `validation` and `test` are labelled ones for the gate and the report, else split off `labeled`. Without an
    `experiment` the settings are those that `selftrain init` would choose for these images; with one and without
    images, its own source is used. `settings` are laid over them, such as {"gate": {"target": 0.95}}. `class_names` are
    the names of labels that are numbers, in their order; labels that are names must be among them.

    Leaves in `out`, which must be empty or new, and not the folder this runs in: model/ (for `selftrain predict
    --model`), record.json, evaluation.json, pseudo_labels.parquet, experiment.json. The data set, decoded images and
    checkpoints lie in `workspace` (that of `experiment`, if there is one), which may not lie in `out`: killed and
    called again, training goes on where it was. Returns the record, with the fields of `selftrain status --json` but
    those of registry, tracking and data versions, and the model's folder.

    Raises SelftrainError (its kinds) with what came in and what to do: SourceError for images and labels that do not
    fit, and where all unlabelled images are copies of others; ConfigError for settings, and for arguments that would
    not be used; WithdrawnError for a `teacher.start` that `selftrain recall` withdrew, or that such a one taught.
    """
    from selftrain.api import fitting

    images = fitting.images_of_call(labeled, unlabeled, validation, test, class_names)
    where, place = user_path(workspace), user_path(out)
    return fitting.fit(images, experiment, changes=settings or {}, workspace=where, out=place, progress=progress)


def _refusing_withdrawn(train: Callable[P, R]) -> Callable[P, R]:
    """`train`, once the recall log of its `workspace` was asked about its `teacher`: the core knows no log."""

    @wraps(train)
    def asked(*args: P.args, **kwargs: P.kwargs) -> R:
        from selftrain.adapters.registry.recall_log import ANOTHER_TEACHER, descent_at, refuse_given

        given = signature(train).bind(*args, **kwargs)
        given.apply_defaults()
        teacher, workspace = (user_path(given.arguments[name]) for name in ("teacher", "workspace"))
        if teacher.is_dir():  # else it is no model, which loading it says
            refuse_given(descent_at(teacher), str(teacher), workspace, advice=ANOTHER_TEACHER)
        return train(*args, **kwargs)

    return asked


distill = _refusing_withdrawn(distilling.distill)


def analyze_data_then_save_to(
    model: object, labeled_training_data: object, unlabeled_training_data: object, path: PathLike
) -> Analysis:
    """`autolabel` with its defaults, under the name and with the arguments that users of Masterful know."""
    return autolabel(model=model, labeled=labeled_training_data, unlabeled=unlabeled_training_data, out=path)


def load_from(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
    seed: int | None = 0,
) -> tf.data.Dataset:
    """What `autolabel` left at `path` as an unbatched tf.data.Dataset of (x, y), or of (x, y, w) with a weight.

    x is an image as it was given, y its label: a person's, or the model's where it was sure enough. `labels` says how
    they are written: "index" (int64), "one_hot" or "soft" (float32 (classes,): the model's probabilities); None: as the
    labelled ones were given, names as indices. w is 1 for a person's label and `unlabeled_weight` for the model's.
    `part` "held_out" gives the labelled images that the model was judged on, for validation. Each pass has an order of
    its own, drawn from `seed`; None: people's labels first.

    Raises SourceError for a folder without a finished analysis, files that are gone and a weight that is none,
    ConfigError for another `labels` or `part`.
    """
    from selftrain.api.tf_data import tf_dataset

    return tf_dataset(_loaded(path, unlabeled_weight, labels, part), seed=seed)


def as_numpy(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
) -> Example:
    """`load_from` as arrays in memory: (x, y) or (x, y, w); people's labels first. Raises as it does."""
    examples = _loaded(path, unlabeled_weight, labels, part)
    return examples.gather(np.arange(len(examples)))


def as_torch(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
    transform: Callable[[npt.NDArray[Any]], object] | None = None,
) -> ChannelsFirst:
    """`load_from` as a map-style dataset for torch's DataLoader; torch itself is not imported.

    `transform` is called with x as a numpy array, for files uint8 (height, width, 3) as torchvision's transforms want
    it. Without one the images of files are (3, height, width), and arrays stay as they were given. Raises as it does.
    """
    return ChannelsFirst(_loaded(path, unlabeled_weight, labels, part), transform)


def as_grain(
    path: PathLike,
    unlabeled_weight: float | None = None,
    *,
    labels: LabelKind | None = None,
    part: LoadedPart = "training",
) -> grain.MapDataset[Example]:
    """`load_from` as a Grain MapDataset, in the order they lie: `.seed(0).shuffle().batch(32)` is yours.

    Raises as it does.
    """
    import grain

    return grain.MapDataset.source(_loaded(path, unlabeled_weight, labels, part))


def held_out(images: object, *, share: float = 0.2, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which of `images` (n, ...), or of a list of image files, `autolabel` holds out: leave them out of training.

    A function of each image's bytes, `share` and `seed` alone, whatever else is there. Raises SourceError for images
    that do not do, ConfigError for a share that is none.
    """
    from selftrain.data.inputs.held_out import held_out_mask
    from selftrain.data.inputs.opening import ids_of

    if not 0 <= share <= 1:
        raise ConfigError(f"share is {share!r}; give a part of the images, such as 0.2")
    return held_out_mask(ids_of(images), share=share, seed=seed)


def _loaded(
    path: PathLike, unlabeled_weight: float | None, labels: LabelKind | None, part: LoadedPart
) -> LabeledImages:
    return load_analysis(AnalysisFolder(user_path(path)), part=part, unlabeled_weight=unlabeled_weight, labels=labels)
