"""Drawn scenes as files: a COCO file with its images, and a folder of images without labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from selftrain.learn.shapes.outlines import as_texts
from tests.learn.detection.drawn import NAMES, drawn_scenes


def coco(folder: Path, *, images: int, seed: int, broken: bool = False, outlines: bool = False) -> Path:
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
        assert objects.outlines is not None
        named = zip(objects.boxes.tolist(), objects.classes.tolist(), objects.outlines, strict=True)
        for (x0, y0, x1, y1), name, outline in named:
            box = [x0, y0, x1 - x0, y1 - y0]
            content["annotations"].append(
                {"id": len(content["annotations"]), "image_id": k, "category_id": name + 1, "bbox": box}
            )
            if outlines:
                (text,) = as_texts(np.array([outline.whole], object))
                content["annotations"][-1]["segmentation"] = text
    if broken:
        content["annotations"][0]["bbox"] = [5, 5, 0, 10]
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def pool(folder: Path, *, images: int) -> Path:
    folder.mkdir(parents=True)
    for k, image in enumerate(drawn_scenes(images, seed=50).images):
        Image.fromarray(image).save(folder / f"{k}.png")
    return folder
