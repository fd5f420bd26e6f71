"""Small real image files to ingest."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw() -> Draw:
    """`draw(path, seed, side=48)` saves a coloured pattern of its own to `path`, in the format of its name."""

    def save(path: Path, seed: int, side: int = 48, **options: object) -> Path:
        cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC).save(path, **options)
        return path

    return save


@pytest.fixture
def folders(tmp_path: Path, draw: Draw) -> Path:
    """`labeled/` with 12 cats and 12 dogs, `unlabeled/` with 10 images; all different."""
    for number in range(12):
        draw(tmp_path / "labeled" / "cat" / f"{number:02d}.png", seed=number)
        draw(tmp_path / "labeled" / "dog" / f"{number:02d}.jpg", seed=100 + number)
    for number in range(10):
        draw(tmp_path / "unlabeled" / f"{number:02d}.webp", seed=200 + number)
    return tmp_path
