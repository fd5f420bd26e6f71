"""How good are boxes and outlines of cell nuclei, learned from all labelled images?

The 538 microscopy images of the Data Science Bowl of 2018: three fifths to train on, a fifth held out for choosing
and a fifth to read once. A detector with outlines learns from the labels alone: this is what the detector can do.
Nothing was chosen on these images.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pydantic import JsonValue

from benchmarks.photos import archive
from benchmarks.pretrained import TEACHER, TEACHER_WEIGHTS
from benchmarks.record import Check, Result
from selftrain.data.annotations.run_lengths import mask_of
from selftrain.evaluate.average_precision import Boxes

if TYPE_CHECKING:
    from selftrain.evaluate.detection import DetectionReport

NUCLEI = "nuclei_dsb2018.zip"
STEPS, QUICK_STEPS = 2000, 20
VIEW, SEED = 128, 0
TARGETS = {"map": 0.40, "ap50": 0.75, "masks": 0.9}


def measure(*, quick: bool) -> Result:
    """One training, and COCO's numbers on the images that it has not seen."""
    with tempfile.TemporaryDirectory() as scratch:
        report = _measured(written(Path(scratch), limit=60 if quick else None), QUICK_STEPS if quick else STEPS)
    masks = report.masks.map if report.masks else float("nan")
    checks = (
        Check(what="box mAP", measured=report.map, relation=">=", target=TARGETS["map"]),
        Check(what="box AP50", measured=report.ap50, relation=">=", target=TARGETS["ap50"]),
        Check(what="mask mAP over box mAP", measured=masks / report.map, relation=">=", target=TARGETS["masks"]),
    )
    details: JsonValue = report.model_dump(mode="json")
    return Result(checks=checks, details={"steps": STEPS, "view": VIEW, "report": details})


def written(folder: Path, *, limit: int | None = None) -> Path:
    """A COCO file of the nuclei in `folder`, beside the images as PNG."""
    content: dict[str, list[dict[str, JsonValue]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "nucleus"}],
    }
    with zipfile.ZipFile(archive(NUCLEI)) as packed:
        names = sorted(Path(each).stem for each in packed.namelist() if each.startswith("images/") and each[-1] != "/")
        for number, name in enumerate(names[:limit], 1):
            image = Image.open(io.BytesIO(packed.read(f"images/{name}.webp"))).convert("RGB")
            image.save(folder / f"{name}.png")
            entry: dict[str, JsonValue] = {"id": number, "file_name": f"{name}.png"}
            content["images"].append(entry | {"width": image.width, "height": image.height})
            labels = np.asarray(Image.open(io.BytesIO(packed.read(f"labels/{name}.png"))))
            for each in np.unique(labels[labels > 0]):
                content["annotations"].append(_annotation(labels == each, number, len(content["annotations"]) + 1))
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def _annotation(mask: np.ndarray, image: int, number: int) -> dict[str, JsonValue]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(mask.shape), "counts": mask_of(mask).decode()},
    }


def _measured(labels: Path, steps: int) -> DetectionReport:
    from selftrain.data.sources.objects.coco import read_coco
    from selftrain.evaluate.detection import evaluate_detector
    from selftrain.learn.detection.detect import Choice, Detector
    from selftrain.learn.detection.network import PROTOTYPES, DetectorShape, build_detector, levels_for
    from selftrain.learn.detection.training import DetectorRecipe, train_detector
    from selftrain.learn.detection.views import Moves
    from selftrain.selflabel.detection.data import marked_boxes
    from selftrain.selflabel.detection.photos import longest_for, scenes_of
    from selftrain.selflabel.detection.splitting import split_rows

    labelled = read_coco(labels, images=str(labels.parent))
    rows = split_rows(labelled, validation=0.2, test=0.2, seed=SEED)
    longest = longest_for(labelled.annotations, labelled.images.take(list(rows.train)), name="name", view=VIEW)
    train = scenes_of(labelled, rows.train, longest=longest)
    strides = levels_for(train.longer_sides())
    weights = str(archive(TEACHER_WEIGHTS))
    shape = DetectorShape(TEACHER, 1, weights=weights, strides=strides, masks=PROTOTYPES)
    recipe = DetectorRecipe(steps=steps, size=VIEW, moves=Moves(turns=True))
    model = train_detector(build_detector(shape, seed=SEED), shape, recipe, train, seed=SEED, progress=_said)
    whole = scenes_of(labelled, rows.test, longest=1 << 30)
    found = Detector(model, strides, Choice(score=0.02, longest=longest))(whole.images)
    return evaluate_detector(
        [Boxes.found(each.boxes, each.classes, each.scores, each.masks) for each in found],
        [marked_boxes(each) for each in whole.objects],
        class_names=("nucleus",),
    )


def _said(done: int, total: int, note: str = "") -> None:
    if done % (total // 10) == 0:
        print(f"    step {done} of {total}, {note}", flush=True)
