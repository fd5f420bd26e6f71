"""A detector, end to end: a COCO file of drawn scenes goes through the pipeline, and its champion finds them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from selftrain.data.annotations.run_lengths import pixels_of, run_lengths
from selftrain.data.sources.objects.coco import read_coco
from selftrain.evaluate.average_precision import Boxes, judge
from tests.learn.detection.drawn import NAMES, drawn_scenes
from tests.learn.detection.drawn_coco import coco, pool
from tests.pipelines.site import Site

pytestmark = [pytest.mark.pipeline, pytest.mark.keras, pytest.mark.slow]

POOL = 30
SHORT = {
    "view": 64,
    "teacher_steps": 300,
    "learning_rate": 4e-3,
    "student_steps": 60,
    "more_burn_ins": 2,
    "burn_in_gain": 1.0,  # two trainings, if the first may teach
    "burn_in_precision": 0.6,
    "burn_in_recall": 0.05,
}


@pytest.fixture(scope="module")
def config(site: Site) -> Path:
    """What `selftrain init --coco` writes for drawn scenes, its trainings made short."""
    labels, more = (
        coco(site.folder / "labelled", images=60, seed=0, outlines=True),
        pool(site.folder / "more", images=POOL),
    )
    path = site.folder / "shapes.yaml"
    images = ("--images", str(labels.parent / "photos"), "--unlabeled", str(more))
    done = site.run("selftrain", "init", "--coco", str(labels), *images, "--target", "0.02", "--out", str(path))
    assert done.returncode == 0, done.stderr
    assert "objects in 60 images" in done.stdout
    content = yaml.safe_load(path.read_text())
    experiment = content["parameters"]["experiment"]
    assert experiment["task"] == "detection"
    experiment |= {"name": "shapes", "workspace": str(site.workspace)}
    experiment["detection"] |= SHORT
    experiment["registry"] = {"first_champion": "any", "floors": {"map": 0.02}}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def inbox(site: Site) -> Path:
    """Where production leaves its images."""
    folder = site.folder / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def nightly(site: Site, config: Path, inbox: Path) -> Path:
    """The same experiment, retrained when six images are new."""
    content = yaml.safe_load(config.read_text())
    content["parameters"]["experiment"] |= {
        "inbox": {"url": str(inbox), "settle_s": 0},
        "retrain": {"any_of": {"min_new": 6}},
    }
    path = site.folder / "nightly.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def record(site: Site, config: Path) -> dict[str, Any]:
    """The record of its first run."""
    done = site.run("selftrain", "run", "--json", "--config", str(config))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_run_ends_with_a_registered_detector_and_cocos_numbers(site: Site, record: dict[str, Any]) -> None:
    assert (record["verdict"], record["metric"]) == ("passed", "map")
    assert (record["registered_version"], record["champion_version"], record["promoted"]) == (1, 1, True)
    teacher, student = record["rounds"]
    assert (teacher["labeled"], student["pool"], student["method"]) == (36, POOL, "data_distillation")
    low, high = record["test_interval"]
    assert 0.02 < low < record["test_accuracy"] < high
    assert record["control_test_accuracy"] is not None or not student["kept"]
    assert any("precision" in finding for finding in record["findings"])
    shown = site.run("selftrain", "status")
    assert f"test mAP {record['test_accuracy']:.3f}" in shown.stdout
    metrics = site.mlflow()["runs"][record["run_id"]]["metrics"]
    assert metrics["test_map"] == pytest.approx(record["test_accuracy"])
    assert metrics["test_ap50"] > metrics["test_map"]
    assert metrics["test_mask_ap50"] > 0.5 * metrics["test_ap50"]
    assert metrics["test_mask_map_low"] < metrics["test_mask_map"] < metrics["test_mask_map_high"]
    assert record["mask_interval"] == [metrics["test_mask_map_low"], metrics["test_mask_map_high"]]
    assert [metrics["test_map_low"], metrics["test_map_high"]] == [low, high]


def test_its_rounds_were_told_while_it_went_on(site: Site, record: dict[str, Any]) -> None:
    """As `status` reads them in a run without a record."""
    told = site.ask(f"""
