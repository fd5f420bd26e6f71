"""The work of detection: what `Task` is for classification. A teacher, its student, the control, and their numbers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selftrain.config import Detection
from selftrain.data.manifest import Split
from selftrain.errors import ConfigError, TrainingDivergedError
from selftrain.evaluate.average_precision import judge
from selftrain.evaluate.detection import Precisions
from selftrain.learn.detection.saving import DetectorContract, SavedDetector, save_detector
from selftrain.learn.models import divergence
from selftrain.selflabel.detection.answers import detections
from selftrain.selflabel.detection.data import DetectionData
from selftrain.selflabel.teaching.task import Destination

if TYPE_CHECKING:
    import keras

    from selftrain.learn.detection.keeping import Keeper
    from selftrain.learn.detection.network import DetectorShape
    from selftrain.selflabel.detection.improving import DetectionPlan, LabelledScenes

ENOUGH_OUTLINES = 0.5
"""The share of the training objects that must have an outline, so that a detector learns outlines."""


class DetectorScores(Precisions):
    """A detector's numbers on validation, and whether it may teach: the score per class from which its boxes are right.

    `thresholds` is None where it may not; `why` says it in words.
    """

    images: int
    objects: int
    thresholds: tuple[float, ...] | None
    why: str


class Taught(BaseModel):
    """How a student was taught: the boxes of a view that its teacher was sure of at the end, and those people marked.

    `alarms` are pairs of a guard's name and what it found. `diverged` says why the training gave no student.
    """

    model_config = ConfigDict(frozen=True)

    kept: float
    marked: float
    alarms: tuple[tuple[str, str], ...] = ()
    diverged: str | None = None


def train_first(
    data: DetectionData, settings: Detection, *, seed: int, into: Destination, weights: str | None = None
) -> SavedDetector:
    """A detector trained on the labels alone; longer, where it may not teach yet (the burn-in).

    `weights` says what the file of weights holds, so that a save is not continued with others.
    """
    from selftrain.learn.detection.network import PROTOTYPES, DetectorShape, levels_for
    from selftrain.selflabel.detection.improving import burnt_in

    started = time.monotonic()
    longest = data.longest(settings.view)
    scenes = _labelled(data, longest)
    strides = levels_for(scenes.train.longer_sides())
    masks = PROTOTYPES if settings.masks and data.outlined() >= ENOUGH_OUTLINES else 0
    shape = DetectorShape(
        settings.backbone, len(data.class_names), weights=settings.weights, strides=strides, masks=masks
    )
    plan = _plan(settings)
    key = _key(data, settings, seed, role=f"teacher {weights}")
    model, ready, burn_ins = burnt_in(
        shape, scenes, plan, seed, into.progress, lambda name: _keeper(into, f"{key}-{name}")
    )
    contract = DetectorContract(
        backbone=settings.backbone,
        class_names=data.class_names,
        strides=strides,
        longest=longest,
        thresholds=_named(data, ready.thresholds),
        masks=masks,
        turns=settings.turns,
        manifest_digest=data.manifest.digest,
        image_steps=burn_ins * settings.teacher_steps * settings.batch_size,
        seconds=time.monotonic() - started,
        seed=seed,
    )
    return save_detector(model, contract, into.folder)


def teach(
    data: DetectionData,
    teacher: SavedDetector,
    thresholds: Sequence[float],
    settings: Detection,
    *,
    seed: int,
    into: Destination,
    weights: str | None = None,
) -> tuple[SavedDetector, Taught]:
    """A student of `teacher` and of the labels, which goes on from `teacher`; by noisy_student, it is a new network.

    `thresholds` (classes,) are the scores from which the teacher's boxes are right often enough. `weights` says what
    the file of a new network's weights holds.
    """
    from selftrain.selflabel.detection.choosing import alarms, readiness
    from selftrain.selflabel.detection.improving import judged, marked_in_view, taught_student

    started = time.monotonic()
    scenes = _labelled(data, teacher.contract.longest)
    pool = data.scenes(Split.UNLABELED, longest=teacher.contract.longest)
    model, shape, plan = _opened(teacher, settings), _shape(teacher), _plan(settings, teacher)
    keeper = _keeper(into, _key(data, settings, seed, teacher, f"student {weights}"))
    try:
        with keeper.held():
            student, watch = taught_student(
                model, shape, scenes, pool, plan, tuple(thresholds), seed, into.progress, keeper
            )
    except TrainingDivergedError as error:  # the teacher stands in: no student came of it
        same = teacher.contract.model_copy(update=_longer(data, teacher, settings, started, seed, new=False))
        saved = save_detector(_opened(teacher, settings), same, into.folder)
        return saved, Taught(kept=0.0, marked=0.0, diverged=str(error))
    kept, marked = watch.kept_lately(), marked_in_view(scenes.train, plan.student, seed)
    rung = alarms(kept, marked, least=settings.fewest_boxes, most=settings.most_boxes)
    ready = readiness(judged(student, shape, scenes.validation), plan.needed)
    promised = {
        "thresholds": _named(data, ready.thresholds),
        "lineage": teacher.contract.taught,
        **_longer(data, teacher, settings, started, seed),
    }
    saved = save_detector(student, teacher.contract.model_copy(update=promised), into.folder)
    return saved, Taught(kept=kept, marked=marked, alarms=tuple((each.kind, each.why) for each in rung))


def train_longer(
    data: DetectionData,
    teacher: SavedDetector,
    settings: Detection,
    *,
    rounds: int,
    seed: int,
    into: Destination,
    weights: str | None = None,
) -> SavedDetector:
    """The control: the first teacher goes on for the steps of so many `rounds`, on the labels alone.

    By noisy_student, it is a new network like the students, and takes the steps of the first teacher too. If it
    diverges, the teacher stands in for it, beside a file with the reason (`divergence.reason`).
    """
    from selftrain.selflabel.detection.improving import longer_on_labels

    started = time.monotonic()
    steps = settings.student_steps * rounds
    if settings.method == "noisy_student":
        steps += teacher.contract.image_steps // settings.batch_size
    longer = settings.model_copy(update={"student_steps": steps})
    scenes = _labelled(data, teacher.contract.longest)
    model = _opened(teacher, settings)
    keeper = _keeper(into, _key(data, longer, seed, teacher, f"control {weights}"))
    plan, why = _plan(longer, teacher), None
    try:
        with keeper.held():
            control = longer_on_labels(model, _shape(teacher), scenes, plan, seed, into.progress, keeper)
    except TrainingDivergedError as error:
        control, why = _opened(teacher, settings), error.message
    promised = _longer(data, teacher, longer, started, seed, new=why is None)
    saved = save_detector(control, teacher.contract.model_copy(update=promised), into.folder)
    if why is not None:
        divergence.leave_reason(why, into.folder)
    return saved


def score(data: DetectionData, detector: SavedDetector, settings: Detection) -> DetectorScores:
    """The numbers of `detector` on validation."""
    from selftrain.selflabel.detection.choosing import readiness
    from selftrain.selflabel.detection.improving import judged

    found = detections(data, detector, Split.VALIDATION, outlines=False)
    marked = data.marked(Split.VALIDATION)
    own = judge(found, marked, classes=len(data.class_names))
    held = data.scenes(Split.VALIDATION, longest=detector.contract.longest)
    ready = readiness(judged(detector.open().model, _shape(detector), held), _plan(settings).needed)
    return DetectorScores(
        images=len(marked),
        objects=sum(int((~each.crowd).sum()) for each in marked),
        map=own.map,
        ap50=own.ap50,
        thresholds=ready.thresholds,
        why=ready.why,
    )


def _key(
    data: DetectionData, settings: Detection, seed: int, teacher: SavedDetector | None = None, role: str = "teacher"
) -> str:
    """The name of a training's checkpoints: a digest of everything that decides its result."""
    facts = (data.manifest.digest, data.objects.digest, settings.model_dump_json(), seed, role)
    return hashlib.sha256(repr((*facts, teacher.contract.identity if teacher else "")).encode()).hexdigest()[:32]


