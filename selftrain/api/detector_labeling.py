"""Labelling with a user's detector: the work behind `selftrain.autolabel_boxes`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selftrain.adapters.process.console import shown
from selftrain.autolabeling.boxes.analyse import BoxLabeling, analyse_boxes
from selftrain.autolabeling.boxes.analysis import BoxAnalysis
from selftrain.autolabeling.boxes.choosing import BoxThreshold
from selftrain.autolabeling.boxes.formats import FORMATS, BoxFormat
from selftrain.autolabeling.boxes.pictures import open_pictures
from selftrain.autolabeling.boxes.user_detector import open_detector
from selftrain.autolabeling.settings import fixed
from selftrain.config import Fixed, PerClass, TargetPrecision
from selftrain.config.arguments import names_of
from selftrain.errors import ConfigError
from selftrain.progress import Progress


@dataclass(frozen=True)
class BoxCall:
    """The detector and the images of a call, as the user gave them."""

    model: object
    unlabeled: object
    class_names: object
    labeled: Path | None
    images: Path | None


def autolabel_boxes(
    call: BoxCall,
    *,
    threshold: BoxThreshold | float | None,
    box_format: BoxFormat,
    batch_size: int,
    progress: Progress | None,
) -> BoxAnalysis:
    """See `selftrain.autolabel_boxes`. Raises PredictionError, SourceError and ConfigError."""
    if box_format not in FORMATS:
        raise ConfigError(f"box_format is {box_format!r}; give one of {', '.join(FORMATS)}")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size!r}; give a number of images from 1")
    rule = _rule(threshold)
    if call.labeled is None and (call.images is not None or isinstance(rule, TargetPrecision)):
        raise ConfigError("labeled is None; give the COCO file of labelled images, which a precision is measured on")
    names = call.class_names
    detector = open_detector(
        call.model, None if names is None else names_of(names, each="each class of the detector, in order")
    )
    pictures = open_pictures(call.unlabeled)
    labeled = None if call.labeled is None else (call.labeled, call.images or call.labeled.parent)
    how = BoxLabeling(rule, box_format, int(batch_size))
    with shown(progress, "autolabel_boxes") as show:
        return analyse_boxes(detector, pictures, labeled, how, progress=show)


def _rule(threshold: object) -> BoxThreshold:
    """A threshold of boxes; a score (0-1) or None becomes a Fixed one. Raises ConfigError for anything else."""
    if isinstance(threshold, Fixed | PerClass | TargetPrecision):
        return threshold
    cutoff = fixed(threshold)
    if cutoff is not None:
        return cutoff
    raise ConfigError(
        f"threshold is {threshold!r}; give a score from 0 to 1, None for all, or PerClass() or TargetPrecision() of "
        "selftrain.config"
    )