from types import SimpleNamespace
from zenml.client import Client
from selftrain.adapters.runs.records import record_of
run = Client().get_pipeline_run("{record["run_id"]}")
steps = {{name: step for name, step in run.steps.items() if name != "record"}}
body, facts = run.get_body, ("id", "status", "config", "exception_info")
print(record_of(SimpleNamespace(steps=steps, get_body=body, **{{f: getattr(run, f) for f in facts}})).model_dump_json())
""")
    assert [each["model_digest"] for each in told["rounds"]] == [each["model_digest"] for each in record["rounds"]]
    assert told["rounds"][0]["validation_accuracy"] == record["rounds"][0]["validation_accuracy"]
    assert (told["metric"], told["test_accuracy"]) == ("map", None)


def test_the_same_run_again_trains_nothing(site: Site, config: Path, record: dict[str, Any]) -> None:
    done = site.run("selftrain", "run", "--json", "--config", str(config))
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    steps = site.steps(again["run_id"])
    trained = {name for name in steps if name.startswith(("train_", "teach_", "score_", "read_"))}
    assert {steps[name] for name in trained} == {"cached"}
    assert again["registered_version"] == 1
    assert again["test_looks"] == record["test_looks"]


def test_the_champion_labels_a_folder_with_boxes_that_are_there(
    site: Site, record: dict[str, Any], tmp_path: Path
) -> None:
    images, out = site.folder / "more", tmp_path / "boxes.json"
    where = ("--workspace", str(site.workspace), "--model", "champion", "--images", str(images))
    drawn = tmp_path / "drawn"
    done = site.run(
        "selftrain", "pseudo-label", *where, "--out", str(out), "--threshold", "0.1", "--materialize", str(drawn)
    )
    assert done.returncode == 0, done.stderr
    assert "by models:/shapes/1" in done.stdout
    assert len(list(drawn.iterdir())) == POOL
    labelled = read_coco(out, images=str(images))
    assert labelled.label_map.names == NAMES
    scenes = drawn_scenes(POOL, seed=50)
    found, marked = [], []
    for k, objects in enumerate(scenes.objects):
        [first], [count] = labelled.annotations.spans([f"{k}.png"])
        own = labelled.annotations.take(np.arange(first, first + count))
        found.append(Boxes.found(own.boxes, own.labels.astype(np.int64), own.scores))
        marked.append(Boxes.marked(objects.boxes, objects.classes, objects.ignored))
    assert judge(found, marked, classes=len(NAMES)).ap50 > 0.1
    assert labelled.annotations.has_mask.all()
    areas = run_lengths(labelled.annotations.table["mask"]).areas()
    boxes = labelled.annotations.boxes
    inside = (boxes[:, 2] - boxes[:, 0] + 2) * (boxes[:, 3] - boxes[:, 1] + 2)
    assert (areas <= inside).all()
    assert next(each["area"] for each in json.loads(out.read_text())["annotations"]) in areas
    again = site.run("selftrain", "pseudo-label", *where, "--out", str(out))
    assert again.returncode != 0
    assert "was left as it is" in again.stderr


def test_mlflow_serves_boxes_in_the_images_own_pixels(site: Site, record: dict[str, Any]) -> None:
    image = site.folder / "more" / "3.png"
    answered = site.ask(f"""
