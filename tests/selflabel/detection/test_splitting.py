"""Splits of `fit_detector`: by objects, groups and looks, as the pipeline's."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.data.sources.objects.coco import read_coco
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.errors import SourceError
from selftrain.selflabel.detection.splitting import Rows, look_alikes, split_rows

NAMES = ("cell", "rare")


def labelled(folder: Path, *, images: int, rare: tuple[int, ...]) -> LabelledImages:
    """Noise with a cell in each image; images 0 and 1 are one picture, saved twice."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, objects = [], []
    for k in range(images):
        coarse = np.random.default_rng(max(k, 1)).integers(0, 255, (6, 6, 3), np.uint8)
        Image.fromarray(coarse).resize((60, 60)).save(folder / f"{k}.jpg", quality=60 + 30 * (k == 0))
        rows.append({"id": k, "file_name": f"{k}.jpg", "width": 60, "height": 60})
        for label in [0] + [1] * (k in rare):
            objects.append({"id": len(objects), "image_id": k, "category_id": label + 1, "bbox": [5, 5, 20, 20]})
    classes = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    (folder / "a.json").write_text(json.dumps({"images": rows, "annotations": objects, "categories": classes}))
    return read_coco(folder / "a.json", images=str(folder))


def sides(rows: Rows, count: int) -> list[str]:
    side = {row: name for name in ("train", "validation", "test") for row in getattr(rows, name)}
    return [side[row] for row in range(count)]


def test_a_rare_class_is_on_every_side_and_look_alikes_on_one(tmp_path: Path) -> None:
    read = labelled(tmp_path, images=20, rare=(0, 1, 5, 9))
    paths = read.images["path"].to_pylist()
    names = read.images["name"].to_pylist()
    alike = look_alikes(paths)
    twins = [row for row, name in enumerate(names) if name in ("0.jpg", "1.jpg")]
    assert len(set(alike.tolist())) == 19
    assert len({int(alike[row]) for row in twins}) == 1
    rare = [row for row, name in enumerate(names) if name in ("0.jpg", "1.jpg", "5.jpg", "9.jpg")]
    for seed in range(6):
        rows = split_rows(read, validation=0.2, test=0.2, seed=seed, alike=alike)
        found = sides(rows, 20)
        assert sorted(map(len, (rows.train, rows.validation, rows.test))) == [4, 4, 12]
        assert {found[row] for row in rare} == {"train", "validation", "test"}
        assert len({found[row] for row in twins}) == 1
        assert rows == split_rows(read, validation=0.2, test=0.2, seed=seed, alike=alike)


def test_a_file_that_cannot_be_decoded_is_like_no_other(tmp_path: Path) -> None:
    blank = io.BytesIO()
    Image.new("RGB", (40, 40)).save(blank, "PNG")
    for name, data in {"a": b"no image", "b": b"nor this", "c": blank.getvalue(), "d": blank.getvalue()}.items():
        (tmp_path / name).write_bytes(data)
    alike = look_alikes([str(tmp_path / name) for name in "abcd"]).tolist()
    assert alike[2] == alike[3]
    assert len(set(alike)) == 3


def test_images_that_are_all_copies_are_too_few(tmp_path: Path) -> None:
    read = labelled(tmp_path, images=12, rare=())
    with pytest.raises(SourceError, match=r"12 labelled images leave .* copies and groups stay together: label more"):
        split_rows(read, validation=0.2, test=0.2, seed=0, alike=np.zeros(12, np.int64))
