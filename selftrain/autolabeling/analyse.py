"""Autolabel: a user's model labels a user's unlabelled images, and what comes of it lies in a folder."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain.autolabeling.analysis import Analysis, ClassCounts, Counts
from selftrain.autolabeling.folder import AnalysisFolder
from selftrain.autolabeling.judgement import ENOUGH, Ints, Judgement, judge_model
from selftrain.autolabeling.kept_images import KeptImages, Part, with_values
from selftrain.autolabeling.labeled import Reading, class_names_of, read_labeled
from selftrain.autolabeling.pool import check_same_model, read_pool, without_copies
from selftrain.autolabeling.settings import Settings
from selftrain.autolabeling.user_model import Floats, UserModel, classes_of
from selftrain.data.inputs.held_out import Mask
from selftrain.data.inputs.images import ImageStream, Unreadable
from selftrain.data.inputs.labels import class_indices, label_form
from selftrain.errors import SourceError
from selftrain.files.writing import replace
from selftrain.progress import Progress, silent
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.selection.thresholds import check_classes

LABELED, VALIDATION = "labeled", "validation"


@dataclass(frozen=True)
class _UsedOnce:
    """Which labelled rows (n,) are used, and how many are not: further copies, and copies with different labels."""

    usable: Mask
    copies: int
    conflicting: int


@dataclass(frozen=True)
class _Human:
    """The labelled images: their index with parts and labels, what the model is worth, and what was left out."""

    reading: Reading
    index: pa.Table
    training: Ints  # labels (k,) of those to train on
    judged: Judgement
    held_answers: Floats
    known: frozenset[str]  # ids of labelled and validation images
    copies: int
    conflicting: int
    unreadable: tuple[Unreadable, ...]


def analyse(
    asked: UserModel,
    labeled: ImageStream,
    unlabeled: ImageStream,
    validation: ImageStream | None,
    folder: AnalysisFolder,
    *,
    settings: Settings,
    progress: Progress = silent,
) -> Analysis:
    """Judge the model on held-out labelled images, let it label the unlabelled ones, write all of it to `folder`.

    Images are read once, in chunks; no more than a few are in memory at a time. Of the unlabelled images the answers
    are: 4 bytes a class and image. `folder` is one that `begun` gave: what was labelled in it by the same model, with
    the same settings and images, is not labelled again.

    Raises SourceError, PredictionError and ConfigError for what does not fit.
    """
    human = _read_human(asked, labeled, validation, folder, settings)
    check_classes(settings.pseudo_label.threshold, human.judged.class_names)
    check_same_model(folder, human.held_answers)
    index, answers, unreadable = read_pool(
        asked,
        unlabeled,
        folder,
        pixels=human.reading.pixels,
        outputs=human.judged.outputs,
        columns=human.held_answers.shape[1],
        batch_size=settings.pseudo_label.batch_size,
        progress=progress,
    )
    index, answers, copies = without_copies(index, answers, human.known)
    labels = select(
        index["image_id"],
        human.judged.calibrated(answers),
        settings.pseudo_label,
        round_index=settings.round,
        teacher=hashlib.sha256(human.held_answers.tobytes()).hexdigest(),
        class_names=human.judged.class_names,
        held_out=human.judged.held_out,
        prior=np.bincount(human.training, minlength=len(human.judged.class_names)),
    )
    images = pa.concat_tables([human.index, index]).combine_chunks()
    found = _analysis(human, labels, settings, copies=copies, unreadable=len(unreadable), by_hash=validation is None)
    _write_unreadable(folder.unreadable_path, (*human.unreadable, *unreadable))
    KeptImages(folder.arrays, images, found.image_shape, found.image_dtype).write(folder.index_path)
    labels.write(folder.labels_path)
    folder.finish(found)
    shutil.rmtree(folder.unfinished, ignore_errors=True)
    return found


def _read_human(
    asked: UserModel, labeled: ImageStream, validation: ImageStream | None, folder: AnalysisFolder, settings: Settings
) -> _Human:
    seed, size = settings.seed, settings.pseudo_label.batch_size
    apart = None if validation is None else _judged_images(asked, validation, seed=seed, batch_size=size)
    share = settings.held_out if apart is None else 0.0
    reading = read_labeled(labeled, asked, role=LABELED, share=share, seed=seed, batch_size=size, arrays=folder.arrays)
    held = apart or reading
    if apart is not None:
        reading.pixels.refuse_others(apart.pixels, VALIDATION)
    if not held.held.any():
        raise SourceError(f"none of {len(held.held)} labelled images is held out; {ENOUGH}")
    names = class_names_of(reading, classes=classes_of(held.answers), given=settings.class_names, role=LABELED)
    labels = class_indices(reading.labels, role=LABELED, class_names=names)
    taken = frozenset(apart.ids.tolist()) if apart is not None else frozenset()
    used = judging = _used_once(reading.ids, labels, taken)
    theirs, counted = labels, [used]
    if apart is not None:
        theirs = class_indices(apart.labels, role=VALIDATION, class_names=names)
        judging = _used_once(apart.ids, theirs, frozenset())
        counted = [used, judging]
    outputs = settings.outputs
    judged = judge_model(held, theirs, judging.usable, asked, outputs=outputs, class_names=names, batch_size=size)
    parts = np.where(reading.held, Part.HELD_OUT.value, Part.TRAINING.value)
    index = with_values(with_values(reading.index, "part", parts), "label", labels)
    return _Human(
        reading=reading,
        index=index.filter(pa.array(used.usable)),
        training=labels[used.usable & ~reading.held],
        judged=judged,
        held_answers=held.answers,
        known=taken | frozenset(reading.ids.tolist()),
        copies=sum(each.copies for each in counted),
        conflicting=sum(each.conflicting for each in counted),
        unreadable=(*reading.unreadable, *(apart.unreadable if apart is not None else ())),
    )


def _judged_images(asked: UserModel, validation: ImageStream, *, seed: int, batch_size: int) -> Reading:
    """All of the validation images, held out."""
    return read_labeled(validation, asked, role=VALIDATION, share=1.0, seed=seed, batch_size=batch_size, arrays=None)


def _used_once(ids: npt.NDArray[np.object_], labels: Ints, taken: frozenset[str]) -> _UsedOnce:
    """Of labelled rows (n,) those that are the first of their image, not `taken`, and labelled as its copies are."""
    _, first, group = np.unique(ids.astype(str), return_index=True, return_inverse=True)
    lowest = np.full(len(first), np.iinfo(np.int64).max)
    highest = np.full(len(first), -1)
    np.minimum.at(lowest, group, labels)
    np.maximum.at(highest, group, labels)
    torn = (lowest != highest)[group]
    usable = np.zeros(len(ids), np.bool_)
    usable[first] = True
    usable &= ~torn & ~np.array([image_id in taken for image_id in ids.tolist()], np.bool_)
    conflicting = int(torn.sum())
    return _UsedOnce(usable, copies=int((~usable).sum()) - conflicting, conflicting=conflicting)


def _analysis(
    human: _Human, labels: PseudoLabels, settings: Settings, *, copies: int, unreadable: int, by_hash: bool
) -> Analysis:
    from selftrain.version import __version__

    judged, reading = human.judged, human.reading
    counts = Counts(
        training=len(human.training),
        held_out=judged.calibration.images,
        unlabeled=len(labels),
        accepted=labels.accepted.num_rows,
        copies=human.copies + copies,
        conflicting=human.conflicting,
        unreadable=len(human.unreadable) + unreadable,
    )
    return Analysis(
        selftrain=__version__,
        class_names=judged.class_names,
        outputs=judged.outputs,
        labels=label_form(reading.labels, role=LABELED),
        image_shape=reading.pixels.shape,
        image_dtype=reading.pixels.dtype,
        image_range=(reading.pixels.low, reading.pixels.high),
        files=reading.files,
        counts=counts,
        held_out_by="hash" if by_hash else "validation",
        calibration=judged.calibration,
        threshold=labels.threshold,
        measured=labels.measured,
        coverage=labels.curve,
        targets=labels.targets,
        round=labels.round,
        classes=_class_counts(human.training, labels),
        pseudo_labels=labels.digest,
        warnings=(*judged.warnings, *labels.findings, *_warnings(counts, labels)),
    )


def _class_counts(labeled: Ints, labels: PseudoLabels) -> dict[str, ClassCounts]:
    classes = len(labels.class_names)
    columns = zip(
        labels.class_names,
        np.bincount(labeled, minlength=classes).tolist(),
        np.bincount(labels.table["label"].to_numpy(), minlength=classes).tolist(),
        labels.accepted_per_class().tolist(),
        labels.cutoffs,
        strict=True,
    )
    return {
        name: ClassCounts(labeled=human, predicted=predicted, accepted=accepted, cutoff=cutoff)
        for name, human, predicted, accepted, cutoff in columns
    }


def _warnings(counts: Counts, labels: PseudoLabels) -> Iterator[str]:
    if counts.conflicting:
        yield f"{counts.conflicting} labelled images left out: copies of one image have different labels"
    if not counts.training:
        yield "no labelled image is left to train on; hold fewer out, or give those to judge on as validation="
    if counts.unreadable:
        yield f"{counts.unreadable} files cannot be read; see unreadable.csv"
    if not counts.unlabeled:
        yield "no image was labelled: all unlabelled ones are copies of labelled or validation images; give others"
    if counts.unlabeled and not counts.accepted:
        yield f"no pseudo-label was accepted (threshold {labels.threshold}); the model is not sure enough"


def _write_unreadable(path: Path, unreadable: Iterable[Unreadable]) -> None:
    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("path", "reason", "detail"))
            rows.writerows((each.path, each.reason, each.detail) for each in unreadable)

    replace(path, write)
