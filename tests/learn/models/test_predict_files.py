"""Prediction from files: the same as one by one, in order, and one bad file ends nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from selftrain.data.images.decode import decode
from selftrain.learn.models.answers import answer_files, named_files
from selftrain.learn.models.loading import load
from selftrain.learn.models.predict_files import FilePixels, predict_files

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

Paint = Callable[..., Path]


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether it holds within ten seconds, and still a moment later."""
    for _ in range(1000):
        if holds():
            break
        time.sleep(0.01)
    time.sleep(0.05)
    return holds()


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> list[str]:
    colours = ("red", "green", "blue")
    sides = {"png": 24, "jpg": 33, "webp": 16, "bmp": 70}
    return [
        str(paint(tmp_path / f"{k:03d}.{form}", colours[k % 3], side=sides[form], seed=k))
        for k, form in enumerate(["png", "jpg", "webp", "bmp"] * 10)
    ]


def test_files_are_predicted_as_one_by_one_and_in_order(colour_model: Path, photos: list[str]) -> None:
    model, contract = load(colour_model)
    found = predict_files(model, contract, photos, batch_size=32)
    alone = [model(decode(Path(path).read_bytes(), 16)[None]).numpy()[0] for path in photos]
    powers = np.exp(np.array(alone))
    np.testing.assert_allclose(found.probs, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
    assert found.paths == tuple(photos)
    assert [found.class_names[k] for k in found.probs.argmax(axis=1)][:3] == ["red", "green", "blue"]


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_answered(
    colour_model: Path, photos: list[str], tmp_path: Path
) -> None:
    model, contract = load(colour_model)
    whole = predict_files(model, contract, photos)
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    (tmp_path / "c.jpg").write_bytes(Path(photos[1]).read_bytes()[:-200])
    bad = [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg", "gone.png")]
    mixed = [bad[0], *photos[:20], bad[1], *photos[20:], bad[2], bad[3]]
    found = predict_files(model, contract, mixed)
    assert [each.path for each in found.unread] == bad
    assert [each.reason for each in found.unread] == ["zero_byte", "not_an_image", "truncated", "unreadable"]
    assert found.paths == whole.paths
    np.testing.assert_allclose(found.probs, whole.probs, atol=1e-6)
    assert not any(each.path in each.detail for each in found.unread)


def test_a_misnamed_file_is_read_and_counted(colour_model: Path, photos: list[str], tmp_path: Path) -> None:
    model, contract = load(colour_model)
    misnamed = str(shutil.copy(photos[0], tmp_path / "png.jpg"))
    for as_ingest in (False, True):
        answered = predict_files(model, contract, [str(photos[0]), misnamed], as_ingest=as_ingest)
        assert (answered.paths, answered.misnamed) == ((str(photos[0]), misnamed), 1)


def test_no_readable_file_gives_no_probabilities(colour_model: Path, tmp_path: Path) -> None:
    model, contract = load(colour_model)
    found = predict_files(model, contract, [str(tmp_path / "gone.png")])
    assert found.probs.shape == (0, 3)
    assert len(found.unread) == 1


def test_a_row_asked_for_twice_is_read_once(photos: list[str]) -> None:
    with FilePixels((*photos, "gone.png"), 16, as_ingest=False) as files:
        rows = np.array([3, 3, 40, 0, 40])
        images = files.gather(rows)
        assert list(files.unread) == [40]
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[3], decode(Path(photos[0]).read_bytes(), 16))
    assert not images[2].any()


def test_files_are_decoded_before_they_are_asked_for_and_only_as_many_as_may_wait(tmp_path: Path) -> None:
    asked: list[str] = []

    def read(path: str) -> bytes:
        asked.append(path)
        raise OSError("no such file")

    names = tuple(f"{k}.png" for k in range(6))
    side = 4096  # two such images are as many bytes as may wait
    with FilePixels(names, side, as_ingest=False, read=read, threads=1) as files:
        assert wait_until(lambda: len(asked) == 2)
        files.gather(np.array([0]))
        assert wait_until(lambda: len(asked) == 3)
        assert asked == list(names[:3])
    assert len(asked) == 3


def test_a_function_answers_batches_of_any_size_as_its_model_does(colour_model: Path, photos: list[str]) -> None:
    model, contract = load(colour_model)
    sizes: list[int] = []

    def network(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        sizes.append(len(images))
        answers: npt.NDArray[np.float32] = np.asarray(model(images, training=False))
        return answers

    found = predict_files(network, contract, photos, batch_size=16)
    assert sizes == [16, 16, 8]
    np.testing.assert_allclose(found.probs, predict_files(model, contract, photos).probs, atol=1e-5)
    assert predict_files(network, contract, []).probs.shape == (0, 3)


def test_answers_hold_label_confidence_and_probabilities_or_an_error(
    colour_model: Path, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "photos" / "deep" / "a.png", "green")
    (tmp_path / "photos" / "b.png").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    named = [tmp_path / "photos", tmp_path / "photos" / "deep" / "a.png", tmp_path / "gone", tmp_path / "empty"]
    files, errors = named_files(named)
    assert [Path(each).name for each in files] == ["b.png", "a.png"]
    assert [each.error for each in errors] == ["no such file or folder", "the folder holds no image files"]
    bad, good = answer_files(*load(colour_model), files)
    assert (good.label, good.error) == ("green", None)
    assert good.probabilities is not None
    assert good.confidence == good.probabilities["green"] == max(good.probabilities.values()) > 0.9
    assert (bad.label, bad.confidence, bad.probabilities) == (None, None, None)
    assert bad.error is not None
    assert bad.error.startswith("not_an_image: ")
