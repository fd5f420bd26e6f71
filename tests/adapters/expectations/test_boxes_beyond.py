"""A COCO file of images twice as large: reading cuts its boxes, and validation stops the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain import config
from selftrain.adapters.expectations.objects import validate_objects
from selftrain.adapters.expectations.validate import require_passed
from selftrain.data.ingest.ingest import ingest
from selftrain.data.ingest.report import report_ingested
from selftrain.data.sources.coco import CocoImages
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import ValidationError
from selftrain.report.validation import ValidationReport

# marshmallow, that Great Expectations builds on, warns of its own next version at import.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BOXES = ([8, 8, 16, 16], [30, 20, 18, 18])
"""x, y, width and height in images of 60 x 50 pixels."""


def checked(folder: Path, *, scale: int) -> ValidationReport:
    """The validation of images whose boxes were drawn on copies that are `scale` times as large."""
    photos = folder / "photos"
    photos.mkdir()
    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 255, (50, 60, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{k}.png")
    content = {
        "images": [{"id": k, "file_name": f"{k}.png"} for k in range(12)],
        "annotations": [
            {"id": 2 * k + n, "image_id": k, "category_id": 1, "bbox": [scale * side for side in box]}
            for k in range(12)
            for n, box in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    source = config.CocoSource(annotations=str(folder / "labels.json"), images=str(photos))
    images = CocoImages(source)
    store = open_dataset(config.Place(workspace=str(folder / "work"), dataset="cells")).store
    done = ingest(images, images.scan(), store, settings=config.Ingest(), splitting=config.Splitting())
    objects = images.objects_in(done.manifest)
    share = report_ingested(done, store.quarantine_path).quarantine_share
    asked = (done.manifest, objects, images.drawn, share, config.Checks())
    return validate_objects(*asked, folder / "report", store, view=128)


def test_boxes_of_images_twice_as_large_stop_the_run(tmp_path: Path) -> None:
    report = checked(tmp_path, scale=2)
    with pytest.raises(ValidationError, match=r"12 of 24 boxes were drawn beyond .* cell at 60 40 96 76 in 0\.png"):
        require_passed(report)


def test_the_same_boxes_at_the_size_of_the_images_pass(tmp_path: Path) -> None:
    require_passed(checked(tmp_path, scale=1))
