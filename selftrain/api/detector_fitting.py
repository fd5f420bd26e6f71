"""Fitting a detector: what `selftrain.fit_detector` does."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.data.sources.listing import find_images
from selftrain.data.sources.objects.coco import read_coco
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.errors import ConfigError, SourceError
from selftrain.evaluate.average_precision import Boxes
from selftrain.evaluate.detection import MaskPrecisions, evaluate_masks
from selftrain.files.places import check_out
from selftrain.progress import Progress
from selftrain.selflabel.detection.answers import LOWEST_SCORE
from selftrain.selflabel.detection.data import marked_boxes
from selftrain.selflabel.detection.photos import WHOLE, Pool, longest_for, outlined, pool_of, scenes_of
from selftrain.selflabel.detection.splitting import Rows, look_alikes, split_rows
from selftrain.selflabel.detection.work import ENOUGH_OUTLINES

if TYPE_CHECKING:
    import keras

    from selftrain.learn.detection.matching import Matches
    from selftrain.learn.detection.network import DetectorShape
    from selftrain.learn.detection.scenes import Scenes
    from selftrain.selflabel.detection.improving import DetectionPlan, Improved

MODEL, RECORD = "model", "record.json"


class DetectorRecord(BaseModel):
    """What a fit did, for people and programs; APs are read at an overlap of .5, in 0-1.

    - `test`: the AP of each detector on the test images. `gain` is that of the final one over the control, `low` and
      `high` the ends of its 95 % interval.
    - `masks`: COCO's numbers of the final detector's outlines on test, with an interval; None of one without outlines.
    - `left_out`: objects that could not be used, counted by why; `unreadable` files of the pool, with the reason.
    """

    model_config = ConfigDict(frozen=True)

    class_names: tuple[str, ...]
    images: dict[str, int]
    objects: int
    left_out: dict[str, int]
    notes: tuple[str, ...]
    unreadable: dict[str, str]
    ready: str
    alarms: tuple[str, ...]
    validation: dict[str, float]
    test: dict[str, float]
    kept: str
    gain: float | None
    low: float | None
    high: float | None
    image_steps: int
    seconds: float
    masks: MaskPrecisions | None = None

    def lines(self) -> list[str]:
        """The record in sentences: what was learned from, whether the pool helped, and what to be wary of."""
        counts = ", ".join(f"{count} {name}" for name, count in self.images.items())
        said = [f"{counts}; {self.objects} objects of {len(self.class_names)} classes", f"teacher: {self.ready}"]
        said += [f"left out: {count} objects {why}" for why, count in self.left_out.items()]
        said += [f"alarm: {why}" for why in self.alarms]
        said += [f"AP at .5 on test, {name}: {value:.3f}" for name, value in self.test.items()]
        if self.masks is not None:
            ends = "" if self.masks.interval is None else " ({:.3f} to {:.3f})".format(*self.masks.interval)
            said.append(f"mAP of the outlines of {self.masks.objects} objects on test: {self.masks.map:.3f}{ends}")
        if self.gain is None:
            return [*said, "nothing was learned from the images without labels, so nothing shows whether they help"]
        low, high = self.low or 0.0, self.high or 0.0
        verdict = "helped" if low > 0 else "did harm" if high < 0 else "made no clear difference"
        over = f"{self.gain:+.3f} over the control ({low:+.3f} to {high:+.3f})"
        return [*said, f"the images without labels {verdict}: {over}"]


@dataclass(frozen=True)
class DetectorFit:
    """A finished fit: its record, and the folder with its results."""

    record: DetectorRecord
    out: Path

    @property
    def model(self) -> Path:
        """The folder of the best detector."""
        return self.out / MODEL


@dataclass(frozen=True)
class DetectorCall:
    """The arguments of `selftrain.fit_detector`, with paths as they are on disk."""

    labeled: Path
    images: str
    unlabeled: Sequence[str]
    out: Path
    backbone: str
    weights: str | None
    class_names: tuple[str, ...] | None
    view: int
    teacher_steps: int
    student_steps: int
    validation: float
    test: float
    turns: bool
    masks: bool
    seed: int


def fit_detector(call: DetectorCall, *, progress: Progress) -> DetectorFit:
    """See `selftrain.fit_detector`."""
    _check(call)
    labelled = read_coco(call.labeled, images=call.images, classes=call.class_names)
    alike = look_alikes(labelled.images["path"].to_pylist())
    rows = split_rows(labelled, validation=call.validation, test=call.test, seed=call.seed, alike=alike)
    paths = sorted(path for folder in call.unlabeled for path in find_images(folder).paths)
    pool = pool_of(paths, labelled.images["path"].to_pylist(), progress=progress)
    if not pool.paths:
        raise SourceError(
            f"{', '.join(map(repr, call.unlabeled))}: none of {len(paths)} images can be used: {pool.labelled} are "
            f"labelled ones and {len(pool.unreadable)} cannot be read; give folders with images without labels"
        )
    start_keras()
    return _fitted(call, labelled, rows, pool, progress)


def _check(call: DetectorCall) -> None:
    check_out(call.out)
    if call.out.exists() and any(call.out.iterdir()):
        raise ConfigError(f"out={str(call.out)!r} is not empty; it was left as it is, give another folder")
    if call.view < 64 or call.view % 32:
        raise ConfigError(f"view={call.view} is not a multiple of 32 from 64 on, such as 128")
    for name in ("validation", "test"):
        if not 0 < getattr(call, name) < 1:
            raise ConfigError(f"{name}={getattr(call, name)} is not between 0 and 1")
    for name in ("teacher_steps", "student_steps"):
        if getattr(call, name) < 1:
            raise ConfigError(f"{name}={getattr(call, name)} is below 1")


def _fitted(call: DetectorCall, labelled: LabelledImages, rows: Rows, pool: Pool, progress: Progress) -> DetectorFit:
    from selftrain.learn.detection.network import PROTOTYPES, DetectorShape, levels_for
    from selftrain.learn.detection.saving import DetectorContract, save_detector
    from selftrain.selflabel.detection.improving import LabelledScenes, improve

    started = time.monotonic()
    images = labelled.images.take(list(rows.train))
    longest = longest_for(labelled.annotations, images, name="name", view=call.view)
    train, validation, test = (
        scenes_of(labelled, each, longest=longest) for each in (rows.train, rows.validation, rows.test)
    )
    scenes = LabelledScenes(train, validation)
    names, strides = labelled.label_map.names, levels_for(train.longer_sides())
    enough = outlined(labelled.annotations, images, name="name") >= ENOUGH_OUTLINES
    masks = PROTOTYPES if call.masks and enough else 0
    shape = DetectorShape(call.backbone, len(names), weights=call.weights, strides=strides, masks=masks)
    plan = _plan(call)
    found = improve(shape, scenes, pool.scenes(longest=longest), plan, seed=call.seed, progress=progress)
    contract = DetectorContract(
        backbone=call.backbone,
        class_names=names,
        strides=strides,
        longest=longest,
        thresholds=dict(zip(names, found.thresholds or (), strict=False)),
        masks=masks,
        turns=call.turns,
        image_steps=_image_steps(plan, found),
        seed=call.seed,
    )
    results = _on_test(shape, found, test)
    outlines = _outlines_on_test(shape, found.final, scenes_of(labelled, rows.test, longest=WHOLE), longest)
    save_detector(found.final, contract, call.out / MODEL)
    record = _record(labelled, rows, pool, found, results, contract.image_steps, time.monotonic() - started)
    record = record.model_copy(update={"masks": outlines})
    text = json.dumps(record.model_dump(mode="json"), indent=2) + "\n"
    (call.out / RECORD).write_text(text, encoding="utf-8")
    return DetectorFit(record, call.out)


def _copies_noted(rows: Rows) -> list[str]:
    return [f"{len(rows.copies)} images were left out: they look like those held out"] if rows.copies else []


def _plan(call: DetectorCall) -> DetectionPlan:
    from selftrain.learn.detection.training import DetectorRecipe
    from selftrain.learn.detection.views import Moves
    from selftrain.selflabel.detection.improving import DetectionPlan

    teacher, student = (
        DetectorRecipe(steps=steps, size=call.view, moves=Moves(turns=call.turns))
        for steps in (call.teacher_steps, call.student_steps)
    )
    return DetectionPlan(teacher=teacher, student=student)


def _image_steps(plan: DetectionPlan, found: Improved) -> int:
    """The views that the kept detector was trained on."""
    teacher = plan.teacher.batch_size * plan.teacher.steps * found.burn_ins
    return teacher + plan.student.batch_size * plan.student.steps * found.helped


def _on_test(shape: DetectorShape, found: Improved, held: Scenes) -> dict[str, Matches]:
    from selftrain.selflabel.detection.improving import judged

    each = {"first teacher": found.teacher, "final": found.final, "control": found.control}
    return {name: judged(model, shape, held) for name, model in each.items() if model is not None}


def _outlines_on_test(shape: DetectorShape, model: keras.Model, held: Scenes, longest: int) -> MaskPrecisions | None:
    """COCO's numbers of the outlines that `model` finds in `held`, in the images' own pixels; None without outlines."""
    from selftrain.learn.detection.detect import Choice, Detector

    if not shape.masks:
        return None
    found = Detector(model, shape.strides, Choice(score=LOWEST_SCORE, longest=longest))(held.images)
    boxes = [Boxes.found(each.boxes, each.classes, each.scores, each.masks) for each in found]
    return evaluate_masks(boxes, [marked_boxes(each) for each in held.objects], classes=shape.classes)


def _record(
    labelled: LabelledImages,
    rows: Rows,
    pool: Pool,
    found: Improved,
    results: dict[str, Matches],
    image_steps: int,
    seconds: float,
) -> DetectorRecord:
    from selftrain.learn.detection.matching import gain

    apart = gain(results["final"], results["control"]) if "control" in results else (None, None, None)
    return DetectorRecord(
        class_names=labelled.label_map.names,
        images={
            "images for training": len(rows.train),
            "for validation": len(rows.validation),
            "for test": len(rows.test),
            "without labels": len(pool.paths),
        },
        objects=len(labelled.annotations),
        left_out={str(why): count for why, count in labelled.left_out.items() if count},
        notes=(*labelled.notes, *_copies_noted(rows)),
        unreadable=dict(pool.unreadable),
        ready=found.ready.why,
        alarms=tuple(each.why for each in found.alarms),
        validation=found.average_precision,
        test={name: result.average_precision() for name, result in results.items()},
        kept="student" if found.helped else "teacher",
        gain=apart[0],
        low=apart[1],
        high=apart[2],
        image_steps=image_steps,
        seconds=seconds,
    )
