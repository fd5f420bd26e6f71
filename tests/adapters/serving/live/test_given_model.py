"""A model that the user names to the server: a Keras 2 file answers as it did, and one that nobody knows is refused."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.routing import APIRoute
from PIL import Image

from selftrain.adapters.registry.live_champion import OF_NO_REGISTRY, GivenModel
from selftrain.adapters.registry.references import find_reference
from selftrain.adapters.serving.live.app import create_app
from selftrain.adapters.serving.live.asking import Asking
from selftrain.adapters.serving.live.live_model import LiveModel
from selftrain.adapters.serving.live.measures import Measures
from selftrain.adapters.serving.live.requests import AskedImage, RequestLimits
from selftrain.learn.adoption.adopt import Known

pytestmark = [
    pytest.mark.keras,
    # Keras's own save and load copy TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # mlflow's own modules set it off while they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

SAMPLES = Path(__file__).parents[3] / "learn" / "adoption" / "keras2"
TINY = SAMPLES / "tiny.h5"
Run = Callable[..., Any]


def encoded(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def asked(measures: Measures, path: Path, known: Known, workspace: Path) -> tuple[LiveModel, Asking]:
    found = find_reference(str(path), workspace=workspace, class_names=("a", "b", "c"), known=known)
    live = LiveModel(GivenModel(found), OF_NO_REGISTRY, poll_s=1.0, measures=measures)
    return live, Asking(live, measures, RequestLimits(), None)


def test_a_model_of_keras_2_answers_requests_as_it_did_in_tensorflow_2_15(tmp_path: Path) -> None:
    measures = Measures()
    live, asking = asked(measures, TINY, Known(pixels="0..255"), tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    version, rows = asking.ask([AskedImage(f"{row}.png", encoded(image)) for row, image in enumerate(images)])
    np.testing.assert_allclose([row.probabilities for row in rows], np.load(SAMPLES / "tiny.npy"), atol=1e-4)
    assert (version.uri, version.number) == (str(TINY), 0)
    live.look()
    assert live.current is version  # nothing replaces it

    app = create_app(asking, live, measures, RequestLimits())
    (route,) = [each for each in app.routes if isinstance(each, APIRoute) and each.path == "/version"]
    facts = json.loads(asyncio.run(route.endpoint()).body)
    assert (facts["model_version"], facts["class_names"]) == (str(TINY), ["a", "b", "c"])
    assert facts["brought"] | {"accuracy": None} == {
        "pixels": "0..255",
        "shape": [16, 16],
        "answers": "softmax",
        "known_by": "said",
        "accuracy": None,
        "images": 0,
    }


def test_a_model_whose_pixels_nobody_knows_is_not_served(selftrain: Run) -> None:
    ended = selftrain("serve", "--model", TINY, "--classes", "a,b,c")
    assert ended.code == 2
    assert "give class folders of labelled images with --labeled" in ended.err


def test_labelled_images_that_it_guesses_refuse_it(selftrain: Run, paint: Callable[..., Path], tmp_path: Path) -> None:
    for row in range(24):
        paint(tmp_path / "known" / "abc"[row % 3] / f"{row}.png", "red", seed=row)
    ended = selftrain("serve", "--model", TINY, "--classes", "a,b,c", "--labeled", tmp_path / "known", "--port", "0")
    assert ended.code == 1
    assert "not clearly better than chance" in ended.err


def test_the_port_is_asked_for_before_the_model_is_loaded(selftrain: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = selftrain("serve", "--model", TINY, "--classes", "a,b,c", "--pixels", "0..255", "--port", port)
    assert (ended.code, f"port {port}" in ended.err) == (1, True)


def test_an_option_for_an_own_model_is_refused_without_one(selftrain: Run) -> None:
    ended = selftrain("serve", "--pixels", "0..1")
    assert ended.code == 2
    assert "--pixels is for a model of your own, which --model names" in ended.err
