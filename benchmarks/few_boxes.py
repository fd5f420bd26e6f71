"""Do images without labels help a detector that has ten labelled photos?

Blood cells (BCCD): 10 photos to train on, 10 to choose by, 73 to read once, the others without labels. In each draw a
teacher learns until labels teach it no more. The student of each method and the control go on from it, for as many
image-steps. The methods were chosen on other draws of the same photos. `--seeds 1` measures one draw.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from benchmarks.photos import archive
from benchmarks.pretrained import TEACHER, TEACHER_WEIGHTS
from benchmarks.protocol import Asked
from benchmarks.record import Check, Result
from selftrain.evaluate.average_precision import Boxes

if TYPE_CHECKING:
    import keras

    from selftrain.config import DetectionMethod
    from selftrain.learn.detection.detect import Detections
    from selftrain.learn.detection.network import DetectorShape
    from selftrain.learn.detection.scenes import Scenes

CELLS = "bccd.zip"
CLASSES = ("RBC", "WBC", "Platelets")
DRAWS = 3
LABELLED, VALIDATION, TEST = 10, 10, 73
TEACHER_STEPS, STUDENT_STEPS, QUICK_STEPS = 500, 1000, 10
VIEW = 128
METHODS: tuple[DetectionMethod, ...] = ("data_distillation", "unbiased_teacher")
TARGET = 1.1
Numbers = dict[str, dict[str, float]]


def measure(asked: Asked) -> Result:
    """The draws, and the mean over them of each method's mAP and AP50 over its control's."""
    with tempfile.TemporaryDirectory() as scratch:
        labels = written(Path(scratch))
        draws = [_drawn(labels, seed, quick=asked.quick) for seed in range(1 if asked.quick else asked.seeds or DRAWS)]
    checks = tuple(
        Check(what=f"{name} of {method} over the control's", measured=ratio, relation=">=", target=TARGET)
        for method in METHODS
        for name in ("map", "ap50")
        for ratio in [float(np.mean([draw[method][name] / max(draw["control"][name], 1e-9) for draw in draws]))]
    )
    details: JsonValue = {str(seed): {arm: dict(each) for arm, each in draw.items()} for seed, draw in enumerate(draws)}
    return Result(checks=checks, details={"teacher_steps": TEACHER_STEPS, "steps": STUDENT_STEPS, "draws": details})


def written(folder: Path) -> Path:
    """The photos of the three published parts in `folder`, and one COCO file of them all."""
    images: list[dict[str, JsonValue]] = []
    objects: list[dict[str, JsonValue]] = []
    with zipfile.ZipFile(archive(CELLS)) as packed:
        files = {Path(name).name: name for name in packed.namelist() if name.endswith(".jpg")}
        for part in ("train", "val", "test"):
            content = json.loads(packed.read(f"{part}.json"))
            first, kinds = len(images) + 1, content["categories"]
            places = {each["id"]: first + place for place, each in enumerate(content["images"])}
            for each in content["images"]:
                name = Path(each["file_name"]).name
                (folder / name).write_bytes(packed.read(files[name]))
                images.append({**each, "id": places[each["id"]], "file_name": name})
            for each in content["annotations"]:
                objects.append({**each, "id": len(objects) + 1, "image_id": places[each["image_id"]]})
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": kinds}))
    return path


def _drawn(labels: Path, seed: int, *, quick: bool) -> Numbers:
    """What each arm reaches on test in one draw."""
    from selftrain.data.sources.objects.coco import read_coco
    from selftrain.learn.detection.network import DetectorShape, levels_for
    from selftrain.learn.detection.scenes import Scenes
    from selftrain.learn.detection.training import DetectorRecipe
    from selftrain.learn.detection.views import Moves
    from selftrain.selflabel.detection.choosing import BurnIn
    from selftrain.selflabel.detection.improving import (
        DetectionPlan,
        LabelledScenes,
        burnt_in,
        longer_on_labels,
        taught_student,
    )
    from selftrain.selflabel.detection.photos import longest_for, scenes_of

    cells = read_coco(labels, images=str(labels.parent), classes=CLASSES)
    rows = np.random.default_rng(seed).permutation(len(cells.images)).tolist()
    parts = np.split(rows, np.cumsum([TEST, LABELLED, VALIDATION]))
    test, train, validation, pool = (each.tolist() for each in parts)
    longest = longest_for(cells.annotations, cells.images.take(train), name="name", view=VIEW)
    scenes = LabelledScenes(*(scenes_of(cells, each, longest=longest) for each in (train, validation)))
    hidden = scenes_of(cells, pool[:8] if quick else pool, longest=longest)
    unlabelled = Scenes(hidden.images, [each.at(np.zeros(0, np.int64)) for each in hidden.objects])
    strides = levels_for(scenes.train.longer_sides())
    shape = DetectorShape(TEACHER, len(CLASSES), weights=str(archive(TEACHER_WEIGHTS)), strides=strides)
    steps = (QUICK_STEPS,) * 2 if quick else (TEACHER_STEPS, STUDENT_STEPS)
    recipes = [DetectorRecipe(steps=each, size=VIEW, moves=Moves(turns=True)) for each in steps]
    plan = DetectionPlan(*recipes, needed=BurnIn(recall=0.0 if quick else 0.3), more_burn_ins=1 if quick else 4)
    held = scenes_of(cells, test[:8] if quick else test, longest=longest)
    teacher, ready, count = burnt_in(shape, scenes, plan, seed, _said)
    found = {"teacher": _numbers(teacher, shape, held) | {"burn_ins": float(count)}}
    found["control"] = _numbers(longer_on_labels(teacher, shape, scenes, plan, seed, _said), shape, held)
    for method in METHODS:
        own = DetectionPlan(**{**vars(plan), "method": method})
        thresholds = ready.thresholds or (0.5,) * len(CLASSES)
        student, watch = taught_student(teacher, shape, scenes, unlabelled, own, thresholds, seed, _said)
        found[method] = _numbers(student, shape, held) | {"boxes_a_view": watch.kept_lately()}
    return found


def _numbers(model: keras.Model, shape: DetectorShape, test: Scenes) -> dict[str, float]:
    """mAP and AP50 on `test`, by one view of each photo and by four."""
    from selftrain.learn.detection.detect import Choice, Detector
    from selftrain.learn.detection.mirrored import MirroredDetector

    asked = Detector(model, shape.strides, Choice(score=0.02, outlines=False))
    once, mirrored = _precisions(asked(test.images), test), _precisions(MirroredDetector(asked, 4)(test.images), test)
    numbers = {"map": once[0], "ap50": once[1], "map_of_four_views": mirrored[0], "ap50_of_four_views": mirrored[1]}
    print(f"    {numbers}", flush=True)
    return numbers


def _precisions(found: list[Detections], test: Scenes) -> tuple[float, float]:
    from selftrain.evaluate.detection import evaluate_detector
    from selftrain.selflabel.detection.data import marked_boxes

    report = evaluate_detector(
        [Boxes.found(each.boxes, each.classes, each.scores) for each in found],
        [marked_boxes(each) for each in test.objects],
        class_names=CLASSES,
    )
    return report.map, report.ap50


def _said(done: int, total: int, note: str = "") -> None:
    if done == total:
        print(f"    {note}", flush=True)
