"""Do images without labels help a detector that has few labelled photos?

In each draw of a set some photos are to train on, some to choose by and some to read once; the others have no labels. A
teacher learns until labels teach it no more. The student of each method and the control go on from it, for as many
image-steps. The methods were chosen on other draws of the blood cells. `FEW_BOXES="cells 20, nuclei 27"` measures those
sets instead of blood cells with 10 labels; what the record holds of others stays. `--seeds 1` measures one draw.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from benchmarks import nuclei
from benchmarks.photos import archive
from benchmarks.pretrained import TEACHER, TEACHER_WEIGHTS
from benchmarks.protocol import Asked
from benchmarks.record import Check, Result, read
from selftrain.evaluate.average_precision import Boxes

if TYPE_CHECKING:
    import keras

    from selftrain.config import DetectionMethod
    from selftrain.learn.detection.detect import Detections
    from selftrain.learn.detection.network import DetectorShape
    from selftrain.learn.detection.scenes import Scenes

CELLS, COCO = "bccd.zip", "coco_mini_512.zip"
DRAWS, VALIDATION = 3, 10
TEACHER_STEPS, STUDENT_STEPS, QUICK_STEPS = 500, 1000, 10
VIEW = 128
METHODS: tuple[DetectionMethod, ...] = ("data_distillation", "unbiased_teacher")
Numbers = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Set:
    """Photos to draw from, and what their students should reach, as a multiple of the control's numbers."""

    photos: str
    labelled: int
    test: int
    target: float
    classes: tuple[str, ...]
    turns: bool = True


BLOOD = ("RBC", "WBC", "Platelets")
SETS = {
    "cells 10": Set("cells", 10, 73, 1.1, BLOOD),
    "cells 20": Set("cells", 20, 73, 1.1, BLOOD),
    "nuclei 5": Set("nuclei", 5, 108, 1.15, ("nucleus",)),
    "nuclei 11": Set("nuclei", 11, 108, 1.15, ("nucleus",)),
    "nuclei 27": Set("nuclei", 27, 108, 1.05, ("nucleus",)),
    "nuclei 54": Set("nuclei", 54, 108, 1.0, ("nucleus",)),
    "person 48": Set("person", 48, 96, 1.0, ("person",), turns=False),
}
"""Of 430 nuclei images without the test part, 5 to 54 are 1, 2, 5 and 10 %; 48 photos are 10 % of COCO's 482."""


