"""User models: logits and probabilities are told apart, and anything else is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selftrain.autolabeling.user_model import (
    UserModel,
    answers_of,
    as_logits,
    classes_of,
    open_model,
    outputs_of,
    refuse_no_probabilities,
)
from selftrain.errors import PredictionError
from selftrain.learn.models.calibrate import softmax

IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
wide = hnp.arrays(np.float32, (6, 4), elements=st.floats(-30, 30, width=32))


@given(wide)
def test_probabilities_and_logits_of_one_model_are_the_same_model(logits: npt.NDArray[np.float32]) -> None:
    probs = softmax(logits)
    assert outputs_of(probs) == "probabilities"
    np.testing.assert_allclose(softmax(as_logits(probs, "probabilities")), probs, atol=1e-5)


def test_half_precision_probabilities_are_probabilities() -> None:
    rough = softmax(np.random.default_rng(0).normal(size=(20, 1000))).astype(np.float16).astype(np.float32)
    assert outputs_of(rough) == "probabilities"


@pytest.mark.parametrize("rows", [[[-1.0, 2.0]], [[0.5, 3.0], [9.0, 1.0]], [[-0.1, -3.0]]])
def test_logits_are_logits(rows: list[list[float]]) -> None:
    assert outputs_of(np.float32(rows)) == "logits"


def test_one_column_is_two_classes() -> None:
    chances = np.float32([[0.25], [0.5]])
    assert outputs_of(chances) == "probabilities"
    np.testing.assert_allclose(softmax(as_logits(chances, "probabilities")), [[0.75, 0.25], [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(softmax(as_logits(np.float32([[np.log(3)]]), "logits")), [[0.25, 0.75]], atol=1e-6)
    assert classes_of(chances) == 2


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([[0.9, 0.8], [0.1, 0.2]], "whose rows sum to 0.3..1.7"),
        ([[30.0, 70.0], [50.0, 50.0]], "whose rows all sum to 100: percentages"),
    ],
)
def test_what_is_neither_is_refused_with_a_way_out(answers: list[list[float]], said: str) -> None:
    with pytest.raises(PredictionError, match=re.escape(said)) as error:
        outputs_of(np.float32(answers))
    assert "outputs='logits'" in error.value.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: np.full((len(x), 2), np.nan), "answers NaN or infinity to 5 of 5 images"),
        (lambda x: np.zeros((len(x), 2, 2)), "answers (5, 2, 2) to 5 images"),
        (lambda x: np.zeros((1, 2)), "answers (1, 2) to 5 images"),
        (lambda x: [np.zeros((5, 2)), np.zeros((5, 3))], "answers a list"),
        (lambda x: {"logits": 1}, "answers a dict"),
        (
            lambda x: np.arange(len(x)),
            "answers one class index per image (0), without its confidence",
        ),
        (lambda x: np.arange(len(x))[:, None], "(n, classes), such as predict_proba"),
        (lambda x: np.array(["cat"] * len(x)), "answers one name per image (cat), without its confidence"),
        (lambda x: np.array([["a", "b"]] * len(x)), "answers values of type <U1; give one that answers probabilities"),
        (lambda x: np.array([["a", None]] * len(x), object), "does not answer numbers"),
        (lambda x: np.zeros((len(x), 2), complex), "answers values of type complex128"),
        (lambda x: x.nothing, "failed on a batch of shape (5, 4, 4), type uint8: AttributeError"),
    ],
)
def test_what_is_no_answer_is_refused(answer: Any, said: str) -> None:
    with pytest.raises(PredictionError, match=re.escape(said)):
        answers_of(open_model(answer), IMAGES, batch_size=8)


def test_batches_answered_with_different_classes_are_refused() -> None:
    with pytest.raises(PredictionError, match="answers 1 columns to one batch and 2 to another"):
        answers_of(UserModel(lambda batch: np.zeros((len(batch), len(batch)))), IMAGES, batch_size=2)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(PredictionError, match="model is str; give a Keras model, or a callable"):
        open_model("resnet")


def test_a_callable_is_asked_in_batches_and_gets_what_was_given() -> None:
    seen: list[tuple[int, ...]] = []

    def answer(batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        seen.append(batch.shape)
        assert batch.dtype == np.uint8
        return batch.reshape(len(batch), -1)[:, :2].astype(float)

    found = answers_of(open_model(answer), IMAGES, batch_size=2)
    assert seen == [(2, 4, 4), (2, 4, 4), (1, 4, 4)]
    np.testing.assert_array_equal(found, IMAGES.reshape(5, -1)[:, :2])


def test_answers_in_bfloat16_are_numbers() -> None:
    import ml_dtypes

    answers = np.array([[0.25, 4.0], [1.0, -2.0]], ml_dtypes.bfloat16)
    found = answers_of(open_model(lambda batch: answers), IMAGES[:2], batch_size=2)
    np.testing.assert_array_equal(found, [[0.25, 4.0], [1.0, -2.0]])


@pytest.mark.parametrize("batch_size", [2, 8])
def test_a_model_that_writes_into_its_batch_changes_no_image_of_the_users(batch_size: int) -> None:
    def in_place(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        batch /= 127.5  # as keras.applications' preprocess_input does
        return batch.reshape(len(batch), -1)[:, :2]

    images = IMAGES.astype(np.float32)
    found = answers_of(open_model(in_place), images, batch_size=batch_size)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_allclose(found, IMAGES.reshape(5, -1)[:, :2] / 127.5, rtol=1e-6)


def test_a_model_that_is_compiled_sees_one_batch_size() -> None:
    seen: list[int] = []

    def answer(batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        seen.append(len(batch))
        return batch.reshape(len(batch), -1)[:, :2].astype(float)

    found = answers_of(UserModel(answer, even=True), IMAGES, batch_size=4)
    assert seen == [4, 4]
    np.testing.assert_array_equal(found, IMAGES.reshape(5, -1)[:, :2])


def test_answers_that_are_not_finite_are_counted_without_what_filled_the_batch_up_and_their_rows_are_named() -> None:
    def answer(batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return np.log(batch.reshape(len(batch), -1)[:, :2] - 16.0 * (batch[:, 0, :1] == 48))

    said = re.escape("unlabeled: the model answers NaN or infinity to 1 of 5 images (row 0)")
    with np.errstate(divide="ignore"), pytest.raises(PredictionError, match=said):
        answers_of(UserModel(answer, even=True), IMAGES, batch_size=64, role="unlabeled")


@pytest.mark.parametrize("row", [[-0.5, 1.5], [0.2, 0.2], [3, 4], [0.6, 0.6]])
def test_rows_that_are_no_probabilities_are_named(row: list[float]) -> None:
    answers = np.float32([[0.25, 0.75], row, [1, 0]])
    with pytest.raises(PredictionError, match=r"unlabeled: .* to 1 of 3 images are not probabilities \(.*\): row 1, "):
        refuse_no_probabilities(answers, role="unlabeled")


def test_probabilities_that_are_rounded_pass() -> None:
    refuse_no_probabilities(np.float32([[0.2508, 0.7501], [-1e-8, 1]]), role="labeled")
    refuse_no_probabilities(np.float32([[0.3], [1.0]]), role="labeled")


def test_images_of_another_shape_are_refused_before_the_model_sees_them() -> None:
    model = UserModel(lambda batch: batch, input_shape=(None, 8))
    with pytest.raises(PredictionError, match=re.escape("reads images of shape (None, 8), these have (4, 4)")):
        answers_of(model, IMAGES, batch_size=4)


@pytest.mark.keras
def test_a_keras_model_says_what_it_reads() -> None:
    import keras

    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    asked = open_model(model)
    assert (asked.input_shape, asked.side, asked.channels, asked.even) == ((4, 4, 1), 4, 1, True)
    found = answers_of(asked, IMAGES[..., None], batch_size=4)
    np.testing.assert_allclose(found, model(IMAGES[..., None]).numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(PredictionError, match="reads images of shape"):
        answers_of(asked, np.zeros((2, 5, 5, 1), np.uint8), batch_size=4)
