"""A detector that is right without training: it finds bright blocks of one colour that fill a cell of 16 pixels."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from PIL import Image

from selftrain.learn.detection.saving import DetectorContract, SavedDetector, save_detector

CELL = 16
BLOCKS = ("red", "green")
Block = tuple[int, int, str]
"""Column and row of a cell, and the colour of the block in it."""


def block_detector(folder: Path, *, masks: bool = False, thresholds: dict[str, float] | None = None) -> SavedDetector:
    """A saved detector of BLOCKS; its scores are .999. With `masks`, an outline is the upper half of its box."""
    image = keras.Input((None, None, 3), name="image")
    means = keras.layers.AveragePooling2D(CELL)(keras.layers.Rescaling(1 / 255)(image))
    answers = keras.layers.Conv2D(int(masks) + len(BLOCKS) + 4, 1, name="answers")
    cells = keras.layers.Reshape((-1, int(masks) + len(BLOCKS) + 4))(answers(means))
    shown = keras.layers.Conv2D(1, 1, name="prototypes")
    outputs = [cells, shown(means)] if masks else cells
    model = keras.Model(image, outputs, name="detector")
    kernel, bias = np.zeros((1, 1, 3, int(masks) + 6), np.float32), np.zeros(int(masks) + 6, np.float32)
    for place in range(len(BLOCKS)):
        column = int(masks) + place
        kernel[0, 0, :, column] = -14  # of a grey cell too
        kernel[0, 0, place, column] = 14
        bias[column] = -5
    bias[: int(masks)] = 1
    answers.set_weights([kernel, bias])
    if masks:
        shown.set_weights([np.ones((1, 1, 3, 1), np.float32), np.float32([-0.1])])
    contract = DetectorContract(
        backbone="by_hand",
        class_names=BLOCKS,
        strides=(CELL,),
        thresholds=thresholds or {},
        masks=int(masks),
    )
    return save_detector(model, contract, folder)


def paint_blocks(path: Path | None, *blocks: Block, width: int = 96, height: int = 64) -> np.ndarray:
    """A dark image with `blocks`, which is written to `path` too."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    for column, row, colour in blocks:
        cell = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        cell[:] = 0
        cell[..., BLOCKS.index(colour)] = 220
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return pixels


def box_of(block: Block) -> list[float]:
    """x, y, width and height of a block."""
    column, row, _ = block
    return [column * CELL, row * CELL, CELL, CELL]
