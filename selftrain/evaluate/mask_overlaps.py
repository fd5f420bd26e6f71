"""Overlaps of masks: what `average_precision` does with boxes, for outlines as pycocotools has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from selftrain.evaluate.average_precision import Boxes


def mask_overlaps(found: Boxes, marked: Boxes) -> npt.NDArray[np.float64]:
    """(k, m) intersection over union of the masks of k detections and m marked objects of an image.

    Over the detection's own area for a crowd; a crowd without a mask is its box.
    """
    from pycocotools import mask as coco

    if not len(found.boxes) or not len(marked.boxes):
        return np.zeros((len(found.boxes), len(marked.boxes)))
    size = image_size(found, marked)
    some, others = _masks(found, size), _masks(marked, size)
    return np.asarray(coco.iou(some, others, marked.crowd.astype(np.uint8).tolist()), np.float64)


def _masks(objects: Boxes, size: tuple[int, int]) -> list[dict[str, Any]]:
    masks = [None] * len(objects.boxes) if objects.masks is None else objects.masks.tolist()
    return [
        segmentation(box, mask, size)["segmentation"] for box, mask in zip(objects.boxes.tolist(), masks, strict=True)
    ]


def image_size(found: Boxes, marked: Boxes) -> tuple[int, int]:
    """The height and width of an image, as the masks in it say; 0 where there are none.

    Masks that were found count too: a crowd may be marked by its box alone.
    """
    masks = [mask for each in (marked, found) if each.masks is not None for mask in each.masks]
    sizes = [mask["size"] for mask in masks if mask is not None]
    return (int(sizes[0][0]), int(sizes[0][1])) if sizes else (0, 0)


def segmentation(box: list[float], mask: dict[str, Any] | None, size: tuple[int, int]) -> dict[str, Any]:
    """A mask and its area, as COCO's annotations have them; a crowd without a mask has its box.

    `box` is x0, y0, x1, y1 in pixels, `size` height and width of the image.
    """
    from pycocotools import mask as coco

    if mask is None:
        x0, y0, x1, y1 = box
        (mask,) = coco.frPyObjects([[x0, y0, x1, y0, x1, y1, x0, y1]], *size)
    return {"segmentation": mask, "area": float(coco.area(mask))}
