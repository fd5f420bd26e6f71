"""Labelling a folder with a detector: a COCO file of the boxes above the threshold, and drawn images."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from selftrain.autolabeling.folders.found_objects import Found, find_objects, lowest_scores
from selftrain.autolabeling.folders.sources import ListedImage, read_file
from selftrain.data.sources.listing import find_images
from selftrain.data.sources.objects.coco_writing import FoundObjects, write_coco
from selftrain.data.workers import cores
from selftrain.errors import ConfigError, SourceError
from selftrain.files.places import check_folder
from selftrain.files.writing import replace
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.models.predict_files import Unread
from selftrain.progress import Progress, silent


class DetectionSummary(BaseModel):
    """The result of labelling a folder with a detector: how many images and objects, and where they are written."""

    model_config = ConfigDict(frozen=True)

    images: int
    without_objects: int
    objects: int
    quarantined: int
    thresholds: Mapping[str, float]
    by_class: Mapping[str, int]
    coco: Path
    quarantine: Path
    drawn: Path | None


def quarantine_of(out: Path) -> Path:
    """The table of files that cannot be decoded, beside `out`."""
    return out.with_name(f"{out.stem}.quarantine.csv")


def check_outputs(images: Path, out: Path, drawn: Path | None) -> None:
    """Raise ConfigError where results cannot be written to `out` and `drawn`, or would be among the images."""
    if out.suffix.lower() != ".json":
        raise ConfigError(f"--out {out}: a detector's boxes are written as COCO JSON; give a name such as boxes.json")
    for path in (out, quarantine_of(out)):
        if path.exists():
            raise ConfigError(f"{path} exists, and was left as it is; give another name as --out")
    check_folder(out.parent, option="--out")
    if drawn is not None:
        if drawn.resolve().is_relative_to(images.resolve()):
            raise ConfigError(f"--materialize {drawn} is inside --images {images}; give a folder outside it")
        if drawn.exists() and any(drawn.iterdir()):
            raise ConfigError(f"--materialize {drawn} is not empty, and was left as it is; give a new folder")
        check_folder(drawn, option="--materialize")


def detect_folder(
    saved: SavedDetector,
    images: Path,
    out: Path,
    *,
    threshold: float | None = None,
    drawn: Path | None = None,
    flips: bool = False,
    progress: Progress = silent,
) -> DetectionSummary:
    """Find objects in every image below `images`, and write them to the COCO file `out`; the images stay as they are.

    A box counts from `threshold` on; None: from the score per class at which the detector was precise on validation.
    With `flips` each image is also looked at mirrored, and the answers are averaged. `drawn` is a new folder for the
    images with their boxes. A table beside `out` lists files that cannot be decoded.
    """
    names = saved.contract.class_names
    limits = lowest_scores(saved.contract, threshold)
    paths = sorted(find_images(str(images)).paths)
    if not paths:
        raise SourceError(f"--images {images} holds no image; give a folder with image files")
    unreadable: list[tuple[str, str, str]] = []
    found: list[FoundObjects] = []
    listed = [ListedImage(path, "", read_file) for path in paths]
    for each in find_objects(saved, listed, limits, threads=cores(), flips=flips, progress=progress):
        if isinstance(each, Unread):
            unreadable.append((each.path, each.reason, each.detail))
            continue
        name = Path(each.path).relative_to(images).as_posix()
        if drawn is not None:
            _draw(each, drawn / f"{name}.png", names)  # after the whole name: a.png and a.jpg are two images
        found.append(found_in(name, each))
    if not found:
        raise SourceError(f"none of {len(paths)} files in {images} can be read; the first: {unreadable[0]}")
    objects = write_coco(out, found, names, teacher=saved.contract.identity)
    quarantine = quarantine_of(out)
    write_quarantine(quarantine, unreadable)
    return DetectionSummary(
        images=len(found),
        without_objects=sum(not each.boxes for each in found),
        objects=objects,
        quarantined=len(unreadable),
        thresholds=limits,
        by_class={name: sum(each.classes.count(k) for each in found) for k, name in enumerate(names)},
        coco=out,
        quarantine=quarantine,
        drawn=drawn,
    )


def found_in(name: str, each: Found) -> FoundObjects:
    """The objects of a file that was read, as `write_coco` takes them; the image is called `name`."""
    from selftrain.learn.shapes.outlines import areas_of, as_texts

    height, width = each.pixels.shape[:2]
    masks = each.objects.masks
    texts, areas = (None, ()) if masks is None else (as_texts(masks), areas_of(masks))
    boxes, classes, scores = (
        values.tolist() for values in (each.objects.boxes, each.objects.classes, each.objects.scores)
    )
    return FoundObjects(name, width, height, boxes, classes, scores, texts, areas)


def _draw(each: Found, picture: Path, names: tuple[str, ...]) -> None:
    from selftrain.report.drawn_boxes import draw_boxes

    objects = each.objects
    picture.parent.mkdir(parents=True, exist_ok=True)
    boxes, classes, scores = (values.tolist() for values in (objects.boxes, objects.classes, objects.scores))
    draw_boxes(each.pixels, boxes, classes, class_names=names, scores=scores, masks=objects.masks).save(picture)


def write_quarantine(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write the files that cannot be read, each with the reason and its detail, to the CSV table `path`."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "reason", "detail"))
            writer.writerows(rows)

    replace(path, write)
