"""Trials: a real registered version in a fresh process, and versions that must not serve."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.adapters.serving.packaging import stage
from selftrain.adapters.serving.trial import GoldenImages, broken_images, largest_difference, run_trial
from selftrain.adapters.serving.trial_process import percentile
from selftrain.config import ServingLimits
from selftrain.data.images.decode import decode
from selftrain.errors import ImageError
from selftrain.evaluate.trial import Trial, objections
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # mlflow's own modules set it off while they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

Paint = Callable[..., Path]


@pytest.fixture
def golden(colour_model: Path, paint: Paint, tmp_path: Path) -> GoldenImages:
    files = [paint(tmp_path / f"{colour}.png", colour) for colour in ("red", "blue", "green")]
    encoded = tuple(path.read_bytes() for path in files)
    model, contract = load(colour_model)
    pixels = np.stack([decode(data, contract.image_size) for data in encoded])
    return GoldenImages(encoded, softmax(np.asarray(model(pixels, training=False)), contract.temperature))


def staged(model: Path, folder: Path) -> Path:
    """The model as MLflow serves it."""
    _, contract = load(model)
    stage(folder, model_folder=model, contract=contract, card="# colours\n")
    return folder


def trial(folder: Path, golden: GoldenImages) -> Trial:
    return run_trial(str(folder), f"sqlite:///{folder.parent}/none.db", golden)


def test_a_version_answers_in_a_fresh_process_what_evaluation_says(
    colour_model: Path, golden: GoldenImages, tmp_path: Path
) -> None:
    found = trial(staged(colour_model, tmp_path / "served"), golden)
    assert objections(found, ServingLimits()) == []
    assert (found.images, found.batch_answered, found.broken_answered) == (3, 64, ())
    assert found.largest_difference < 1e-4
    assert 0 < found.latency_ms < math.inf
    assert 0 < found.batch_ms < math.inf
    assert found.memory_mb > 50
    assert objections(found, ServingLimits(latency_ms=1e-3, memory_mb=1))[0].startswith("an image takes")


@pytest.mark.slow
def test_a_version_that_answers_otherwise_than_evaluation_is_objected_to(
    colour_model: Path, golden: GoldenImages, tmp_path: Path
) -> None:
    model, contract = load(colour_model)
    other = save(model, contract.model_copy(update={"temperature": 2.0}), tmp_path / "other").folder
    found = trial(staged(other, tmp_path / "served"), golden)
    assert "differ from evaluation's" in objections(found, ServingLimits())[0]


@pytest.mark.slow
def test_a_version_whose_file_was_changed_does_not_serve(
    colour_model: Path, golden: GoldenImages, tmp_path: Path
) -> None:
    folder = staged(colour_model, tmp_path / "served")
    path = folder / "artifacts" / "model" / "contract.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_sha256": "0" * 64}))
    found = trial(folder, golden)
    (objection,) = objections(found, ServingLimits())
    assert objection.startswith("it does not serve: ")
    assert "its contract says 000" in objection


def test_a_version_that_answers_too_late_does_not_serve(golden: GoldenImages, tmp_path: Path) -> None:
    found = run_trial("models:/none/1", f"sqlite:///{tmp_path}/none.db", golden, longest_s=0.05)
    assert found.failure == "no answer within 0.05 s"


def test_each_broken_image_is_one_that_cannot_be_read() -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG")
    for data in broken_images(file.getvalue()).values():
        with pytest.raises(ImageError):
            decode(data, 16)


def test_answers_that_are_missing_or_of_another_shape_are_no_small_difference() -> None:
    wanted = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    assert largest_difference(wanted, [[0.25, 0.75], [0.9, 0.1]]) == pytest.approx(0.1)
    assert math.isnan(largest_difference(wanted, [[0.25, 0.75], None]))
    assert math.isnan(largest_difference(wanted, [[0.25, 0.75]]))
    assert math.isnan(largest_difference(wanted, [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]))


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 2
    assert percentile([4, 1, 3, 2], 0.95) == 4
    assert percentile([7], 0.95) == 7
