"""The COCO source: images by stratum, a pool without the labelled ones, and objects under the manifest's ids."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain import config
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.coco import ANNOTATED, CocoImages
from selftrain.data.sources.objects.coco_writing import FoundObjects, write_coco
from selftrain.data.sources.source import open_source
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import SourceError

NAMES = ("cell", "rare")


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def coco(path: Path, images: list[tuple[str, list[int]]]) -> Path:
    """A COCO file: each image with one box of 10 pixels for each class that is listed."""
    rows = [
        {"id": n, "image_id": k, "category_id": label + 1, "bbox": [5 + n % 7, 3, 10, 10]}
        for n, (k, label) in enumerate((k, label) for k, (_, labels) in enumerate(images) for label in labels)
    ]
    path.write_text(
        json.dumps(
            {
                "images": [
                    {"id": k, "file_name": name, "width": 50, "height": 40} for k, (name, _) in enumerate(images)
                ],
                "annotations": rows,
                "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
            }
        )
    )
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """36 labelled images: 12 with the rare class, 2 without any object; 5 of 7 images of the pool are others."""
    images = []
    for k in range(36):
        photo(tmp_path / "photos" / f"{k}.png", k)
        images.append((f"{k}.png", [] if k < 2 else [0, 0, 1] if k < 14 else [0, 0]))
    coco(tmp_path / "labels.json", images)
    for k in range(5):
        photo(tmp_path / "photos" / "more" / f"pool{k}.png", 100 + k)
    return tmp_path


def source(folder: Path, **settings: str) -> config.CocoSource:
    return config.CocoSource(
        annotations=str(folder / "labels.json"),
        images=str(folder / "photos"),
        unlabeled=str(folder / "photos"),
        **settings,
    )


def made(folder: Path, settings: config.CocoSource) -> Manifest:
    opened = open_source(settings)
    store = ImageStore(folder / "store")
    return ingest(opened, opened.scan(), store, settings=config.Ingest(), splitting=config.Splitting()).manifest


def test_all_annotated_images_have_one_label_and_leave_the_pool(folder: Path) -> None:
    listing = open_source(source(folder)).scan()
    labels = Counter(listing.table["label"].to_pylist())
    assert labels == {ANNOTATED: 36, None: 5}
    said = "; ".join(listing.notes)
    assert "80 objects: cell 68, rare 12" in said
    assert "2 of 36 images have no object" in said
    assert "36 images of" in said
    assert "are labelled ones" in said


def test_objects_come_under_the_manifests_ids(folder: Path) -> None:
    settings = source(folder)
    manifest = made(folder, settings)
    objects = CocoImages(settings).objects_in(manifest)
    assert objects.label_map.names == NAMES
    assert len(objects) == 80
    ids = dict(zip(manifest.table["origin"].to_pylist(), manifest.table["image_id"].to_pylist(), strict=True))
    first, count = objects.spans([ids[str(folder / "photos" / "5.png")], ids[str(folder / "photos" / "0.png")]])
    assert count.tolist() == [3, 0]
    assert objects.labels[first[0] : first[0] + 3].tolist() == [0, 0, 1]


def test_a_rare_class_is_on_every_side_of_the_split_and_the_same_objects_give_the_same_split(folder: Path) -> None:
    path = folder / "labels.json"
    content = json.loads(path.read_text())
    rare = [one for one in content["annotations"] if one["category_id"] == 2]
    content["annotations"] = [one for one in content["annotations"] if one not in rare[3:]]
    path.write_text(json.dumps(content))
    settings = source(folder)
    manifest = made(folder, settings)
    objects = CocoImages(settings).objects_in(manifest)
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        part = objects.of_images(manifest.part(split).table["image_id"])
        assert np.bincount(part.labels, minlength=2)[1] == 1, split
    assert [len(manifest.rows(split)) for split in Split] == [22, 7, 7, 5]
    assert made(folder / "again", settings).digest == manifest.digest


def test_more_objects_in_an_image_move_no_image(folder: Path) -> None:
    first = made(folder, source(folder))
    path = folder / "labels.json"
    content = json.loads(path.read_text())
    content["annotations"] += [
        {"id": 900 + k, "image_id": k, "category_id": 2, "bbox": [20, 20, 9, 9]} for k in range(20, 30)
    ]
    path.write_text(json.dumps(content))
    assert made(folder, source(folder)).digest == first.digest


def test_files_for_validation_and_test_are_what_they_say(folder: Path) -> None:
    for k, name in enumerate(("v", "t")):
        images = []
        for n in range(4):
            photo(folder / "photos" / f"{name}{n}.png", 200 + 10 * k + n)
            images.append((f"{name}{n}.png", [0]))
        coco(folder / f"{name}.json", images)
    settings = source(folder, validation=str(folder / "v.json"), test=str(folder / "t.json"))
    manifest = made(folder, settings)
    assert [len(manifest.rows(split)) for split in Split] == [36, 4, 4, 5]


def test_a_wrong_folder_and_a_class_that_is_not_there_are_told(folder: Path) -> None:
    with pytest.raises(SourceError, match="'nowhere' is not a folder"):
        open_source(source(folder).model_copy(update={"images": "nowhere"})).scan()
    with pytest.raises(SourceError, match="unknown class 'cel'; did you mean 'cell'"):
        open_source(source(folder).model_copy(update={"classes": ("cel",)})).scan()


def test_an_image_that_is_listed_for_two_splits_is_refused(folder: Path) -> None:
    coco(folder / "v.json", [("3.png", [0]), ("4.png", [0])])
    with pytest.raises(
        SourceError, match=r"2 of 2 validation images are listed for another split too, such as .*3\.png"
    ):
        open_source(source(folder, validation=str(folder / "v.json"))).scan()


def test_doubled_boxes_and_classes_without_objects_are_said(folder: Path) -> None:
    path = folder / "labels.json"
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 999})
    content["categories"].append({"id": 9, "name": "never"})
    path.write_text(json.dumps(content))
    said = "; ".join(open_source(source(folder)).scan().notes)
    assert "1 objects have the same box and class as another one" in said
    assert "1 classes have no object: never" in said


def held_out(folder: Path, *, names: tuple[str, ...], beside: bool) -> config.CocoSource:
    """A validation file whose images lie beside it or in the folder of the others, and that names these classes."""
    place = folder / "valid"
    place.mkdir()
    for n in range(3):
        photo((place if beside else folder / "photos") / f"v{n}.png", 300 + n)
    content = json.loads(coco(place / "v.json", [(f"v{n}.png", [0]) for n in range(3)]).read_text())
    content["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    (place / "v.json").write_text(json.dumps(content))
    return source(folder, validation=str(place / "v.json"))


def test_a_held_out_file_may_name_fewer_classes_and_lie_with_its_images(folder: Path) -> None:
    settings = held_out(folder, names=("rare",), beside=True)
    manifest = made(folder, settings)
    assert len(manifest.rows(Split.VALIDATION)) == 3
    objects = CocoImages(settings).objects_in(manifest)
    ids = [row["image_id"] for row in manifest.table.to_pylist() if row["origin"].endswith("v1.png")]
    first, count = objects.spans(ids)
    assert objects.label_map.names == NAMES
    assert objects.labels[first[0] : first[0] + count[0]].tolist() == [1]


def test_a_held_out_file_with_another_class_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"has the classes nucleus, which .* does not name"):
        open_source(held_out(folder, names=("nucleus",), beside=False)).scan()


@pytest.mark.parametrize("role", ["annotations", "test"])
def test_boxes_that_a_model_found_are_no_truth(folder: Path, role: str) -> None:
    found = [FoundObjects(f"{k}.png", 50, 40, [[5, 5, 15, 15]], [0], [0.9]) for k in range(6)]
    write_coco(folder / "boxes.json", found, NAMES, teacher="t")
    settings = source(folder).model_copy(update={role: str(folder / "boxes.json")})
    with pytest.raises(SourceError, match="holds 6 objects that a model found"):
        open_source(settings).scan()


def test_boxes_beyond_their_images_are_counted_before_they_are_cut(folder: Path) -> None:
    path = folder / "labels.json"
    content = json.loads(path.read_text())
    for one, box in zip(content["annotations"], ([45, 3, 10, 10], [60, 3, 10, 10], [40.5, 3, 10, 10]), strict=False):
        one["bbox"] = box
    path.write_text(json.dumps(content))
    drawn = CocoImages(source(folder)).drawn
    assert (drawn.boxes, drawn.beyond) == (80, 2)  # half a pixel is what rounding does
    assert drawn.examples == (
        "cell at 45 3 55 13 in 2.png of 50x40 pixels",
        "cell at 60 3 70 13 in 2.png of 50x40 pixels",
    )


def test_a_dangling_link_in_the_pool_is_listed_and_not_an_error(folder: Path) -> None:
    (folder / "photos" / "more" / "gone.png").symlink_to(folder / "nowhere.png")
    listing = open_source(source(folder)).scan()
    rows = {row["path"]: row["size"] for row in listing.table.to_pylist()}
    assert rows[str(folder / "photos" / "more" / "gone.png")] == -1