import json, mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///{site.workspace / "mlflow" / "mlflow.db"}")
model = mlflow.pyfunc.load_model("{record["model_uri"]}")
data = open({str(image)!r}, "rb").read()
rows = model.predict(pd.DataFrame({{"image": [data, b"no image"]}}))
print(json.dumps(rows.to_dict("records")))
""")
    there, broken = answered
    assert there["error"] is None
    assert set(there["labels"]) <= set(NAMES)
    for x, y, width, height in there["boxes"]:
        assert 0 <= x < x + width <= 96.01
        assert 0 <= y < y + height <= 96.01
    assert there["scores"] == sorted(there["scores"], reverse=True)
    assert len(there["masks"]) == len(there["boxes"])
    for mask, (x, y, width, height) in zip(there["masks"], there["boxes"], strict=True):
        assert mask["size"] == [96, 96]
        rows, columns = np.nonzero(pixels_of(mask["counts"].encode(), height=96, width=96))
        assert x - 1 <= columns.min() <= columns.max() <= x + width
        assert y - 1 <= rows.min() <= rows.max() <= y + height
    assert (broken["boxes"], broken["masks"]) == (None, None)
    assert "not_an_image" in broken["error"]


def test_serve_answers_boxes_over_http_and_keeps_what_it_was_asked(
    site: Site, nightly: Path, inbox: Path, record: dict[str, Any]
) -> None:
    server = site.start("selftrain", "serve", "--port", "0", "--config", str(nightly))
    try:
        address = said_by(server, r"serves on (http://\S+)")
        image = (site.folder / "more" / "3.png").read_bytes()
        request = urllib.request.Request(f"{address}/predict", image, {"Content-Type": "image/png"})
        with urllib.request.urlopen(request) as response:
            answer = json.loads(response.read())
        with urllib.request.urlopen(f"{address}/version") as response:
            facts = json.loads(response.read())
    finally:
        server.terminate()
        server.communicate(timeout=30)
    [row] = answer["predictions"]
    assert (answer["model_version"], row["error"]) == ("models:/shapes/1", None)
    assert len(row["boxes"]) == len(row["labels"]) == len(row["scores"]) == len(row["masks"]) > 0
    assert facts["class_names"] == list(NAMES)
    assert [each.read_bytes() for each in inbox.rglob("*.*")] == [image]


def said_by(process: subprocess.Popen[str], pattern: str) -> str:
    """The first group of `pattern` in what a process says."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"it ended without saying {pattern}")


def test_its_page_names_map_and_the_classes(site: Site, record: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = site.run("selftrain", "report", record["run_id"], "--out", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "Test mAP" in text
    assert all(f'<th scope="row">{name}</th>' in text for name in NAMES)
    assert "of 12 are right" not in text
    assert "12 test images" in text
    assert "Outlines of " in text


def test_predict_answers_the_boxes_of_the_champion(site: Site, record: dict[str, Any]) -> None:
    image = str(site.folder / "more" / "3.png")
    call = ("selftrain", "predict", image, "--workspace", str(site.workspace), "--threshold", "0.1", "--json")
    said = site.run(*call)
    assert said.returncode == 0, said.stderr
    (answer,) = json.loads(said.stdout)
    assert set(answer["labels"]) <= set(NAMES)
    assert answer["boxes"]


def test_its_objects_were_checked_before_it_was_trained(site: Site, record: dict[str, Any]) -> None:
    """The page of the validation lies in the workspace, and names the expectations on objects."""
    (report,) = site.workspace.glob("validation/*/validation.json")
    results = {each["expectation"]: each for each in json.loads(report.read_text())["results"]}
    assert "0 of 60 annotated images have no object" in results["images_without_objects"]["observed"]
    assert results["boxes_inside"]["success"]


def test_the_champion_is_exported_if_it_finds_the_same_in_the_images_of_its_data_set(
    site: Site, record: dict[str, Any]
) -> None:
    call = ("--format", "onnx", "--out", str(site.folder / "exported"), "--workspace", str(site.workspace))
    done = site.run("selftrain", "export", *call, "--count", "8", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["class_names"] == list(NAMES)
    assert made["parity"]["images"] == 8
    assert made["parity"]["objects"] > 0


def test_a_retraining_goes_on_from_the_champion_with_what_came_into_the_inbox(
    site: Site, nightly: Path, inbox: Path, record: dict[str, Any]
) -> None:
    for k, image in enumerate(drawn_scenes(6, seed=60).images):
        Image.fromarray(image).save(inbox / f"{k}.png")
    done = site.run("selftrain", "retrain", "--json", "--config", str(nightly))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    steps = site.steps(found["run_id"])
    assert "adopt_detector" in steps
    assert "train_detector" not in steps
    first, student = found["rounds"]
    champion = max(record["rounds"], key=lambda each: each["validation_metric"])
    assert first["model_digest"] == champion["model_digest"]
    assert (student["labeled"], student["pool"]) == (36, POOL + 6)
    assert student["image_steps"] == first["image_steps"] + SHORT["student_steps"] * 8
    assert found["test_accuracy"] is not None
    assert "not due" in site.run("selftrain", "retrain", "--config", str(nightly)).stdout
