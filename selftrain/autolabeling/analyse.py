"""The analysis: a user's model labels the user's unlabelled images, and a folder holds the result."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
from selftrain.data.inputs.values import Redness
from selftrain.errors import SourceError
from selftrain.files.writing import replace
from selftrain.progress import Progress, silent
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.selection.thresholds import check_classes
from selftrain.version import __version__

LABELED, VALIDATION = "labeled", "validation"


@dataclass(frozen=True)
class _LabeledSet:
    """Labelled images with their classes (n,), and a mask (n,) of those to use.

    Two counts cover the others. `copies` are further copies of an image. `conflicting` are images whose copies have
    different labels.
    """

    reading: Reading
    labels: Ints
    usable: Mask
    copies: int
    conflicting: int


@dataclass(frozen=True)
class _Human:
    """The labelled images: their index, the judgement of the model on them, and counts of the images left out."""

    reading: Reading
    index: pa.Table
    training: Ints  # labels (k,) of the images to train on
    judgement: Judgement
    answers: Floats  # the model's answers to the held-out images
    ids: frozenset[str]  # the ids of all labelled and validation images
    copies: int
    conflicting: int
    unreadable: tuple[Unreadable, ...]


def analyse(
    model: UserModel,
    labeled: ImageStream,
    unlabeled: ImageStream,
    validation: ImageStream | None,
    folder: AnalysisFolder,
    *,
    settings: Settings,
    progress: Progress = silent,
) -> Analysis:
    """Judge the model on held-out labelled images, let it label the unlabelled ones, and write the result to `folder`.

    Images are read once, in chunks. Memory holds the answers to the unlabelled ones: 4 bytes per class and image.
    The caller must have claimed `folder` with `claim_folder`. Images that an interrupted call labelled in it are not
    labelled again. Raises SourceError, PredictionError and ConfigError.
    """
    human = _read_human(model, labeled, validation, folder, settings, progress)
    check_classes(settings.pseudo_label.threshold, human.judgement.class_names)
    check_same_model(folder, human.answers)
    index, answers, unreadable, redness = read_pool(
        model,
        unlabeled,
        folder,
        pixels=human.reading.pixels,
        outputs=human.judgement.outputs,
        columns=human.answers.shape[1],
        batch_size=settings.pseudo_label.batch_size,
        progress=progress,
    )
    index, answers, copies = without_copies(index, answers, human.ids)
    labels = _select(index, answers, human, settings)
    images = pa.concat_tables([human.index, index]).combine_chunks()
    exchanged = _channels_noted(human.reading.redness, redness)
    analysis = _analysis(
        human,
        labels,
        settings,
        copies=copies,
        unreadable=len(unreadable),
        by_hash=validation is None,
        exchanged=exchanged,
    )
    _write_unreadable(folder.unreadable_path, (*human.unreadable, *unreadable))
    KeptImages(folder.arrays, images, analysis.image_shape, analysis.image_dtype).write(folder.index_path)
    labels.write(folder.labels_path)
    folder.finish(analysis)
    shutil.rmtree(folder.unfinished, ignore_errors=True)
    return analysis


def _select(index: pa.Table, answers: Floats, human: _Human, settings: Settings) -> PseudoLabels:
    judgement = human.judgement
    return select(
        index["image_id"],
        judgement.calibrated(answers),
        settings.pseudo_label,
        round_index=settings.round,
        teacher=hashlib.sha256(human.answers.tobytes()).hexdigest(),
        class_names=judgement.class_names,
        held_out=judgement.held_out,
        prior=np.bincount(human.training, minlength=len(judgement.class_names)),
    )


def _read_human(
    model: UserModel,
    labeled: ImageStream,
    validation: ImageStream | None,
    folder: AnalysisFolder,
    settings: Settings,
    progress: Progress,
) -> _Human:
    seed, size = settings.seed, settings.pseudo_label.batch_size
    others = None if validation is None else _read_validation(model, validation, seed=seed, batch_size=size)
    share = settings.held_out if others is None else 0.0
    reading = read_labeled(
        labeled,
        model,
        role=LABELED,
        share=share,
        seed=seed,
        batch_size=size,
        arrays=folder.arrays,
        progress=progress,
    )
    if others is not None:
        reading.pixels.refuse_others(others.pixels, VALIDATION)
    basis = others or reading
    if not basis.held_out.any():
        raise SourceError(f"none of {len(basis.held_out)} labelled images is held out; {ENOUGH}")
    names = class_names_of(reading, classes=classes_of(basis.answers), given=settings.class_names, role=LABELED)
    sets = [_labeled_set(reading, names, excluded=others.ids if others else ())]
    if others is not None:
        sets.append(_labeled_set(others, names))
    training = sets[0]
    judgement = judge_model(
        model,
        basis,
        sets[-1].labels,
        sets[-1].usable,
        outputs=settings.outputs,
        class_names=names,
        batch_size=size,
    )
    return _Human(
        reading=reading,
        index=_index_of(training),
        training=training.labels[training.usable & ~reading.held_out],
        judgement=judgement,
        answers=basis.answers,
        ids=frozenset(image_id for each in sets for image_id in each.reading.ids.tolist()),
        copies=sum(each.copies for each in sets),
        conflicting=sum(each.conflicting for each in sets),
        unreadable=tuple(file for each in sets for file in each.reading.unreadable),
    )


def _index_of(images: _LabeledSet) -> pa.Table:
    """The index of the images to use, with their part and label."""
    parts = np.where(images.reading.held_out, Part.HELD_OUT.value, Part.TRAINING.value)
    index = with_values(with_values(images.reading.index, "part", parts), "label", images.labels)
    return index.filter(pa.array(images.usable))


def _read_validation(model: UserModel, validation: ImageStream, *, seed: int, batch_size: int) -> Reading:
    """The validation images, all of them held out."""
    return read_labeled(validation, model, role=VALIDATION, share=1.0, seed=seed, batch_size=batch_size, arrays=None)


def _labeled_set(reading: Reading, names: tuple[str, ...], excluded: Iterable[str] = ()) -> _LabeledSet:
    """The images of `reading`, with a mask of those to use.

    An image is used once, but not if its id is in `excluded` or its copies have different labels.
    """
    labels = class_indices(reading.labels, role=reading.role, class_names=names)
    _, first, group = np.unique(reading.ids, return_index=True, return_inverse=True)
    lowest = np.full(len(first), np.iinfo(np.int64).max)
    highest = np.full(len(first), -1)
    np.minimum.at(lowest, group, labels)
    np.maximum.at(highest, group, labels)
    conflicting = (lowest != highest)[group]
    usable = np.zeros(len(labels), np.bool_)
    usable[first] = True
    usable &= ~conflicting & ~np.isin(reading.ids, np.array(list(excluded), str))
    conflicts = int(conflicting.sum())
    return _LabeledSet(reading, labels, usable, copies=int((~usable).sum()) - conflicts, conflicting=conflicts)


def _analysis(
    human: _Human,
    labels: PseudoLabels,
    settings: Settings,
    *,
    copies: int,
    unreadable: int,
    by_hash: bool,
    exchanged: tuple[str, ...],
) -> Analysis:
    judgement, reading = human.judgement, human.reading
    counts = Counts(
        training=len(human.training),
        held_out=judgement.calibration.images,
        unlabeled=len(labels),
        accepted=labels.accepted.num_rows,
        copies=human.copies + copies,
        conflicting=human.conflicting,
        unreadable=len(human.unreadable) + unreadable,
    )
    return Analysis(
        selftrain=__version__,
        class_names=judgement.class_names,
        outputs=judgement.outputs,
        labels=label_form(reading.labels, role=LABELED),
        image_shape=reading.pixels.shape,
        image_dtype=reading.pixels.dtype,
        image_range=(reading.pixels.low, reading.pixels.high),
        files=reading.files,
        counts=counts,
        held_out_by="hash" if by_hash else "validation",
        calibration=judgement.calibration,
        threshold=labels.threshold,
        measured=labels.measured,
        coverage=labels.curve,
        targets=labels.targets,
        round=labels.round,
        classes=_class_counts(human.training, labels),
        pseudo_labels=labels.digest,
        bits=settings.bits,
        warnings=(*judgement.warnings, *exchanged, *labels.findings, *_warnings(counts, labels)),
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


def _channels_noted(labeled: Redness, unlabeled: Redness) -> tuple[str, ...]:
    """What is said where red and blue seem to be exchanged between the labelled and the unlabelled images."""
    if not labeled.is_exchanged(unlabeled):
        return ()
    return (
        f"red less blue is {labeled.mean:+.3g} on average in the labelled images, but {unlabeled.mean:+.3g} in the "
        "unlabelled ones: were some read as BGR, as OpenCV reads files? Give all as RGB",
    )


def _warnings(counts: Counts, labels: PseudoLabels) -> Iterator[str]:
    if counts.conflicting:
        yield f"{counts.conflicting} labelled images were left out: copies of one image have different labels"
    if not counts.training:
        yield "no labelled image is left to train on; hold out fewer, or give separate images as validation="
    if counts.unreadable:
        yield f"{counts.unreadable} files cannot be read; see unreadable.csv"
    if not counts.unlabeled:
        yield "no image was labelled: all unlabelled ones are copies of labelled or validation images; give others"
    if counts.unlabeled and not counts.accepted:
        yield f"no pseudo-label was accepted (threshold {labels.threshold}); the model is not confident enough"


def _write_unreadable(path: Path, unreadable: Iterable[Unreadable]) -> None:
    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("path", "reason", "detail"))
            rows.writerows((each.path, each.reason, each.detail) for each in unreadable)

    replace(path, write)
