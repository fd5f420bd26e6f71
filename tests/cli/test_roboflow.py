"""`selftrain init --coco FOLDER`: Roboflow's COCO export as it is, with a parent class and three splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selftrain.config import CocoSource
from selftrain.data.sources.coco import CocoImages
from tests.learn.detection.blocks import Block, box_of, paint_blocks

Command = Callable[..., Any]  # tests/conftest.py, selftrain


def part(folder: Path, *, images: int, first: int) -> None:
    """One of Roboflow's three folders: images beside their file, ids from 0, class 0 the parent of the others."""
    content: dict[str, Any] = {
        "info": {"contributor": "", "description": "Exported from roboflow.com"},
        "categories": [
            {"id": 0, "name": "blocks", "supercategory": "none"},
            {"id": 1, "name": "red", "supercategory": "blocks"},
            {"id": 2, "name": "green", "supercategory": "blocks"},
        ],
        "images": [],
        "annotations": [],
    }
    for number in range(images):
        name = f"{first + number}_png.rf.{first + number:032x}.png"
        block: Block = ((first + number) % 6, number % 4, ("red", "green")[number % 2])
        paint_blocks(folder / name, block)
        content["images"].append({"id": number, "file_name": name, "height": 64, "width": 96})
        content["annotations"].append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1 + number % 2,
                "bbox": box_of(block),
                "area": 256,
                "segmentation": [],
                "iscrowd": 0,
            }
        )
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def test_roboflows_folder_is_taken_with_its_splits(selftrain: Command, tmp_path: Path) -> None:
    for name, images, first in (("train", 12, 0), ("valid", 5, 20), ("test", 4, 40)):
        part(tmp_path / "export" / name, images=images, first=first)
    paint_blocks(tmp_path / "more" / "x.png", (2, 2, "red"), (3, 3, "green"))
    done = selftrain("init", "--coco", "export", "--unlabeled", "more", "--out", "boxes.yaml", "--json")
    assert done.code == 0, done.err
    source = CocoSource(**json.loads(done.out)["experiment"]["source"])
    found = dict(CocoImages(source).labelled)
    assert {split: len(labelled.annotations) for split, labelled in found.items()} == {
        None: 12,
        "validation": 5,
        "test": 4,
    }
    assert found[None].label_map.names == ("red", "green")
    refused = selftrain("init", "--coco", "more", "--unlabeled", "more", "--out", "other.yaml")
    assert "is a folder without train/_annotations.coco.json" in refused.err
