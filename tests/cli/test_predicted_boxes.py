"""`selftrain predict` with a detector: boxes on the screen, as JSON, CSV, Parquet and COCO."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from selftrain.data.sources.objects.coco import read_coco
from tests.learn.detection.blocks import block_detector, box_of, paint_blocks

# Keras 3.15 converts TensorFlow variables with numpy's older protocol.
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

Command = Callable[..., Any]  # tests/conftest.py, selftrain
RED, GREEN = (0, 1, "red"), (3, 2, "green")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return block_detector(tmp_path_factory.mktemp("blocks") / "model", masks=True).folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two blocks, none, and a file that is not an image."""
    paint_blocks(tmp_path / "photos" / "two.png", RED, GREEN)
    paint_blocks(tmp_path / "photos" / "deep" / "none.png", width=40, height=70)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


def test_each_object_is_a_line_and_each_image_a_row_of_json(selftrain: Command, detector: Path, photos: Path) -> None:
    shown = selftrain("predict", "photos", "gone.png", "--model", detector)
    assert shown.code == 0, shown.err
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["photos/two.png", "red", "1.00", "0", "16", "16", "16"] in lines
    assert ["photos/deep/none.png", "-", "-", "no", "object"] in lines
    assert "--threshold sets another" in shown.err
    rows = {row["path"]: row for row in json.loads(selftrain("predict", "photos", "--model", detector, "--json").out)}
    two = rows["photos/two.png"]
    assert dict(zip(two["labels"], two["boxes"], strict=True)) == {"red": box_of(RED), "green": box_of(GREEN)}
    assert (two["width"], two["height"]) == (96, 64)
    assert [mask["size"] for mask in two["masks"]] == [[64, 96], [64, 96]]
    assert rows["photos/deep/none.png"]["boxes"] == []
    assert rows["photos/broken.png"]["boxes"] is None
    assert "not_an_image" in rows["photos/broken.png"]["error"]
    assert selftrain("predict", "gone.png", "photos/broken.png", "--model", detector).code == 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_has_a_row_per_object_and_loses_no_image(
    selftrain: Command, detector: Path, photos: Path, suffix: str
) -> None:
    done = selftrain("predict", "photos", "--model", detector, "--out", f"boxes.{suffix}")
    assert done.code == 0, done.err
    assert "2 objects in 2 images, 1 of them without any" in done.out
    if suffix == "csv":
        rows = list(csv.DictReader(Path("boxes.csv").read_text().splitlines()))
    else:
        rows = pq.read_table("boxes.parquet").to_pylist()
    assert len(rows) == 4
    (red,) = [row for row in rows if row["label"] == "red"]
    assert [float(red[side]) for side in ("x", "y", "width", "height")] == box_of(RED)
    assert float(red["score"]) > 0.9
    (broken,) = [row for row in rows if row["error"]]
    assert broken["path"] == "photos/broken.png"
    assert {row["model_version"] for row in rows} == {str(detector)}


