"""Labelling a folder: a CSV with the class, confidence and probabilities of every image, and charts."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from selftrain.autolabeling.folders.class_folders import check_class_names, check_target, materialize
from selftrain.autolabeling.folders.held_out_files import HeldOutFiles, ask_held_out
from selftrain.autolabeling.folders.pool_notes import notes_on
from selftrain.config import PerClass, PseudoLabel
from selftrain.data.sources.listing import find_images
from selftrain.errors import ConfigError, SourceError
from selftrain.evaluate.coverage import MeasuredPrecision
from selftrain.files.places import check_folder
from selftrain.files.writing import replace
from selftrain.learn.models.contract import Contract
from selftrain.progress import Progress, silent
from selftrain.report.chart_mark import is_our_chart
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.selection.thresholds import class_cutoffs

if TYPE_CHECKING:
    import keras

    from selftrain.learn.models.predict import Logits
    from selftrain.learn.models.predict_files import FilePixels, FilePredictions, Unread

COLUMNS = ("path", "class", "confidence", "accepted")
QUARANTINE_COLUMNS = ("path", "reason", "detail")
OUTSIDE_RUNS = 0  # the round of labels that were not made in a run


@dataclass(frozen=True)
class OutputPaths:
    """The paths of the results: the CSV, the quarantine table, two charts, and the folder for class folders or None."""

    csv: Path
    quarantine: Path
    overall: Path
    per_class: Path
    folders: Path | None


class PredictedCounts(BaseModel):
    """Images predicted as one class, and how many of them were accepted."""

    model_config = ConfigDict(frozen=True)

    predicted: int
    accepted: int


class LabelingSummary(BaseModel):
    """The result of labelling a folder: each of its `images` is counted as `labeled` or as `quarantined`.

    With held-out images, `measured` is the precision of the accepted labels on them. `findings` are notes to the user.
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
    """The files that labelling `images` will write. Charts go to the folder `charts`; None: beside the CSV.

    Raises ConfigError where the user's own file would be overwritten, or a path cannot be written to or is named twice.
    It is also raised where charts or class folders would be among the images, since the next labelling would read them.
    """
    chart_folder = charts if charts is not None else out.parent
    planned = OutputPaths(
        csv=out,
        quarantine=out.with_name(f"{out.stem}.quarantine.csv"),
        overall=chart_folder / f"{out.stem}.confidence.png",
        per_class=chart_folder / f"{out.stem}.confidence_per_class.png",
        folders=folders,
    )
    check_folder(out.parent, option="--out")
    check_folder(chart_folder, option="--charts")
    _check_replaceable(planned)
    if _inside(chart_folder, images):
        raise ConfigError(
            f"the charts would be among the images, in {chart_folder}; give --out, or --charts, outside {images}"
        )
    if folders is not None:
        if _inside(folders, images):
            raise ConfigError(f"--materialize {folders} is inside --images {images}; give a folder outside it")
        check_target(folders)
        check_folder(folders, option="--materialize")
    _check_apart(planned)
    return planned


def label_folder(
    network: keras.Model | Logits,
    contract: Contract,
    images: Path,
    outputs: OutputPaths,
    *,
    settings: PseudoLabel,
    files: FilePixels | None = None,
    labeled: Path | None = None,
    copy: bool = False,
    progress: Progress = silent,
) -> LabelingSummary:
    """Label every image below `images` by `settings`, and write `outputs`; the images stay as they are.

    `network` is a model, or its logits as a function. `files` are the images as `open_folder` opened them, which lets
    them be decoded while the model is loaded; None opens them here.

    Images in the class folders of `labeled` calibrate the model and measure the precision of the accepted labels. The
    model must not have been trained on them. If `outputs.folders` is set, accepted images are linked into class
    folders, or copied with `copy`. The quarantine table lists the files that cannot be decoded, with the reason.

    Raises SourceError where no image can be read, and for what `ask_held_out` refuses.
    """
    from selftrain.learn.models.predict_files import predict_opened

    _check_classes(contract, settings, outputs)
    if files is None:
        with open_folder(images, contract.image_size, bits=contract.bits) as opened:
            return label_folder(
                network,
                contract,
                images,
                outputs,
                settings=settings,
                files=opened,
                labeled=labeled,
                copy=copy,
                progress=progress,
            )
    size, flips = settings.batch_size, settings.flips
    held_out = None
    if labeled is not None:
        held_out = ask_held_out(network, contract, labeled, batch_size=size, flips=flips, progress=progress)
    answered = predict_opened(network, contract, files, batch_size=size, flips=flips, progress=progress)
    write_quarantine((*answered.unread, *(held_out.unread if held_out else ())), outputs.quarantine)
    if not answered.paths:
        raise SourceError(
            f"none of the {len(files)} files in {images} can be read as an image; {outputs.quarantine} says why"
        )
    labels = _labels(answered, contract, held_out, settings)
    write_labels(labels, outputs.csv)
    charts = _draw(labels, outputs)
    if outputs.folders is not None:
        materialize(labels, outputs.folders, images=images, copy=copy)
    notes = (*(held_out.findings if held_out else ()), *labels.findings, *notes_on(answered, images, labeled))
    return _summary(labels, answered.unread, outputs, charts, notes)


