"""Drawn boxes: what a detector found, on the image; each class has its colour, and each box its score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from selftrain.data.annotations.run_lengths import pixels_of

Pixels = npt.NDArray[np.uint8]
# Okabe and Ito's colours, which people tell apart who see no red or green (https://jfly.uni-koeln.de/color/).
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
LEGIBLE = 14  # pixels: on a lower box no text is drawn


def draw_boxes(
    pixels: Pixels,
    boxes: Sequence[Sequence[float]],
    classes: Sequence[int],
    *,
    class_names: Sequence[str],
    scores: Sequence[float] | None = None,
    masks: npt.NDArray[np.object_] | None = None,
) -> Image.Image:
    """The image (h, w, 3) with `boxes` (k, 4) as x0, y0, x1, y1 in its pixels, and `scores` (k,) beside them.

    `masks` (k,), run lengths as pycocotools has them, tint the objects.
    """
    image = Image.fromarray(pixels if masks is None else tinted(pixels, classes, masks))
    draw = ImageDraw.Draw(image)
    width = max(1, round(max(image.size) / 300))
    for row in range(len(boxes) - 1, -1, -1):  # the best is drawn last, and lies on top
        x0, y0, x1, y1 = boxes[row]
        colour = COLOURS[classes[row] % len(COLOURS)]
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=width)
        if y1 - y0 >= LEGIBLE:
            score = "" if scores is None else f" {scores[row]:.2f}"
            text = f"{class_names[classes[row]]}{score}"
            place = draw.textbbox((x0 + width, y0 + width), text)
            draw.rectangle(place, fill=colour)
            draw.text((x0 + width, y0 + width), text, fill="black")
    return image


def tinted(pixels: Pixels, classes: Sequence[int], masks: npt.NDArray[np.object_]) -> Pixels:
    """The image (h, w, 3) with the inside of each mask (k,) half in its class's colour."""
    out, (height, width) = pixels.copy(), pixels.shape[:2]
    for mask, name in zip(reversed(masks), reversed(classes), strict=True):
        inside = pixels_of(mask["counts"], height=height, width=width) > 0
        colour = np.array(ImageColor.getrgb(COLOURS[name % len(COLOURS)]), np.uint16)
        out[inside] = (pixels[inside].astype(np.uint16) + colour) // 2
    return out
