"""The served detector: raw images in; boxes, labels and scores, or an error, out per image.

As in `served.py`, a copy of this module and of what it imports travels with each registered detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import pandas as pd

from selftrain.adapters.serving.served import MAX_PIXELS, encoded
from selftrain.data.images.decode import decode
from selftrain.errors import ImageError
from selftrain.learn.detection.detect import Detector
from selftrain.learn.detection.saving import DetectorContract, SavedDetector

COLUMNS = ("boxes", "labels", "scores", "masks", "error")
IMAGES_A_BATCH = 8


class ServedDetector(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow ships no types
    """An MLflow pyfunc around a saved detector's folder, named `model` among its artifacts."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Load the detector and check its digest. Raises UntrustedFileError where the file is another one."""
        saved = SavedDetector.read(Path(context.artifacts["model"]))
        self._contract = saved.contract
        self._detector = saved.open()

    def predict(
        self, context: mlflow.pyfunc.PythonModelContext, model_input: pd.DataFrame, params: object = None
    ) -> pd.DataFrame:
        """Answer each row of the column `image`, which is what `ServedModel.predict` takes.

        Columns: `boxes` (k, 4) as x, y, width, height in pixels of the image as it is displayed, `labels` (k,) and
        `scores` (k,), the best first; `masks` (k,), COCO's run lengths, or null of a detector without masks; and
        `error`. Either `error` is null, or all others are.
        """
        return answer(self._detector, self._contract, model_input["image"].tolist())


def answer(detector: Detector, contract: DetectorContract, images: Sequence[object]) -> pd.DataFrame:
    """One row per image, in order. For an image that cannot be read, only `error` is set, to the reason."""
    rows: list[tuple[object, ...]] = []
    for start in range(0, len(images), IMAGES_A_BATCH):
        read = [_read(image) for image in images[start : start + IMAGES_A_BATCH]]
        found = iter(detector([each for each in read if not isinstance(each, ImageError)]))
        for each in read:
            if isinstance(each, ImageError):
                rows.append((None, None, None, None, f"{each.reason}: {each.message}"))
            else:
                rows.append((*next(found).plain(contract.class_names), None))
    columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    return pd.DataFrame(
        {name: pd.Series(list(column), dtype=object) for name, column in zip(COLUMNS, columns, strict=True)}
    )


def _read(image: object) -> npt.NDArray[np.uint8] | ImageError:
    try:
        return decode(encoded(image), None, max_pixels=MAX_PIXELS)
    except ImageError as error:
        return error
