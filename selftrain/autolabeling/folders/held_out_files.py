"""Held-out files: images in class folders that a model did not learn from calibrate it and show how right it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.data.manifest import LabelMap
from selftrain.data.sources.listing import find_images
from selftrain.errors import SourceError
from selftrain.evaluate.coverage import HeldOut
from selftrain.learn.models.calibrate import FEWEST, cross_fitted_probs, fit_temperature, softmax
from selftrain.learn.models.contract import Contract, file_digest
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import keras

    from selftrain.learn.models.predict_files import Unread

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeldOutFiles:
    """What a model answers to held-out files: calibrated and cross-fitted, with the files that could not be read.

    `temperature` divides the logits that the model's contract has calibrated before; `findings` are sentences on files
    that were left out: one image counts once, however many copies of it there are.
    """

    answers: HeldOut
    temperature: float
    unread: tuple[Unread, ...]
    findings: tuple[str, ...]

    def calibrated(self, probs: Floats) -> Floats:
        """Probabilities (n, classes) of the model, at the temperature that the held-out files ask for."""
        return softmax(_logits(probs), self.temperature)


def ask_held_out(
    model: keras.Model,
    contract: Contract,
    folder: Path,
    *,
    batch_size: int = 256,
    flips: bool = False,
    progress: Progress = silent,
) -> HeldOutFiles:
    """Ask `model` what it makes of the images in the class folders below `folder`.

    Raises SourceError for a folder without images or with too few, an image outside of a class folder, and a folder
    that is no class of the model.
    """
    from selftrain.learn.models.predict_files import predict_files

    paths = tuple(sorted(find_images(str(folder)).paths)) if folder.is_dir() else ()
    labels = _labels(paths, folder, contract.class_names)
    once, findings = _each_image_once(labels)
    found = predict_files(
        model, contract, once, batch_size=batch_size, flips=flips, strict_names=True, progress=progress
    )
    if len(found.paths) < FEWEST:
        raise SourceError(
            f"{len(found.paths)} of {len(paths)} files in {folder} can be used, {len(found.unread)} cannot be read as "
            f"an image; at least {FEWEST} are needed, in one sub-folder a class, and a precision of 0.9 takes 29"
            + "".join(f"; {each}" for each in findings)
        )
    truth = np.array([labels[path] for path in found.paths], np.int64)
    logits = _logits(found.probs)
    answers = HeldOut(cross_fitted_probs(logits, truth), truth)
    return HeldOutFiles(answers, fit_temperature(logits, truth), found.unread, findings)


def _logits(probs: Floats) -> Floats:
    logits: Floats = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
    return logits


def _labels(paths: tuple[str, ...], folder: Path, class_names: tuple[str, ...]) -> dict[str, int]:
    """Path -> class, by the sub-folder that a file lies in."""
    known, labels = LabelMap(class_names), {}
    for path in paths:
        first, *rest = Path(path).relative_to(folder).parts
        if not rest:
            raise SourceError(f"{path} lies in no class folder; put it into {folder}/CLASS")
        labels[path] = known.index(first)
    return labels


def _each_image_once(labels: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files of `labels` (path -> class) without copies, byte for byte, of one another; and what was left out."""
    alike: dict[str, list[str]] = {}
    for path in labels:
        alike.setdefault(_content(path), []).append(path)
    groups = [paths for paths in alike.values() if len({labels[path] for path in paths}) == 1]
    doubtful = [path for paths in alike.values() for path in paths if len({labels[each] for each in paths}) > 1]
    copies = sum(len(paths) - 1 for paths in groups)
    findings = [f"{copies} of the held-out files are copies of others, and count once"] if copies else []
    if doubtful:
        findings.append(
            f"{len(doubtful)} held-out files are left out: {doubtful[0]} lies in another class folder, too; "
            "keep the right one"
        )
    return tuple(paths[0] for paths in groups), tuple(findings)


def _content(path: str) -> str:
    """The digest of a file; of one that cannot be opened, which its reader will report, the path."""
    try:
        return file_digest(Path(path))
    except OSError:
        return path
