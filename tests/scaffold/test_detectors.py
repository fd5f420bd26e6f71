"""`init --coco`: what is seen in a COCO file, what is chosen, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selftrain.config import CocoSource
from selftrain.config.text.file import read_experiment
from selftrain.errors import ConfigError, SourceError
from selftrain.scaffold.detectors import scaffold_detector
from selftrain.scaffold.draft import Wishes
from tests.learn.detection.drawn_coco import coco, pool


def source(folder: Path, *, images: int = 12, more: int = 40) -> CocoSource:
    labels = coco(folder / "cells", images=images, seed=0)
    return CocoSource(
        annotations=str(labels), images=str(labels.parent / "photos"), unlabeled=str(pool(folder / "more", images=more))
    )


def test_the_file_that_is_written_is_read_back_and_says_why(tmp_path: Path) -> None:
    out = tmp_path / "boxes.yaml"
    chosen = scaffold_detector(source(tmp_path), Wishes(), out, command="selftrain init")
    e = read_experiment(out)
    assert (e, e.name) == (chosen.experiment, "cells")  # labels.json says nothing, its folder does
    assert (e.task, e.control, e.gate.metric, e.gate.target) == ("detection", "supervised", "map", 0.3)
    assert e.detection.teacher_steps == 2000  # from scratch
    said = "\n".join(chosen.lines())
    assert "objects in 12 images: square" in said
    assert "40 images without labels" in said
    assert "published weights do more" in said
    assert "the gate is coarse" in said


def test_wishes_are_kept(tmp_path: Path) -> None:
    wishes = Wishes(name="mine", teacher_backbone="efficientnet_b0", teacher_weights="imagenet", target=0.5)
    e = scaffold_detector(source(tmp_path), wishes, tmp_path / "boxes.yaml", command="selftrain init").experiment
    assert (e.name, e.detection.backbone, e.detection.weights) == ("mine", "efficientnet_b0", "imagenet")
    assert (e.gate.target, e.detection.teacher_steps, e.detection.student_steps) == (0.5, 500, 1250)


def test_too_few_images_no_pool_and_a_file_that_is_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="4 labelled images; give 2 for each"):
        scaffold_detector(source(tmp_path / "few", images=4), Wishes(), tmp_path / "a.yaml", command="init")
    (tmp_path / "empty").mkdir()
    settings = source(tmp_path / "none").model_copy(update={"unlabeled": str(tmp_path / "empty")})
    with pytest.raises(SourceError, match="no image without labels"):
        scaffold_detector(settings, Wishes(), tmp_path / "a.yaml", command="init")
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="was left as it is"):
        scaffold_detector(source(tmp_path / "x"), Wishes(), tmp_path / "mine.yaml", command="init")
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert not (tmp_path / "a.yaml").exists()


def test_a_broken_file_is_told_before_anything_is_written(tmp_path: Path) -> None:
    settings = source(tmp_path)
    content = json.loads(Path(settings.annotations).read_text())
    content["annotations"][0]["image_id"] = 999
    Path(settings.annotations).write_text(json.dumps(content))
    with pytest.raises(SourceError, match="999"):
        scaffold_detector(settings, Wishes(), tmp_path / "a.yaml", command="init")
    assert not (tmp_path / "a.yaml").exists()


def test_the_file_of_the_boxes_is_never_written_over(tmp_path: Path) -> None:
    of = source(tmp_path)
    before = Path(of.annotations).read_bytes()
    with pytest.raises(ConfigError, match="is the file that holds the boxes"):
        scaffold_detector(of, Wishes(), Path(of.annotations), command="selftrain init", force=True)
    assert Path(of.annotations).read_bytes() == before


def test_nor_is_it_where_the_name_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = source(tmp_path)
    (tmp_path / "cells" / "labels").mkdir()
    (tmp_path / "cells" / "photos").rename(tmp_path / "cells" / "images")
    for image in (tmp_path / "cells" / "images").iterdir():
        (tmp_path / "cells" / "labels" / f"{image.stem}.txt").write_text("0 .5 .5 .4 .4\n")
    boxes = tmp_path / "cells" / "mine.yaml"
    boxes.write_text("names: [square]\ntrain: images\n")
    monkeypatch.chdir(boxes.parent)
    yolo = of.model_copy(update={"annotations": str(boxes), "images": str(boxes.parent)})
    assert scaffold_detector(yolo, Wishes(name="other"), None, command="selftrain init").path == Path("other.yaml")
    with pytest.raises(ConfigError, match="is the file that holds the boxes"):
        scaffold_detector(yolo, Wishes(name="mine"), None, command="selftrain init", force=True)
    assert boxes.read_text() == "names: [square]\ntrain: images\n"


@pytest.mark.parametrize("name", ["data.json", "train.json", "Annotations/instances.json"])
def test_a_file_that_says_nothing_is_named_by_its_folder(tmp_path: Path, name: str) -> None:
    of = source(tmp_path)
    path = Path(of.annotations).parent / name
    path.parent.mkdir(exist_ok=True)
    Path(of.annotations).rename(path)
    moved = of.model_copy(update={"annotations": str(path)})
    assert scaffold_detector(moved, Wishes(), tmp_path / "x.yaml", command="selftrain init").experiment.name == "cells"