def measure(asked: Asked) -> Result:
    """The draws, and the mean over them of each method's mAP and AP50 over its control's."""
    names = [each.strip() for each in os.environ.get("FEW_BOXES", "cells 10").split(",")]
    if unknown := sorted(set(names) - set(SETS)):
        raise SystemExit(f"FEW_BOXES names {unknown[0]!r}; there are {', '.join(SETS)}")
    sets = {} if asked.quick else _recorded()
    for name in names:
        print(f"  {name}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            labels = WRITTEN[SETS[name].photos](Path(scratch))
            seeds = range(1 if asked.quick else asked.seeds or DRAWS)
            sets[name] = [_drawn(labels, SETS[name], seed, quick=asked.quick) for seed in seeds]
    checks = tuple(
        Check(
            what=f"{name}: {number} of {method} over the control's",
            measured=ratio,
            relation=">=",
            target=SETS[name].target,
        )
        for name, draws in sets.items()
        for method in METHODS
        for number in ("map", "ap50")
        for ratio in [float(np.mean([draw[method][number] / max(draw["control"][number], 1e-9) for draw in draws]))]
    )
    details: JsonValue = {name: [dict(draw) for draw in draws] for name, draws in sets.items()}
    return Result(checks=checks, details={"teacher_steps": TEACHER_STEPS, "steps": STUDENT_STEPS, "sets": details})


def _recorded() -> dict[str, list[Numbers]]:
    """The draws of the sets that the record holds."""
    [known] = [each for each in read() if each.benchmark == "few_boxes"] or [None]
    sets = {} if known is None else dict(known.result.details).get("sets", {})
    return {name: draws for name, draws in sets.items() if name in SETS}


def blood_cells(folder: Path) -> Path:
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


def people(folder: Path) -> Path:
    """The photos of both published parts in `folder`, and one COCO file of the persons in them."""
    images: list[dict[str, JsonValue]] = []
    objects: list[dict[str, JsonValue]] = []
    with zipfile.ZipFile(archive(COCO)) as packed:
        for part in ("train", "val"):
            content = json.loads(packed.read(f"annotations/instances_{part}.json"))
            for each in content["images"]:
                (folder / each["file_name"]).write_bytes(packed.read(f"{part}/{each['file_name']}"))
            images += content["images"]
            objects += [each for each in content["annotations"] if each["category_id"] == 1]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": [{"id": 1, "name": "person"}]}))
    return path


WRITTEN: dict[str, Callable[[Path], Path]] = {"cells": blood_cells, "nuclei": nuclei.written, "person": people}


def _drawn(labels: Path, these: Set, seed: int, *, quick: bool) -> Numbers:
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

    cells = read_coco(labels, images=str(labels.parent), classes=these.classes)
    rows = np.random.default_rng(seed).permutation(len(cells.images)).tolist()
    parts = np.split(rows, np.cumsum([these.test, these.labelled, VALIDATION]))
    test, train, validation, pool = (each.tolist() for each in parts)
    longest = longest_for(cells.annotations, cells.images.take(train), name="name", view=VIEW)
    scenes = LabelledScenes(*(scenes_of(cells, each, longest=longest) for each in (train, validation)))
    hidden = scenes_of(cells, pool[:8] if quick else pool, longest=longest)
    unlabelled = Scenes(hidden.images, [each.at(np.zeros(0, np.int64)) for each in hidden.objects])
    strides = levels_for(scenes.train.longer_sides())
    shape = DetectorShape(TEACHER, len(these.classes), weights=str(archive(TEACHER_WEIGHTS)), strides=strides)
    steps = (QUICK_STEPS,) * 2 if quick else (TEACHER_STEPS, STUDENT_STEPS)
    recipes = [DetectorRecipe(steps=each, size=VIEW, moves=Moves(turns=these.turns)) for each in steps]
    plan = DetectionPlan(*recipes, needed=BurnIn(recall=0.0 if quick else 0.3), more_burn_ins=1 if quick else 4)
    held = scenes_of(cells, test[:8] if quick else test, longest=longest)
    teacher, ready, count = burnt_in(shape, scenes, plan, seed, _said)
    found = {"teacher": _numbers(teacher, shape, held, these) | {"burn_ins": float(count)}}
    found["control"] = _numbers(longer_on_labels(teacher, shape, scenes, plan, seed, _said), shape, held, these)
    for method in METHODS:
        own = DetectionPlan(**{**vars(plan), "method": method})
        thresholds = ready.thresholds or (0.5,) * len(these.classes)
        student, watch = taught_student(teacher, shape, scenes, unlabelled, own, thresholds, seed, _said)
        found[method] = _numbers(student, shape, held, these) | {"boxes_a_view": watch.kept_lately()}
    return found


def _numbers(model: keras.Model, shape: DetectorShape, test: Scenes, these: Set) -> dict[str, float]:
    """mAP and AP50 on `test`, by one view of each photo and by several."""
    from selftrain.learn.detection.detect import Choice, Detector
    from selftrain.learn.detection.mirrored import MirroredDetector

    asked = Detector(model, shape.strides, Choice(score=0.02, outlines=False))
    several = MirroredDetector(asked, 4 if these.turns else 2)
    once, mirrored = (_precisions(each(test.images), test, these) for each in (asked, several))
    numbers = {"map": once[0], "ap50": once[1], "map_of_views": mirrored[0], "ap50_of_views": mirrored[1]}
    print(f"    {numbers}", flush=True)
    return numbers


def _precisions(found: list[Detections], test: Scenes, these: Set) -> tuple[float, float]:
    from selftrain.evaluate.detection import evaluate_detector
    from selftrain.selflabel.detection.data import marked_boxes

    report = evaluate_detector(
        [Boxes.found(each.boxes, each.classes, each.scores) for each in found],
        [marked_boxes(each) for each in test.objects],
        class_names=these.classes,
    )
    return report.map, report.ap50


def _said(done: int, total: int, note: str = "") -> None:
    if done == total:
        print(f"    {note}", flush=True)