def _keeper(into: Destination, key: str) -> Keeper:
    from selftrain.learn.detection.keeping import Keeper

    return Keeper(into.checkpoints.of(key), key)


def _labelled(data: DetectionData, longest: int) -> LabelledScenes:
    from selftrain.selflabel.detection.improving import LabelledScenes

    return LabelledScenes(data.scenes(Split.TRAIN, longest=longest), data.scenes(Split.VALIDATION, longest=longest))


def _shape(detector: SavedDetector) -> DetectorShape:
    from selftrain.learn.detection.network import DetectorShape

    contract = detector.contract
    return DetectorShape(contract.backbone, len(contract.class_names), strides=contract.strides, masks=contract.masks)


def _opened(detector: SavedDetector, settings: Detection) -> keras.Model:
    """Its network. Raises ConfigError for one that `settings` do not describe."""
    if detector.contract.backbone not in settings.networks:
        raise ConfigError(
            f"detection.backbone is {settings.backbone!r}, and the teacher a {detector.contract.backbone!r}: a student "
            "goes on from its teacher's weights; give both the same backbone"
        )
    return detector.open().model


def _plan(settings: Detection, first: SavedDetector | None = None) -> DetectionPlan:
    """The plan of `settings`. A student that is a new network answers at the strides of its teacher, `first`."""
    from selftrain.learn.detection.training import DetectorRecipe
    from selftrain.learn.detection.views import Moves
    from selftrain.selflabel.detection.choosing import BurnIn
    from selftrain.selflabel.detection.improving import DetectionPlan

    teacher, student = (
        DetectorRecipe(
            steps=steps,
            size=settings.view,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            ema=settings.ema,
            moves=Moves(turns=settings.turns),
        )
        for steps in (settings.teacher_steps, settings.student_steps)
    )
    return DetectionPlan(
        teacher=teacher,
        student=student,
        needed=BurnIn(settings.burn_in_precision, settings.burn_in_recall, settings.burn_in_gain),
        more_burn_ins=settings.more_burn_ins,
        method=settings.method,
        relabel_every=settings.relabel_every,
        new=_new(settings, first) if first is not None and settings.method == "noisy_student" else None,
        weight=settings.unsup_weight,
        ramp_up=settings.ramp_up,
        ignore_from=settings.ignore_from,
        update_every=settings.update_every,
        box_regression=settings.box_regression,
    )


def _new(settings: Detection, teacher: SavedDetector) -> DetectorShape:
    backbone = settings.student_backbone or settings.backbone
    weights = settings.student_weights if settings.student_backbone else settings.weights
    return replace(_shape(teacher), backbone=backbone, weights=weights)


def _named(data: DetectionData, thresholds: Sequence[float] | None) -> dict[str, float]:
    return dict(zip(data.class_names, thresholds or (), strict=False))


def _longer(
    data: DetectionData, teacher: SavedDetector, settings: Detection, started: float, seed: int, *, new: bool = True
) -> dict[str, object]:
    """What the contract of a detector that went on from `teacher` says of its training.

    By noisy_student it is a `new` network, unless the teacher stands in for it.
    """
    own, before = settings.student_steps * settings.batch_size, teacher.contract.image_steps
    network: dict[str, object] = {"image_steps": before + own}
    if new and settings.method == "noisy_student":
        network = {"image_steps": own, "backbone": settings.student_backbone or settings.backbone}
    return {
        "manifest_digest": data.manifest.digest,
        **network,
        "seconds": time.monotonic() - started,
        "seed": seed,
    }
