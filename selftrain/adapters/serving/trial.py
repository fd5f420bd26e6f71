"""Trial: a registered version is loaded in a fresh process and asked, before it may serve."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selftrain.adapters.serving import trial_process
from selftrain.adapters.serving.trial_process import ANSWERED, ASKED
from selftrain.data.images.decode import decode
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import PredictionError
from selftrain.evaluate.probabilities import checked_probs
from selftrain.evaluate.trial import Trial
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.loading import load

FULL_BATCH = 64
REQUESTS = 20
LONGEST_S = 300.0
SHOWN = 300  # characters of a failure
# The process that promotes may hold the GPU's memory: the trial computes on the CPU, as do the answers it must give.
ENVIRONMENT = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True, eq=False)
class GoldenImages:
    """Encoded images, and the probabilities float32 (n, classes) that a model must answer for them."""

    encoded: tuple[bytes, ...]
    probs: npt.NDArray[np.float32]


def golden_images(manifest: Manifest, store: ImageStore, saved: SavedModel, *, count: int) -> GoldenImages | None:
    """Up to `count` validation images, spread over the manifest, and the answers of `saved`; None without any.

    The test images are left alone. The answers are those of evaluation: the pixels that it decodes, the model, its
    temperature.
    """
    import keras

    rows = manifest.rows(Split.VALIDATION)
    if len(rows) == 0:
        return None
    model, contract = load(saved.folder)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
    table = manifest.table.take(rows)
    encoded = store.read(np.asarray(table["shard"].to_pylist(), object), table["index"].to_numpy().astype(np.int64))
    pixels = np.stack([decode(data, contract.image_size, lenient=True, bits=contract.bits) for data in encoded])
    with keras.device("cpu:0"):
        logits = keras.ops.convert_to_numpy(model(pixels, training=False))
    return GoldenImages(tuple(encoded), softmax(logits, contract.temperature))


def broken_images(whole: bytes) -> dict[str, bytes]:
    """Images that cannot be read, by what is wrong with them; one is `whole` without its second half."""
    return {"empty": b"", "text": b"this is a text", "cut short": whole[: len(whole) // 2]}


def run_trial(
    model_uri: str, tracking_uri: str, golden: GoldenImages, *, longest_s: float = LONGEST_S, batch: int = FULL_BATCH
) -> Trial:
    """What the version at `model_uri` did in a process of its own, on the CPU; a failure is part of the answer.

    It takes the seconds that MLflow and Keras need to start.
    """
    asked = {
        "model": model_uri,
        "tracking_uri": tracking_uri,
        "golden": [_text(image) for image in golden.encoded],
        "broken": {name: _text(image) for name, image in broken_images(golden.encoded[0]).items()},
        "batch": batch,
        "requests": REQUESTS,
    }
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="selftrain-trial-") as temporary:
        folder = Path(temporary)
        (folder / ASKED).write_text(json.dumps(asked))
        failure = _run(folder, longest_s=longest_s)
        seconds = time.perf_counter() - began
        if failure is not None:
            return Trial(failure=failure, images=len(golden.encoded), batch=batch, seconds=seconds)
        answered: dict[str, Any] = json.loads((folder / ANSWERED).read_text())
    probabilities = answered.pop("probabilities")
    neighbour = answered.pop("neighbour_answered")
    return Trial(
        failure=None if neighbour else "an image beside broken ones was not answered",
        images=len(golden.encoded),
        largest_difference=largest_difference(golden.probs, probabilities),
        batch=batch,
        seconds=seconds,
        **answered,
    )


def largest_difference(wanted: npt.NDArray[np.float32], answered: Sequence[Sequence[float] | None]) -> float:
    """Of any probability from the one that was `wanted` (n, classes); NaN where an answer is missing or is none."""
    try:
        table = checked_probs([row or [math.nan] for row in answered], classes=wanted.shape[1])
    except (PredictionError, ValueError):
        return math.nan
    return float(np.abs(table - wanted).max()) if table.shape == wanted.shape else math.nan


def _run(folder: Path, *, longest_s: float) -> str | None:
    """Run the process of the trial in `folder`; returns why it failed."""
    command = [sys.executable, "-P", str(Path(trial_process.__file__).resolve()), str(folder)]
    environment = {**os.environ, **ENVIRONMENT}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=longest_s
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {longest_s:g} s"
    if done.returncode == 0:
        return None
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return said[-1][:SHOWN] if said else f"the process ended with code {done.returncode}"


def _text(image: bytes) -> str:
    return base64.b64encode(image).decode()
