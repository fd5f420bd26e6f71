"""Held-out files: images in class folders that calibrate a model and measure its accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.data.label_map import LabelMap
from selftrain.data.sources.listing import find_images
from selftrain.errors import SourceError
from selftrain.evaluate.coverage import HeldOut
from selftrain.learn.adoption.preparation import check_better_than_chance
from selftrain.learn.models.calibrate import FEWEST, cross_fitted_probs, fit_temperature, softmax
from selftrain.learn.models.contract import Contract, file_digest
from selftrain.naming import name_rows
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import keras

    from selftrain.learn.models.predict import Logits
    from selftrain.learn.models.predict_files import Unread

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeldOutFiles:
    """A model's answers to held-out files, calibrated and cross-fitted, and the files that could not be read.

    `temperature` divides logits that the model's own temperature has already calibrated. `findings` says which files
    were left out, because an image counts once, however many copies it has.
    """

    answers: HeldOut
    temperature: float
    unread: tuple[Unread, ...]
    findings: tuple[str, ...]

    def calibrated(self, probs: Floats) -> Floats:
        """The model's probabilities `probs` (n, classes), calibrated on the held-out files."""
        return softmax(_logits(probs), self.temperature)


def ask_held_out(
    network: keras.Model | Logits,
    contract: Contract,
    folder: Path,
    *,
    batch_size: int = 256,
    flips: bool = False,
    progress: Progress = silent,
) -> HeldOutFiles:
    """Let `network`, a model or its logits as a function, answer the images in the class folders of `folder`.

    Raises SourceError for too few images, an image outside a class folder, and a folder that is not named after a class
    of the model.
    """
    from selftrain.learn.models.predict_files import predict_files

    labels = class_folders(folder, contract.class_names)
    unique, findings = _unique_images(labels)
    answered = predict_files(
        network, contract, unique, batch_size=batch_size, flips=flips, as_ingest=True, progress=progress
    )
    if len(answered.paths) < FEWEST:
        first = f" (the first: {answered.unread[0].reason}: {answered.unread[0].detail})" if answered.unread else ""
        raise SourceError(
            f"{len(answered.paths)} of {len(labels)} files in {folder} can be used, {len(answered.unread)} cannot be "
            f"read as an image{first}; give at least {FEWEST}, in one sub-folder per class (a precision of 0.9 takes "
            "29)" + "".join(f"; {each}" for each in findings)
        )
    truth = np.array([labels[path] for path in answered.paths], np.int64)
    logits = _logits(answered.probs)
    answers = HeldOut(cross_fitted_probs(logits, truth), truth)
    right = int((answered.probs.argmax(axis=1) == truth).sum())
    said = f"right on {right} of {len(truth)} labelled images: accuracy {right / len(truth):.1%}"
    if contract.brought is not None:
        check_better_than_chance(answered.probs, truth, contract.class_names, called=contract.backbone)
    missing = [name for index, name in enumerate(contract.class_names) if not (truth == index).any()]
    if missing:
        findings = (
            *findings,
            f"{len(missing)} classes have no labelled image, so nothing shows how precise the model "
            f"is there: {name_rows(missing)}",
        )
    return HeldOutFiles(answers, fit_temperature(logits, truth), answered.unread, (said, *findings))


def _logits(probs: Floats) -> Floats:
    logits: Floats = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
    return logits


def class_folders(folder: Path, class_names: tuple[str, ...]) -> dict[str, int]:
    """The class of each image file below `folder`, by the class folder that holds it. Raises SourceError."""
    paths = tuple(sorted(find_images(str(folder)).paths)) if folder.is_dir() else ()
    classes, labels = LabelMap(class_names), {}
    for path in paths:
        first, *rest = Path(path).relative_to(folder).parts
        if not rest:
            raise SourceError(f"{path} is not in a class folder; move it to {folder}/CLASS")
        labels[path] = classes.index(first)
    return labels


def _unique_images(labels: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files of `labels` (path -> class) without exact copies, and sentences about the files left out."""
    copies_of: dict[str, list[str]] = {}
    for path in labels:
        copies_of.setdefault(_content(path), []).append(path)
    groups = [paths for paths in copies_of.values() if len({labels[path] for path in paths}) == 1]
    conflicts = [path for paths in copies_of.values() for path in paths if len({labels[each] for each in paths}) > 1]
    copies = sum(len(paths) - 1 for paths in groups)
    findings = [f"{copies} of the held-out files are copies of others and were left out"] if copies else []
    if conflicts:
        findings.append(
            f"{len(conflicts)} held-out files were left out: {conflicts[0]} is also in another class folder; "
            "keep the right one"
        )
    return tuple(paths[0] for paths in groups), tuple(findings)


def _content(path: str) -> str:
    """The digest of a file, or its path if it cannot be opened; reading the image will report that later."""
    try:
        return file_digest(Path(path))
    except OSError:
        return path