def test_coco_is_read_back_by_our_own_reader_and_no_file_is_replaced(
    selftrain: Command, detector: Path, photos: Path
) -> None:
    call = ["predict", "photos", "--model", detector, "--out", "boxes.json"]
    done = selftrain(*call, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert (said["objects"], said["errors"], said["without_objects"]) == (2, 1, 1)
    content = json.loads(Path("boxes.json").read_text())
    assert {image["file_name"] for image in content["images"]} == {"two.png", "deep/none.png"}
    assert "broken.png" in Path("boxes.quarantine.csv").read_text()
    for annotation in content["annotations"]:
        del annotation["source"], annotation["teacher"]  # people looked, and agreed
    content["info"] = {}
    Path("agreed.json").write_text(json.dumps(content))
    read = read_coco(Path("agreed.json"), images=said["root"])
    assert read.images.num_rows == 2
    assert sorted(read.annotations.boxes.tolist()) == [[0.0, 16.0, 16.0, 32.0], [48.0, 32.0, 64.0, 48.0]]
    again = selftrain(*call)
    assert again.code != 0
    assert "boxes.json exists, and was left as it is" in again.err


def test_names_in_coco_do_not_depend_on_spelling_or_on_files_that_are_not_there(
    selftrain: Command, detector: Path, photos: Path
) -> None:
    files = ["photos/two.png", "photos/deep/../two.png", "elsewhere/gone.png"]
    done = selftrain("predict", *files, "--model", detector, "--out", "boxes.json", "--json")
    assert done.code == 0, done.err
    content = json.loads(Path("boxes.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["two.png"]
    assert Path(json.loads(done.out)["root"]).name == "photos"


def test_a_class_that_never_was_precise_is_named(selftrain: Command, photos: Path, tmp_path: Path) -> None:
    saved = block_detector(tmp_path / "model", thresholds={"red": 0.5, "green": 1.0})
    done = selftrain("predict", "photos/two.png", "--model", saved.folder, "--json")
    assert json.loads(done.out)[0]["labels"] == ["red"]
    assert "was not precise at any score on validation for green, so no such box counts" in done.err


def test_threshold_and_batch_size_count(selftrain: Command, detector: Path, photos: Path) -> None:
    none = selftrain("predict", "photos/two.png", "--model", detector, "--threshold", "1", "--json")
    assert json.loads(none.out)[0]["boxes"] == []
    one = selftrain("predict", "photos", "--model", detector, "--out", "a.csv", "--batch-size", "1")
    assert "2 objects" in one.out


def test_flips_averages_what_is_found_in_mirrored_views(selftrain: Command, detector: Path) -> None:
    """A block at the left edge of 72 pixels lies across two cells once mirrored, and is not found there."""
    paint_blocks(Path("photos/edge.png"), (0, 0, "red"), width=72)
    own = ("--model", detector, "--threshold", "0.4")
    found: dict[str, float] = {}
    for name, call in {
        "label": ("pseudo-label", "--images", "photos", "--out", "label.json"),
        "label --flips": ("pseudo-label", "--images", "photos", "--out", "mean.json", "--flips"),
        "predict --flips": ("predict", "photos", "--out", "predicted.json", "--flips"),
    }.items():
        done = selftrain(*call, *own)
        assert done.code == 0, done.err
        [each] = json.loads(Path(call[call.index("--out") + 1]).read_text())["annotations"]
        assert each["bbox"] == box_of((0, 0, "red"))
        found[name] = each["score"]
    assert found["label"] > 0.9
    assert found["label --flips"] == pytest.approx(found["label"] / 2, abs=0.05)
    assert found["predict --flips"] == pytest.approx(found["label --flips"])
    [shown] = json.loads(selftrain("predict", "photos", *own, "--flips", "--json").out)
    assert shown["scores"] == [pytest.approx(found["label --flips"], abs=1e-4)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--classes", "a,b"], "--classes is for a model of your own: a detector knows it; leave it out"),
        (["--out", "boxes.txt"], "written as .json, .csv, .parquet"),
    ],
)
def test_what_does_not_fit_a_detector_is_said(
    selftrain: Command, detector: Path, photos: Path, options: list[str], said: str
) -> None:
    ended = selftrain("predict", "photos", "--model", detector, *options)
    assert ended.code != 0
    assert said in ended.err


def test_a_classifier_has_no_threshold_and_writes_no_boxes(
    selftrain: Command, colour_model: Path, photos: Path
) -> None:
    ended = selftrain("predict", "photos", "--model", colour_model, "--threshold", "0.5")
    assert "--threshold 0.5 is for detectors" in ended.err
    ended = selftrain("predict", "photos", "--model", colour_model, "--out", "labels.json")
    assert "labels of images are written as Parquet" in ended.err
    assert not Path("labels.json").exists()
