"""Held-out files: class folders calibrate a model and find the threshold that keeps a precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from selftrain.autolabeling.folders.held_out_files import ask_held_out
from selftrain.cli.app import app
from selftrain.errors import ConfigError, SourceError
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.loading import load

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

COLOURS = ("blue", "green", "red")
STRONG, FAINT = 200, 20  # a strong colour's logits are far apart
Paint = Callable[..., Path]


@pytest.fixture
def labeled(tmp_path: Path, paint: Paint) -> Path:
    """40 strong images of each colour in its folder, and 10 faint ones in the folder of the next colour."""
    folder = tmp_path / "labeled"
    for number, colour in enumerate(COLOURS):
        for index in range(40):
            paint(folder / colour / f"{index}.png", colour, strength=STRONG, seed=100 * number + index)
        for index in range(10):
            wrong = folder / COLOURS[(number + 1) % 3] / f"faint-{colour}{index}.png"
            paint(wrong, colour, strength=FAINT, seed=1000 + 100 * number + index)
    return folder


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """30 strong and 30 faint images."""
    folder = tmp_path / "photos"
    for index in range(60):
        strength = STRONG if index < 30 else FAINT
        paint(folder / f"{index:02}.png", COLOURS[index % 3], strength=strength, seed=5000 + index)
    return folder


def pseudo_label(model: Path, photos: Path, *options: str) -> Result:
    out, nowhere = str(photos.parent / "labels.csv"), str(photos.parent / "no-workspace")
    places = ["--images", str(photos), "--out", out, "--workspace", nowhere]
    return CliRunner().invoke(app, ["pseudo-label", "--model", str(model), *places, *options])


def test_the_answers_are_held_against_the_folders_and_calibrate_the_model(colour_model: Path, labeled: Path) -> None:
    held = ask_held_out(*load(colour_model), labeled)
    assert len(held.answers) == 150
    assert held.answers.right.sum() == 120
    assert held.temperature > 1  # it is as sure of the faint ones as its logits are, and wrong on all of them
    sure = np.float32([[0.98, 0.01, 0.01]])
    assert held.calibrated(sure) == pytest.approx(softmax(np.log(sure), held.temperature))
    assert held.calibrated(sure).max() < 0.98


def test_copies_of_one_image_prove_no_more_than_it_does(colour_model: Path, labeled: Path, photos: Path) -> None:
    for index in range(5):
        shutil.copy(labeled / "red" / "0.png", labeled / "red" / f"copy{index}.png")
    shutil.copy(labeled / "green" / "0.png", labeled / "blue" / "not-blue.png")
    held = ask_held_out(*load(colour_model), labeled)
    assert len(held.answers) == 149  # neither the copies nor what may be green or blue
    summary = json.loads(pseudo_label(colour_model, photos, "--labeled", str(labeled), "--json").stdout)
    accuracy, once, doubtful = summary["findings"]
    assert accuracy.startswith("right on ")
    assert " of 149 labelled images: accuracy " in accuracy
    assert once == "5 of the held-out files are copies of others and were left out"
    assert doubtful.startswith("2 held-out files were left out: ")
    assert "not-blue.png" in doubtful


def test_a_target_precision_accepts_what_the_folders_show_to_be_right(
    colour_model: Path, labeled: Path, photos: Path
) -> None:
    options = ("--labeled", str(labeled), "--target-precision", "0.9", "--json")
    summary = json.loads(pseudo_label(colour_model, photos, *options).stdout)
    assert summary["threshold"] == "precision 0.9"
    assert 30 <= summary["accepted"] <= 36  # the strong ones, and what is surer than any faint one that is held out
    assert summary["measured"]["right"] == 120
    assert summary["measured"]["images"] <= 130


def test_a_fixed_threshold_is_measured_and_the_report_says_so(colour_model: Path, labeled: Path, photos: Path) -> None:
    said = pseudo_label(colour_model, photos, "--labeled", str(labeled), "--threshold", "0").stdout
    assert "120 of 150 held-out images that would be accepted are right: a precision between 73." in said


def test_a_class_without_a_labelled_image_is_said(colour_model: Path, labeled: Path, photos: Path) -> None:
    told = "1 classes have no labelled image, so nothing shows how precise the model is there: green"
    assert told not in pseudo_label(colour_model, photos, "--labeled", str(labeled)).stdout
    shutil.rmtree(labeled / "green")
    assert told in pseudo_label(colour_model, photos, "--labeled", str(labeled)).stdout


def test_labelled_images_that_are_in_the_pool_too_are_said(colour_model: Path, labeled: Path, photos: Path) -> None:
    call = (colour_model, photos, "--labeled", str(labeled))
    assert "are among those of" not in pseudo_label(*call).stdout
    shutil.copy(labeled / "blue" / "0.png", photos / "copy.png")
    (photos / "link.png").symlink_to(labeled / "red" / "1.png")
    said = pseudo_label(*call).stdout
    assert f"2 images are among those of {labeled}, such as {photos}/copy.png: the table holds the model's" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--target-precision", "0.9"), "give their class folders: --labeled"),
        (("--target-precision", "1.5", "--labeled", "HERE"), "not between 0 and 1"),
        (("--target-precision", "0.9", "--labeled", "HERE", "--threshold", "0.9"), "leave out --threshold"),
        (("--target-precision", "0.9", "--labeled", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    colour_model: Path, labeled: Path, photos: Path, options: tuple[str, ...], said: str
) -> None:
    given = [str(labeled) if option == "HERE" else option for option in options]
    refused = pseudo_label(colour_model, photos, *given).exception
    assert isinstance(refused, ConfigError | SourceError)
    assert said in str(refused)


def test_a_folder_that_is_no_class_and_a_file_in_none_are_named(
    colour_model: Path, labeled: Path, paint: Paint
) -> None:
    loose = paint(labeled / "loose.png", "red")
    with pytest.raises(SourceError, match=r"loose\.png is not in a class folder"):
        ask_held_out(*load(colour_model), labeled)
    loose.unlink()
    paint(labeled / "gren" / "1.png", "green")
    with pytest.raises(SourceError, match="unknown class 'gren'; did you mean 'green'"):
        ask_held_out(*load(colour_model), labeled)


def test_too_few_readable_images_are_refused(colour_model: Path, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "few" / "red" / "1.png", "red")
    (tmp_path / "few" / "red" / "2.png").write_bytes(b"")
    with pytest.raises(
        SourceError,
        match=r"1 of 2 files in .* can be used, 1 cannot be read as an image .*zero_byte.*; give at least 4",
    ):
        ask_held_out(*load(colour_model), tmp_path / "few")
