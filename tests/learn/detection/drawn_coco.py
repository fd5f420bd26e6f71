"""Drawn scenes as files: a COCO file with its images, and a folder of images without labels."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tests.learn.detection.drawn import NAMES, drawn_scenes


def coco(folder: Path, *, images: int, seed: int, broken: bool = False) -> Path:
    """A COCO file of drawn scenes, whose images lie in `folder`/photos."""
    (folder / "photos").mkdir(parents=True)
    scenes = drawn_scenes(images, seed=seed)
    content: dict[str, list[dict[str, object]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
    }
    for k, (image, objects) in enumerate(zip(scenes.images, scenes.objects, strict=True)):
        Image.fromarray(image).save(folder / "photos" / f"{k}.png")
        content["images"].append({"id": k, "file_name": f"{k}.png", "height": image.shape[0], "width": image.shape[1]})
        for (x0, y0, x1, y1), name in zip(objects.boxes.tolist(), objects.classes.tolist(), strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            content["annotations"].append(
                {"id": len(content["annotations"]), "image_id": k, "category_id": name + 1, "bbox": box}
            )
    if broken:
        content["annotations"][0]["bbox"] = [5, 5, 0, 10]
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def pool(folder: Path, *, images: int) -> Path:
    folder.mkdir(parents=True)
    for k, image in enumerate(drawn_scenes(images, seed=50).images):
        Image.fromarray(image).save(folder / f"{k}.png")
    return folder
