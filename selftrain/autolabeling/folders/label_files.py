"""Labelling a folder: every image of it with class, confidence and probabilities in a CSV, and the charts."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from selftrain.autolabeling.folders.class_folders import check_class_names, check_target, materialize
from selftrain.autolabeling.folders.held_out_files import ask_held_out
from selftrain.config import PerClass, PseudoLabel
from selftrain.data.sources.listing import find_images
from selftrain.errors import ConfigError, SourceError
from selftrain.evaluate.coverage import MeasuredPrecision
from selftrain.files.places import check_folder
from selftrain.learn.models.contract import Contract
from selftrain.progress import Progress, silent
from selftrain.report.chart_mark import is_our_chart
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.selection.thresholds import class_cutoffs

if TYPE_CHECKING:
    import keras

    from selftrain.learn.models.predict_files import Unread

COLUMNS = ("path", "class", "confidence", "accepted")
QUARANTINE_COLUMNS = ("path", "reason", "detail")
ROUND = 0  # of no run


@dataclass(frozen=True)
class OutputPaths:
    """Where the results go: the CSV, beside it the quarantine table, the two charts, and class folders if asked for."""

    csv: Path
    quarantine: Path
    overall: Path
    per_class: Path
    folders: Path | None


class PredictedCounts(BaseModel):
    """Images predicted as one class, and how many of them were sure enough."""

    model_config = ConfigDict(frozen=True)

    predicted: int
    accepted: int


class LabelingSummary(BaseModel):
    """What labelling a folder came to; `images` are the files found, each is in `labeled` or in `quarantined`.

    With held-out images `measured` is how right what was accepted is on them, and `findings` what to mind.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    labeled: int
    accepted: int
    quarantined: int
    threshold: str
    classes: Mapping[str, PredictedCounts]
    csv: Path
    quarantine: Path
    charts: tuple[Path, ...]
    folders: Path | None
    measured: MeasuredPrecision | None = None
    findings: tuple[str, ...] = ()


def plan_outputs(images: Path, out: Path, *, charts: Path | None = None, folders: Path | None = None) -> OutputPaths:
    """The files that labelling `images` will write: charts beside the CSV unless `charts` names a folder for them.

    Raises ConfigError before any work where something of the user's would be overwritten, a place cannot be written to
    or is asked for twice, or the next labelling would find results among the images.
    """
    beside = charts if charts is not None else out.parent
    planned = OutputPaths(
        csv=out,
        quarantine=out.with_name(f"{out.stem}.quarantine.csv"),
        overall=beside / f"{out.stem}.confidence.png",
        per_class=beside / f"{out.stem}.confidence_per_class.png",
        folders=folders,
    )
    check_folder(out.parent, option="--out")
    check_folder(beside, option="--charts")
    _check_replaceable(planned)
    if _inside(beside, images):
        raise ConfigError(
            f"the charts would lie among the images, in {beside}; give --out, or --charts, outside {images}"
        )
    if folders is not None:
        if _inside(folders, images):
            raise ConfigError(f"--materialize {folders} lies inside --images {images}; give a folder beside it")
        check_target(folders)
        check_folder(folders, option="--materialize")
    _check_apart(planned)
    return planned


def label_folder(
    model: keras.Model,
    contract: Contract,
    images: Path,
    outputs: OutputPaths,
    *,
    settings: PseudoLabel,
    labeled: Path | None = None,
    copy: bool = False,
    progress: Progress = silent,
) -> LabelingSummary:
    """Label every image below `images` as `settings` say and write `outputs`; the images stay as they are.

    Images in the class folders below `labeled`, which the model did not learn from, calibrate it and say how right the
    accepted labels are. Accepted ones are linked, or with `copy` copied, into class folders if outputs.folders is set.
    A file that cannot be decoded is in the quarantine table with its reason. Raises SourceError when there is no image,
    or none can be read, and for what `ask_held_out` refuses.
    """
    from selftrain.learn.models.predict_files import predict_files
    from selftrain.report import charts

    _check_classes(contract, settings, outputs)
    paths = image_files(images)
    size, flips = settings.batch_size, settings.flips
    held = None
    if labeled is not None:
        held = ask_held_out(model, contract, labeled, batch_size=size, flips=flips, progress=progress)
    found = predict_files(model, contract, paths, batch_size=size, flips=flips, strict_names=True, progress=progress)
    write_quarantine((*found.unread, *(held.unread if held else ())), outputs.quarantine)
    if not found.paths:
        raise SourceError(
            f"none of the {len(paths)} files in {images} can be read as an image; reasons in {outputs.quarantine}"
        )
    labels = select(
        found.paths,
        held.calibrated(found.probs) if held else found.probs,
        settings,
        round_index=ROUND,
        teacher=contract.identity,
        class_names=contract.class_names,
        held_out=held.answers if held else None,
    )
    write_labels(labels, outputs.csv)
    for path in (outputs.overall, outputs.per_class):
        path.parent.mkdir(parents=True, exist_ok=True)
    drawn = (charts.confidence_overall(labels, outputs.overall), charts.confidence_per_class(labels, outputs.per_class))
    if outputs.folders is not None:
        materialize(labels, outputs.folders, images=images, copy=copy)
    summary = _summary(labels, found.unread, outputs, drawn)
    return summary.model_copy(update={"findings": (*(held.findings if held else ()), *summary.findings)})


