"""How good is our detector beside torchvision's FCOS, from 27 labelled photos and as many processor seconds?

Cell nuclei (Data Science Bowl 2018): 27 images to train on, 108 to read once. Ours takes 2,000 steps on the labels; the
peer gets the processor seconds that these took. Both begin with the same ImageNet weights of MobileNetV2 0.35, see the
photos turned and mirrored, and answer by one look. The peer has the best of four settings by its own AP50 on test: ours
has one. `PEER_PYTHON` names a Python with torch, torchvision and h5py; Debian's python3-torchvision and python3-h5py
give one (/usr/bin/python3).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.nuclei import VIEW, written
from benchmarks.photos import SkippedError, archive
from benchmarks.pretrained import TEACHER, TEACHER_WEIGHTS
from benchmarks.record import Check, Result
from selftrain.evaluate.average_precision import Boxes

if TYPE_CHECKING:
    from selftrain.data.sources.objects.labelled import LabelledImages
    from selftrain.evaluate.detection import DetectionReport

TRAIN, TEST, SEED = 27, 108, 0
STEPS, QUICK_STEPS = 2000, 20
WIDTH = 0.35
LOWEST, WHOLE = 0.02, 1 << 30
SETTINGS = tuple((rule, side) for rule in ("adamw", "sgd") for side in (256, 512))
CHANNELS = 64  # of the peer's pyramid and head; torchvision's own 256 take four times as long a step
PEER = Path(__file__).with_name("fcos_peer.py")


def measure(*, quick: bool) -> Result:
    """One training of ours and one of the peer per setting, each with the same photos and processor seconds."""
    from selftrain.data.sources.objects.coco import read_coco

    python = os.environ.get("PEER_PYTHON", "/usr/bin/python3")
    needs = "import torchvision, h5py"
    if subprocess.run([python, "-c", needs], capture_output=True, check=False).returncode:
        raise SkippedError(f"{python} has no torchvision; name a Python that has one in PEER_PYTHON")
    with tempfile.TemporaryDirectory() as scratch:
        labels = written(Path(scratch), limit=60 if quick else None)
        labelled = read_coco(labels, images=scratch)
        train, test = _rows(labelled, quick=quick)
        ours, seconds = _ours(labelled, train, test, steps=QUICK_STEPS if quick else STEPS)
        peers = {
            f"{rule}, {side} px": _peer(labelled, train, test, python=python, seconds=seconds, rule=rule, side=side)
            for rule, side in SETTINGS[: 1 if quick else None]
        }
    name, (best, steps) = max(peers.items(), key=lambda each: each[1][0].ap50)
    print(f"    the peer's best setting: {name}, {steps} steps", flush=True)
    checks = (
        Check(what="AP50 over the peer's", measured=ours.ap50 / max(best.ap50, 1e-9), relation=">=", target=1.0),
        Check(what="mAP over the peer's", measured=ours.map / max(best.map, 1e-9), relation=">=", target=1.0),
    )
    theirs = {key: {"map": each.map, "ap50": each.ap50, "steps": many} for key, (each, many) in peers.items()}
    details = {"processor_s": round(seconds), "ours": {"map": ours.map, "ap50": ours.ap50}, "peer": theirs}
    return Result(checks=checks, details=details)


def _rows(labelled: LabelledImages, *, quick: bool) -> tuple[list[int], list[int]]:
    """The images to train on and those to read once."""
    drawn = np.random.default_rng(SEED).permutation(len(labelled.images)).tolist()
    test, train = (8, 8) if quick else (TEST, TRAIN)
    return drawn[test : test + train], drawn[:test]


def _ours(labelled: LabelledImages, train: list[int], test: list[int], *, steps: int) -> tuple[DetectionReport, float]:
    """What our detector finds, and the processor seconds of its training."""
    from selftrain.learn.detection.detect import Choice, Detector
    from selftrain.learn.detection.network import DetectorShape, build_detector, levels_for
    from selftrain.learn.detection.training import DetectorRecipe, train_detector
    from selftrain.learn.detection.views import Moves
    from selftrain.selflabel.detection.photos import longest_for, scenes_of

    longest = longest_for(labelled.annotations, labelled.images.take(train), name="name", view=VIEW)
    scenes = scenes_of(labelled, train, longest=longest)
    strides = levels_for(scenes.longer_sides())
    shape = DetectorShape(TEACHER, 1, weights=str(archive(TEACHER_WEIGHTS)), strides=strides)
    recipe = DetectorRecipe(steps=steps, size=VIEW, moves=Moves(turns=True))
    started = time.process_time()
    model = train_detector(build_detector(shape, seed=SEED), shape, recipe, scenes, seed=SEED)
    seconds = time.process_time() - started
    whole = scenes_of(labelled, test, longest=WHOLE)
    found = Detector(model, strides, Choice(score=LOWEST, longest=longest))(whole.images)
    report = _report(labelled, test, [Boxes.found(each.boxes, each.classes, each.scores) for each in found])
    print(f"    ours: {seconds:.0f} processor seconds, AP50 {report.ap50:.3f}, mAP {report.map:.3f}", flush=True)
    return report, seconds


def _peer(
    labelled: LabelledImages, train: list[int], test: list[int], *, python: str, seconds: float, rule: str, side: int
) -> tuple[DetectionReport, int]:
    """What the peer finds after so many processor seconds, and its steps."""
    paths = labelled.images["path"].to_pylist()
    boxes = [each.boxes.tolist() for each in _marked(labelled, train)]
    task: dict[str, Any] = {
        "train": [{"path": paths[at], "boxes": own} for at, own in zip(train, boxes, strict=True)],
        "test": [paths[at] for at in test],
        "weights": str(archive(TEACHER_WEIGHTS)),
        "width": WIDTH,
        "channels": CHANNELS,
        "threads": len(os.sched_getaffinity(0)),
        "seconds": seconds,
        "rule": rule,
        "side": side,
    }
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch, "task.json"), Path(scratch, "answers.json")
        asked.write_text(json.dumps(task))
        subprocess.run([python, str(PEER), str(asked), str(answered)], check=True)
        answers = json.loads(answered.read_text())
    found = [
        Boxes.found(
            np.array(each["boxes"], np.float32).reshape(-1, 4),
            np.zeros(len(each["scores"]), np.int64),
            np.array(each["scores"], np.float32),
        )
        for each in answers["found"]
    ]
    report = _report(labelled, test, found)
    said = f"{answers['steps']} steps, AP50 {report.ap50:.3f}, mAP {report.map:.3f}"
    print(f"    the peer, {rule}, {side} px: {said}", flush=True)
    return report, answers["steps"]


def _marked(labelled: LabelledImages, rows: list[int]) -> list[Boxes]:
    from selftrain.selflabel.detection.data import marked_boxes
    from selftrain.selflabel.detection.photos import objects_of

    own = objects_of(labelled.annotations, labelled.images.take(rows), name="name", longest=WHOLE)
    return [marked_boxes(each) for each in own]


def _report(labelled: LabelledImages, test: list[int], found: list[Boxes]) -> DetectionReport:
    from selftrain.evaluate.detection import evaluate_detector

    return evaluate_detector(found, _marked(labelled, test), class_names=("nucleus",))
