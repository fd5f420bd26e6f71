"""The served model's images: every way in which clients of MLflow's server send one, and rows that hold none."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from selftrain.adapters.serving.packaging import model_signature
from selftrain.errors import ImageError
from selftrain.learn.models.loading import load

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


def picture(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 24), colour).save(file, "PNG")
    return file.getvalue()


RED = picture((220, 20, 20))
TEXT = base64.b64encode(RED).decode()

ROUTES: dict[str, Callable[[list[object]], dict[str, Any]]] = {
    "dataframe_records": lambda images: {"dataframe_records": [{"image": each} for each in images]},
    "dataframe_split": lambda images: {"dataframe_split": {"columns": ["image"], "data": [[each] for each in images]}},
    "instances": lambda images: {"instances": [{"image": each} for each in images]},
    "inputs": lambda images: {"inputs": {"image": images}},
}


def answers_of(folder: Path, images: list[object]) -> pd.DataFrame:
    """The answers of the saved model in `folder`."""
    from selftrain.adapters.serving.served import answer

    return answer(*load(folder), images)


def received(body: dict[str, Any]) -> list[object]:
    """What the model receives of a request's `body`, by MLflow's own server code and our signature."""
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    return checked(infer_and_parse_data(body, model_signature().inputs))


def checked(table: pd.DataFrame) -> list[object]:
    """The images of `table` after MLflow's check against our signature."""
    from mlflow.models.utils import _enforce_schema

    images: list[object] = _enforce_schema(table, model_signature().inputs)["image"].tolist()
    return images


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("sent", [TEXT, f"data:image/png;base64,{TEXT}", {"b64": TEXT}, f"{TEXT[:40]}\n{TEXT[40:]}"])
def test_an_image_is_read_however_a_client_writes_it(route: str, sent: object, colour_model: Path) -> None:
    answers = answers_of(colour_model, received(ROUTES[route]([sent, sent])))
    assert answers["label"].tolist() == ["red", "red"]
    assert answers["error"].isna().all()


@pytest.mark.parametrize("route", ["dataframe_records", "dataframe_split", "instances"])
def test_a_bad_row_does_not_harm_the_others(route: str, colour_model: Path) -> None:
    answers = answers_of(colour_model, received(ROUTES[route]([TEXT, None, "no base64!", TEXT])))
    assert answers["label"].tolist() == ["red", None, None, "red"]
    assert "the row holds no image" in answers["error"][1]
    assert "the text is not base64" in answers["error"][2]


@pytest.mark.parametrize("image", [RED, bytearray(RED), np.full((24, 24, 3), (220, 20, 20), np.uint8)])
def test_a_data_frame_takes_bytes_and_arrays_as_before(image: object, colour_model: Path) -> None:
    images = checked(pd.DataFrame({"image": [image]}))
    assert answers_of(colour_model, images)["label"].tolist() == ["red"]


def test_text_that_a_server_made_bytes_of_is_still_decoded() -> None:
    from selftrain.adapters.serving.served import encoded

    assert encoded(TEXT.encode()) == RED


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA])
def test_a_row_without_an_image_says_so(nothing: object) -> None:
    from selftrain.adapters.serving.served import encoded

    with pytest.raises(ImageError, match="the row holds no image"):
        encoded(nothing)