def _labels(
    answered: FilePredictions, contract: Contract, held_out: HeldOutFiles | None, settings: PseudoLabel
) -> PseudoLabels:
    return select(
        answered.paths,
        held_out.calibrated(answered.probs) if held_out else answered.probs,
        settings,
        round_index=OUTSIDE_RUNS,
        teacher=contract.identity,
        class_names=contract.class_names,
        held_out=held_out.answers if held_out else None,
    )


def _draw(labels: PseudoLabels, outputs: OutputPaths) -> tuple[Path, ...]:
    from selftrain.report import charts

    return charts.confidence_overall(labels, outputs.overall), charts.confidence_per_class(labels, outputs.per_class)


def open_folder(folder: Path, size: int, *, bits: int | None = None) -> FilePixels:
    """The pixels of all image files below `folder`, `size` per side. A `with` block begins to decode them.

    `bits` is how many of 16 bits grey pictures fill.

    Raises SourceError where there are none.
    """
    from selftrain.learn.models.predict_files import FilePixels

    return FilePixels(image_files(folder), size, as_ingest=True, bits=bits)


def image_files(folder: Path) -> tuple[str, ...]:
    """The paths of all image files below `folder`, sorted. Raises SourceError where there are none."""
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; give one with images, which is searched with its sub-folders")
    paths = tuple(sorted(find_images(str(folder)).paths))
    if not paths:
        raise SourceError(f"{folder} holds no image files (JPEG, PNG, WebP, BMP, GIF, TIFF); correct the path")
    return paths


def write_labels(labels: PseudoLabels, path: Path) -> None:
    """Write a row per image: path, class, confidence, accepted (true/false), and a column `p_<class>` per class."""
    table = labels.table
    names = [labels.class_names[label] for label in table["label"].to_pylist()]
    accepted = ["true" if each else "false" for each in table["accepted"].to_pylist()]
    confidence = (f"{each:.6f}" for each in table["confidence"].to_pylist())
    probs = ([f"{each:.6f}" for each in row] for row in labels.probs().tolist())
    rows = zip(table["image_id"].to_pylist(), names, confidence, accepted, probs, strict=True)
    header = (*COLUMNS, *(f"p_{name}" for name in labels.class_names))
    _write_rows(path, header, ((*first, *last) for *first, last in rows))


def write_quarantine(unread: Sequence[Unread], path: Path) -> None:
    """Write a row per file that could not be read: path, reason, detail. Where all could be read, write the header."""
    _write_rows(path, QUARANTINE_COLUMNS, ((each.path, each.reason, each.detail) for each in unread))


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, write)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); give another --out") from error


def _check_classes(contract: Contract, settings: PseudoLabel, outputs: OutputPaths) -> None:
    if isinstance(settings.threshold, PerClass):
        class_cutoffs(settings.threshold.values, settings.threshold.default, contract.class_names)
    if outputs.folders is not None:
        check_class_names(contract.class_names)


def _summary(
    labels: PseudoLabels,
    unread: Sequence[Unread],
    outputs: OutputPaths,
    charts: tuple[Path, ...],
    findings: tuple[str, ...],
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
        findings=findings,
    )


def _check_replaceable(planned: OutputPaths) -> None:
    """Raise ConfigError where an existing file was not written by an earlier labelling."""
    is_labels = partial(_begins_with, columns=COLUMNS)
    is_quarantine = partial(_begins_with, columns=QUARANTINE_COLUMNS)
    for path, what, is_ours in (
        (planned.csv, "table of labels", is_labels),
        (planned.quarantine, "quarantine table", is_quarantine),
        (planned.overall, "chart drawn by selftrain", is_our_chart),
        (planned.per_class, "chart drawn by selftrain", is_our_chart),
    ):
        if os.path.lexists(path) and not is_ours(path):
            raise ConfigError(f"{path} exists and is not a {what}, so it was left as it is; give another --out")


def _check_apart(planned: OutputPaths) -> None:
    """Raise ConfigError where a path would be both a file and a folder, or a file would be in `planned.folders`."""
    files = (planned.csv, planned.quarantine, planned.overall, planned.per_class)
    if planned.folders is not None:
        for file in files:
            if _inside(file, planned.folders):
                raise ConfigError(f"{file} would be in --materialize {planned.folders}; give that a folder of its own")
    for folder in (planned.overall.parent, planned.folders):
        for file in files:
            if folder is not None and _inside(folder, file):
                raise ConfigError(f"{file} would be a file and {folder} a folder; give them different names")


def _begins_with(path: Path, columns: Sequence[str]) -> bool:
    """Whether `path` is a CSV whose first columns are `columns`, so that it may be replaced."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(next(csv.reader(file), ()))[: len(columns)] == tuple(columns)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
