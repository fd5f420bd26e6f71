"""Real images to measure on: public sets under SELFTRAIN_DATA, unpacked to temporary folders."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.machine import ROOT

FLOWERS, CIFAR10, CIFAR10_TEST = "tf_flowers_s160.zip", "cifar10_train25k.zip", "cifar10_test.zip"
_TILES = (25, 40)  # CIFAR-10's sheets: rows and columns of 32 px images


class SkippedError(Exception):
    """A benchmark cannot be run here; the text says why."""


def archive(name: str) -> Path:
    """The archive `name` under SELFTRAIN_DATA. Raises SkippedError if it is not there."""
    folder = Path(os.environ.get("SELFTRAIN_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / name).is_file():
        raise SkippedError(f"there is no {name}; set SELFTRAIN_DATA to the folder that holds it")
    return folder / name


def unpack_flowers(into: Path, *, limit: int | None = None) -> list[Path]:
    """TensorFlow Flowers as class folders below `into`: all photos, or the first `limit` of each class."""
    written: dict[str, list[Path]] = {}
    with zipfile.ZipFile(archive(FLOWERS)) as packed:
        for name in sorted(each for each in packed.namelist() if each.endswith(".jpg")):
            _, kind, photo = name.split("/")
            of_class = written.setdefault(kind, [])
            if limit is None or len(of_class) < limit:
                path = into / kind / photo
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(packed.read(name))
                of_class.append(path)
    return [path for paths in written.values() for path in paths]


def cifar10(count: int, part: str = CIFAR10) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The first `count` of CIFAR-10's training (or test) images, uint8 (n, 32, 32, 3), and their labels (n,)."""
    rows, columns = _TILES
    with zipfile.ZipFile(archive(part)) as packed:
        labels = np.load(io.BytesIO(packed.read("labels.npy")))
        sheets = sorted(each for each in packed.namelist() if each.endswith(".webp"))
        parts = []
        for name in sheets[: -(-count // (rows * columns))]:
            sheet = np.asarray(Image.open(io.BytesIO(packed.read(name))).convert("RGB"))
            parts.append(sheet.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3))
    return np.concatenate(parts)[:count], labels[:count]
