"""A user's own images, end to end: init or a table, run, then the registered model on new files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.photos import SkippedError, archive, unpack_flowers
from tests.pipelines.site import NETWORK, TINY, Site

pytestmark = [pytest.mark.pipeline, pytest.mark.keras, pytest.mark.slow]

SMALL_WEIGHTS, LARGE_WEIGHTS = "mobilenet_v2_0.35_224_notop.h5", "mobilenet_v2_1.0_224_tf1qat_notop.h5"
COLOURS = ("blue", "green", "red")
SHORT: dict[str, Any] = {"steps": 120, "validate_every": 40, "batch_size": 16, "freeze_steps": 0}
LABELED, ALL, NEW = 16, 28, 32  # images a colour: the first are labelled, the last unknown to the run
Paint = Callable[..., Path]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, paint: Paint) -> Path:
    """`labeled/` in class folders, `unlabeled/`, and `new/`; 96 px a side."""
    folder = tmp_path_factory.mktemp("images")
    for number, colour in enumerate(COLOURS):
        for index in range(NEW):
            name = f"{colour}{index}.png"
            place = f"labeled/{colour}" if index < LABELED else "unlabeled" if index < ALL else "new"
            paint(folder / place / name, colour, side=96, seed=100 * number + index)
    return folder


def init(site: Site, images: Path, name: str, *more: str, **recipe: object) -> Path:
    """What `selftrain init` writes for the images, its trainings made short, or as `recipe` says."""
    path = site.folder / f"{name}.yaml"
    folders = ("--labeled", str(images / "labeled"), "--unlabeled", str(images / "unlabeled"))
    done = site.run("selftrain", "init", *folders, "--name", name, "--target", "0.5", "--out", str(path), *more)
    assert done.returncode == 0, done.stderr
    content = yaml.safe_load(path.read_text())
    experiment = content["parameters"]["experiment"]
    experiment["workspace"] = str(site.workspace)
    for role in ("teacher", "student"):
        experiment[role] |= recipe or SHORT
    path.write_text(yaml.safe_dump(content))
    return path


def run(site: Site, config: Path) -> dict[str, Any]:
    """The record of a run that registers a model."""
    done = site.run("selftrain", "run", "--json", "--config", str(config))
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    assert record["verdict"] == "passed"
    assert record["registered_version"] == record["champion_version"] == 1
    return record


def check_on_new_files(site: Site, images: Path, model_name: str) -> None:
    """The champion predicts and pseudo-labels the images in `new/`; both ways say the same, and nearly all is right."""
    where = ("--workspace", str(site.workspace), "--model-name", model_name)
    said = site.run("selftrain", "predict", str(images / "new"), "--json", *where)
    assert said.returncode == 0, said.stderr
    predicted = {Path(row["path"]).name: row["label"] for row in json.loads(said.stdout)}

    out = site.folder / f"{model_name}.csv"
    places = ("--images", str(images / "new"), "--out", str(out))
    done = site.run("selftrain", "pseudo-label", "--model", "champion", "--threshold", "0", *places, *where)
    assert done.returncode == 0, done.stderr
    with out.open() as file:
        labelled = {Path(row["path"]).name: row["class"] for row in csv.DictReader(file)}

    assert predicted == labelled
    right = [name.startswith(label) for name, label in labelled.items()]
    assert len(right) == len(COLOURS) * (NEW - ALL)
    assert sum(right) >= len(right) - 1


def test_init_and_run_on_folders(site: Site, images: Path) -> None:
    record = run(site, init(site, images, "folders"))
    assert record["labels_used"] == len(COLOURS) * LABELED
    assert record["rounds"][1]["pool"] == len(COLOURS) * (ALL - LABELED)
    check_on_new_files(site, images, "folders")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flowers: `labeled/` with 20 of each of five classes, `test/` with 20, `unlabeled/` with 60."""
    folder = tmp_path_factory.mktemp("photos")
    try:
        paths = unpack_flowers(folder / "all", limit=100)
    except SkippedError as skipped:
        pytest.skip(str(skipped))  # it names the archive, which is never copied into the project
    for index, path in enumerate(paths):
        kind, place = path.parent.name, index % 100
        target = folder / (f"labeled/{kind}" if place < 20 else f"test/{kind}" if place < 40 else "unlabeled")
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)
    return folder


@pytest.mark.data
def test_init_and_run_on_photos_from_files_of_pretrained_weights(site: Site, photos: Path) -> None:
    small, large = (archive(name) for name in (SMALL_WEIGHTS, LARGE_WEIGHTS))
    wishes = ["--teacher-backbone", "mobilenet_v2_035", "--teacher-weights", str(small)]
    wishes += [
        "--student-backbone",
        "mobilenet_v2_100",
        "--student-weights",
        str(large),
        "--test",
        str(photos / "test"),
    ]
    config = init(site, photos, "photos", *wishes, steps=0)  # as it chose itself
    record = run(site, config)
    teacher, student = record["rounds"][:2]
    assert (teacher["backbone"], student["backbone"]) == ("mobilenet_v2_035", "mobilenet_v2_100")
    # 80 labels teach five classes of photos this well only to a backbone that knows photos; chance is .2
    assert record["teacher_test_accuracy"] > 0.5
    assert student["validation_accuracy"] > 0.5


def test_a_table_with_labels_and_splits(site: Site, images: Path) -> None:
    table = images / "images.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        for path in sorted((images / "labeled").rglob("*.png")):
            index = int(path.stem.removeprefix(path.parent.name))
            split = "train" if index < 8 else "validation" if index < 12 else "test"
            rows.writerow((path.relative_to(images), path.parent.name, split))
        for path in sorted((images / "unlabeled").glob("*.png")):
            rows.writerow((path.relative_to(images), "", "unlabeled"))
    recipe = {**SHORT, "backbone": NETWORK}
    changes = {
        "name": "table",
        "source": {"kind": "table", "path": str(table)},
        "teacher": recipe,
        "student": recipe,
        "gate": {"target": 0.5, "min_rounds": 1, "max_rounds": 1},
        "registry": {**TINY["registry"], "model_name": "table"},
    }
    record = run(site, site.config(**changes))
    assert record["rounds"][0]["labeled"] == len(COLOURS) * 8
    assert record["rounds"][1]["pool"] == len(COLOURS) * (ALL - LABELED)
