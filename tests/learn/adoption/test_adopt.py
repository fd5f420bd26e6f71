"""Adoption: what a model that a user brings is asked, and what it is told."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.errors import BackboneError, ConfigError, PredictionError
from selftrain.learn.adoption.adopt import Known, adopt
from selftrain.learn.models.calibrate import softmax

pytestmark = [
    pytest.mark.keras,
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
NAMES = ("bright", "dark", "mid")
LEVELS = {"bright": 210, "dark": 45, "mid": 128}  # of 255
LABELS = np.arange(30) % 3


def pictures(side: int, names: tuple[str, ...] = NAMES) -> NDArray[np.uint8]:
    """Pictures (30, side, side, 3) of LABELS, noise about the level of each class."""
    levels = np.array([LEVELS[name] for name in names])[LABELS % len(names)]
    noise = np.random.default_rng(0).normal(0, 22, (30, side, side, 3))
    return (levels[:, None, None, None] + noise).clip(0, 255).astype(np.uint8)


def labeled(side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return pictures(side), LABELS.astype(np.int64)


def shades(
    path: Path,
    *,
    white: float = 255.0,
    black: float = 0.0,
    answers: str | None = "softmax",
    order: tuple[str, ...] = NAMES,
    shape: tuple[int | None, int | None, int] = (8, 8, 3),
    layers: tuple[object, ...] = (),
) -> Path:
    """A saved classifier by mean brightness of pixels from `black` to `white`, without training."""
    import keras

    image = keras.Input(shape)
    inside = image
    for layer in layers:
        inside = layer(inside)
    mean, last = keras.layers.Dense(1), keras.layers.Dense(len(order), activation=answers)
    model = keras.Model(image, last(mean(keras.layers.GlobalAveragePooling2D()(inside))))
    span = white - black
    mean.set_weights([np.full((shape[2], 1), 1 / shape[2] / span, np.float32), np.float32([-black / span])])
    level = np.float32([LEVELS[name] / 255 for name in order])
    shift = 20.0 if answers == "sigmoid" else 0.0
    last.set_weights([240 * level[None], -120 * level**2 - shift])
    model.save(path)
    return path


@pytest.mark.parametrize(
    ("pixels", "black", "white"), [("0..255", 0.0, 255.0), ("0..1", 0.0, 1.0), ("-1..1", -1.0, 1.0)]
)
def test_the_range_of_the_pixels_is_measured_where_images_have_labels(
    pixels: str, black: float, white: float, tmp_path: Path
) -> None:
    path = shades(tmp_path / "m.keras", black=black, white=white)
    model, contract = adopt(path, class_names=NAMES, image_size=8, known=Known(labeled=labeled))
    found = contract.brought
    assert found is not None
    assert (found.pixels, found.known_by, found.accuracy, found.images) == (pixels, "measured", 1.0, 30)
    assert (model.predict_on_batch(pictures(8)).argmax(axis=1) == LABELS).all()


def test_without_labels_a_wrong_range_is_refused_until_the_user_says_it(tmp_path: Path) -> None:
    path = shades(tmp_path / "unit.keras", white=1.0)
    ask = partial(adopt, path, class_names=NAMES, image_size=8)
    with pytest.raises(PredictionError, match=r"all 30 images get the same answer.*--pixels 0\.\.255, 0\.\.1 or"):
        ask(known=Known(images=pictures))
    model, contract = ask(known=Known(images=pictures, pixels="0..1"))
    assert contract.brought is not None
    assert contract.brought.known_by == "said"
    assert (model.predict_on_batch(pictures(8)).argmax(axis=1) == LABELS).all()
    with pytest.raises(ConfigError, match=r"pixels '0-1' are not one of: 0\.\.255"):
        ask(known=Known(pixels="0-1"))


@pytest.mark.parametrize(("answers", "kind"), [(None, "logits"), ("softmax", "softmax"), ("sigmoid", "sigmoids")])
def test_whatever_a_model_answers_becomes_logits(answers: str | None, kind: str, tmp_path: Path) -> None:
    path = shades(tmp_path / "m.keras", answers=answers)
    model, contract = adopt(path, class_names=NAMES, image_size=8, known=Known(labeled=labeled))
    assert contract.brought is not None
    assert contract.brought.answers == kind
    assert (model.predict_on_batch(pictures(8)).argmax(axis=1) == LABELS).all()


def test_one_sigmoid_is_two_classes_and_never_three(tmp_path: Path) -> None:
    import keras

    image = keras.Input((8, 8, 3))
    last = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(image, last(keras.layers.GlobalAveragePooling2D()(image)))
    last.set_weights([np.full((3, 1), 0.05, np.float32), np.float32([-19.0])])
    model.save(tmp_path / "m.keras")
    adopted, contract = adopt(tmp_path / "m.keras", class_names=("dark", "bright"), image_size=8)
    assert contract.brought is not None
    assert contract.brought.answers == "sigmoid"
    images = pictures(8, ("dark", "bright", "mid"))
    probs = softmax(adopted.predict_on_batch(images))
    np.testing.assert_allclose(probs[:, 1], model.predict_on_batch(images)[:, 0], atol=1e-5)
    with pytest.raises(BackboneError, match="one column is two classes"):
        adopt(tmp_path / "m.keras", class_names=NAMES, image_size=8)


def test_classes_in_another_order_are_refused_with_the_share_that_is_right(tmp_path: Path) -> None:
    path = shades(tmp_path / "m.keras", order=("dark", "mid", "bright"))
    with pytest.raises(PredictionError, match=r"is right on 10 of 30 labelled images, not clearly better than chance"):
        adopt(path, class_names=NAMES, image_size=8, known=Known(labeled=labeled))


@pytest.mark.parametrize("shape", [(8, 8, 1), (4, 8, 3), (8, 4, 3), (None, None, 3)])
def test_grey_wide_tall_and_unsized_models_read_our_square_images(
    shape: tuple[int | None, int | None, int], tmp_path: Path
) -> None:
    path = shades(tmp_path / "m.keras", shape=shape)
    model, contract = adopt(path, class_names=NAMES, image_size=8, known=Known(labeled=labeled))
    assert model.input_shape == (None, 8, 8, 3)
    assert contract.brought is not None
    assert contract.brought.shape == (shape[0] or 8, shape[1] or 8)
    assert (model.predict_on_batch(pictures(8)).argmax(axis=1) == LABELS).all()


@pytest.mark.parametrize("known", [Known(pixels="0..1"), Known(pixels="torch")])
def test_a_grey_model_sees_colours_as_bright_as_other_programs_make_them(known: Known, tmp_path: Path) -> None:
    import keras
    from PIL import Image

    image = keras.Input((8, 8, 1))
    mean = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(2, kernel_initializer="ones")(mean)).save(tmp_path / "grey.keras")
    model, _ = adopt(tmp_path / "grey.keras", class_names=("a", "b"), image_size=8, known=known)
    colours = np.random.default_rng(0).integers(0, 256, (6, 1, 1, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    grey = np.array([np.asarray(Image.fromarray(each).convert("L")).mean() for each in colours])
    scaled = (
        grey / 255 if known.pixels == "0..1" else (grey[:, None] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    )
    wanted = scaled if scaled.ndim == 1 else scaled.mean(axis=1)
    np.testing.assert_allclose(model.predict_on_batch(colours)[:, 0], wanted, atol=0.01)


def test_random_and_normalization_layers_answer_as_they_do_outside(tmp_path: Path) -> None:
    import keras

    layers = (
        keras.layers.RandomFlip(),
        keras.layers.RandomBrightness(0.5),
        keras.layers.Normalization(mean=0, variance=1),
    )
    path = shades(tmp_path / "m.keras", layers=layers)
    model, _ = adopt(path, class_names=NAMES, image_size=8, known=Known(images=pictures))
    assert (model.predict_on_batch(pictures(8)).argmax(axis=1) == LABELS).all()


def changed_answers(path: Path, *layers: object) -> Path:
    """`shades`, whose answers go through `layers`."""
    import keras

    inner = keras.saving.load_model(shades(path.with_name("inner.keras")))
    answers = inner.output
    for layer in layers:
        answers = layer(answers)
    keras.Model(inner.input, answers).save(path)
    return path


@pytest.mark.parametrize("form", ["list", "dict"])
def test_an_answer_in_a_list_or_a_dict_is_taken_out_and_two_answers_are_refused(form: str, tmp_path: Path) -> None:
    import keras

    plain = keras.saving.load_model(shades(tmp_path / "mine.keras"))
    first, other = plain.outputs[0], keras.layers.Dense(2)(plain.outputs[0])
    keras.Model(plain.inputs, [first] if form == "list" else {"shade": first}).save(tmp_path / "one.keras")
    keras.Model(plain.inputs, [first, other] if form == "list" else {"a": first, "b": other}).save(
        tmp_path / "two.keras"
    )
    model, _ = adopt(tmp_path / "one.keras", class_names=NAMES, image_size=8, known=Known(labeled=labeled))
    assert (model.predict_on_batch(pictures(8)).argmax(axis=1) == LABELS).all()
    with pytest.raises(BackboneError, match=r"allowed is .n, 3., one column per class name"):
        adopt(tmp_path / "two.keras", class_names=NAMES, image_size=8)


def test_a_model_that_normalizes_over_each_batch_is_refused(tmp_path: Path) -> None:
    import keras

    plain = keras.saving.load_model(shades(tmp_path / "mine.keras", answers=None))
    logits = plain.outputs[0]
    keras.Model(plain.inputs, logits - keras.ops.mean(logits, axis=0, keepdims=True)).save(tmp_path / "batch.keras")
    with pytest.raises(PredictionError, match="answers an image alone differently than among others"):
        adopt(tmp_path / "batch.keras", class_names=NAMES, image_size=8, known=Known(labeled=labeled))


def test_percentages_are_refused_where_they_would_be_taken_for_logits(tmp_path: Path) -> None:
    import keras

    path = changed_answers(tmp_path / "percent.keras", keras.layers.Rescaling(100.0))
    with pytest.raises(PredictionError, match=r"add up to 100 for each image: percentages"):
        adopt(path, class_names=NAMES, image_size=8, known=Known(labeled=labeled))


def test_several_sigmoids_are_known_where_no_activation_says_so(tmp_path: Path) -> None:
    import keras

    path = changed_answers(tmp_path / "hidden.keras", keras.layers.Rescaling(0.9, offset=0.01))
    _, contract = adopt(path, class_names=NAMES, image_size=8, known=Known(labeled=labeled))
    assert contract.brought is not None
    assert contract.brought.answers == "sigmoids"