def image_files(folder: Path) -> tuple[str, ...]:
    """The paths of all image files below `folder`, sorted. Raises SourceError for no folder and no image."""
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder; give one with images, searched with its sub-folders")
    paths = tuple(sorted(find_images(str(folder)).paths))
    if not paths:
        raise SourceError(f"{folder} holds no image files (JPEG, PNG, WebP, BMP, GIF, TIFF); correct the path")
    return paths


def write_labels(labels: PseudoLabels, path: Path) -> None:
    """A row an image: path, class, confidence, accepted (true/false), and a column `p_<class>` a class."""
    table = labels.table
    names = [labels.class_names[label] for label in table["label"].to_pylist()]
    accepted = ["true" if each else "false" for each in table["accepted"].to_pylist()]
    confidence = (f"{each:.6f}" for each in table["confidence"].to_pylist())
    probs = ([f"{each:.6f}" for each in row] for row in labels.probs().tolist())
    rows = zip(table["image_id"].to_pylist(), names, confidence, accepted, probs, strict=True)
    header = (*COLUMNS, *(f"p_{name}" for name in labels.class_names))
    _write_rows(path, header, ((*first, *last) for *first, last in rows))


def write_quarantine(unread: Sequence[Unread], path: Path) -> None:
    """A row a file that could not be read: path, reason, detail; a header alone where all could."""
    _write_rows(path, QUARANTINE_COLUMNS, ((each.path, each.reason, each.detail) for each in unread))


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with _replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write that becomes `path` when the block ends without error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); give another --out") from error
    finally:
        with suppress(OSError):  # it must not hide why
            part.unlink(missing_ok=True)


def _check_classes(contract: Contract, settings: PseudoLabel, outputs: OutputPaths) -> None:
    if isinstance(settings.threshold, PerClass):
        class_cutoffs(settings.threshold.values, settings.threshold.default, contract.class_names)
    if outputs.folders is not None:
        check_class_names(contract.class_names)


def _summary(
    labels: PseudoLabels, unread: Sequence[Unread], outputs: OutputPaths, charts: tuple[Path, ...]
) -> LabelingSummary:
    import numpy as np

    predicted = np.bincount(labels.table["label"].to_numpy(), minlength=len(labels.class_names))
    counts: Any = zip(labels.class_names, predicted.tolist(), labels.accepted_per_class().tolist(), strict=True)
    return LabelingSummary(
        images=len(labels) + len(unread),
        labeled=len(labels),
        accepted=labels.accepted.num_rows,
        quarantined=len(unread),
        threshold=labels.threshold,
        classes={name: PredictedCounts(predicted=all_, accepted=sure) for name, all_, sure in counts},
        csv=outputs.csv,
        quarantine=outputs.quarantine,
        charts=charts,
        folders=outputs.folders,
        measured=labels.measured,
        findings=labels.findings,
    )


def _check_replaceable(planned: OutputPaths) -> None:
    """Raise ConfigError where a file that is there was not written by an earlier labelling."""
    is_labels = partial(_begins_with, columns=COLUMNS)
    is_quarantine = partial(_begins_with, columns=QUARANTINE_COLUMNS)
    for path, what, is_ours in (
        (planned.csv, "table of labels", is_labels),
        (planned.quarantine, "quarantine table", is_quarantine),
        (planned.overall, "chart of selftrain's", is_our_chart),
        (planned.per_class, "chart of selftrain's", is_our_chart),
    ):
        if os.path.lexists(path) and not is_ours(path):
            raise ConfigError(f"{path} exists and is no {what}; it was left as it is, give another --out")


def _check_apart(planned: OutputPaths) -> None:
    """Raise ConfigError where a file would lie in the way of a folder, or files in the folder for classes."""
    files = (planned.csv, planned.quarantine, planned.overall, planned.per_class)
    if planned.folders is not None:
        for file in files:
            if _inside(file, planned.folders):
                raise ConfigError(f"{file} would lie in --materialize {planned.folders}; give it a folder of its own")
    for folder in (planned.overall.parent, planned.folders):
        for file in files:
            if folder is not None and _inside(folder, file):
                raise ConfigError(f"{file} is to be a file, and {folder} a folder; give them different names")


def _begins_with(path: Path, columns: Sequence[str]) -> bool:
    """Whether `path` is a CSV whose first columns are these, and so a table that may be replaced."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(next(csv.reader(file), ()))[: len(columns)] == tuple(columns)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
