"""Writing COCO: detections as a file that `read_coco`, and any COCO tool, reads back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftrain.data.sources.objects.coco_file import CONTRIBUTOR
from selftrain.files.writing import replace


@dataclass(frozen=True)
class FoundObjects:
    """What was found in one image: its name, size in pixels, `boxes` (k, 4) as x0, y0, x1, y1, `classes`, `scores`.

    `masks` (k,) are COCO's run lengths, dicts of `size` and `counts`, and their `areas` (k,) in pixels, if known.
    """

    name: str
    width: int
    height: int
    boxes: Sequence[Sequence[float]]
    classes: Sequence[int]
    scores: Sequence[float]
    masks: Sequence[dict[str, object]] | None = None
    areas: Sequence[float] = ()


def write_coco(
    path: Path, images: Iterable[FoundObjects], class_names: Sequence[str], *, teacher: str, round_index: int = 0
) -> int:
    """Write `images` to `path` and return how many objects they hold. All ids count from 1.

    Each annotation says that a model made it: `source` is pseudo, `teacher` its identity, and it has a `score`.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(images, 1):
        entries.append({"id": number, "file_name": each.name, "width": each.width, "height": each.height})
        found = zip(each.boxes, each.classes, each.scores, strict=True)
        for row, ((x0, y0, x1, y1), label, score) in enumerate(found):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round((x1 - x0) * (y1 - y0), 2),
                    "iscrowd": 0,
                    "score": round(score, 4),
                    "source": "pseudo",
                    "teacher": teacher,
                    "round": round_index,
                }
            )
            if each.masks is not None:
                annotations[-1] |= {"segmentation": each.masks[row], "area": each.areas[row]}
    content = {
        "info": {"contributor": CONTRIBUTOR, "description": "objects found by a model"},
        "images": entries,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(class_names)],
        "annotations": annotations,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    replace(path, lambda part: part.write_text(text, encoding="utf-8"))
    return len(annotations)
