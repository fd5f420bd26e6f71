"""Labelling a folder with a detector: a COCO file of the boxes above the threshold, and drawn images."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from selftrain.data.images.decode import decode
from selftrain.data.images.openers import image_bytes
from selftrain.data.sources.listing import find_images
from selftrain.data.sources.objects.coco_writing import FoundObjects, write_coco
from selftrain.errors import ConfigError, ImageError, SourceError
from selftrain.files.places import check_folder
from selftrain.files.writing import replace
from selftrain.learn.detection.saving import SavedDetector
from selftrain.progress import Progress, silent

BY_DEFAULT = 0.5
"""The lowest score of a class whose threshold the detector's contract does not know."""
_AT_ONCE = 16  # images


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
    progress: Progress = silent,
) -> DetectionSummary:
    """Find objects in every image below `images`, and write them to the COCO file `out`; the images stay as they are.

    A box counts from `threshold` on; None: from the score per class at which the detector was precise on validation.
    `drawn` is a new folder for the images with their boxes. A table beside `out` lists files that cannot be decoded.
    """
    names = saved.contract.class_names
    limits = {
        name: threshold if threshold is not None else saved.contract.thresholds.get(name, BY_DEFAULT) for name in names
    }
    paths = sorted(find_images(str(images)).paths)
    if not paths:
        raise SourceError(f"--images {images} holds no image; give a folder with image files")
    unreadable: list[tuple[str, str, str]] = []
    found = list(_found(saved, paths, images, limits, unreadable, drawn, progress))
    if not found:
        raise SourceError(f"none of {len(paths)} files in {images} can be read; the first: {unreadable[0]}")
    objects = write_coco(out, found, names, teacher=saved.contract.identity)
    quarantine = quarantine_of(out)
    _write_quarantine(quarantine, unreadable)
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


def _found(
    saved: SavedDetector,
    paths: list[str],
    root: Path,
    limits: Mapping[str, float],
    unreadable: list[tuple[str, str, str]],
    drawn: Path | None,
    progress: Progress,
) -> Iterator[FoundObjects]:
    """What each readable image holds; what cannot be read is added to `unreadable`."""
    from selftrain.learn.detection.detect import Choice
    from selftrain.learn.shapes.outlines import areas_of, as_texts
    from selftrain.report.drawn_boxes import draw_boxes

    names = saved.contract.class_names
    lowest = [limits[name] for name in names]
    detector = saved.open(Choice(score=min(lowest), longest=saved.contract.longest))
    for start in range(0, len(paths), _AT_ONCE):
        some, images = [], []
        for path in paths[start : start + _AT_ONCE]:
            try:
                images.append(decode(image_bytes(path), None))
                some.append(path)
            except ImageError as error:
                unreadable.append((path, error.reason, error.message))
            except OSError as error:
                unreadable.append((path, "unreadable_file", str(error)))
        for path, pixels, each in zip(some, images, detector(images), strict=True):
            name = Path(path).relative_to(root).as_posix()
            kept = [row for row in range(len(each)) if float(each.scores[row]) >= lowest[int(each.classes[row])]]
            boxes, classes = each.boxes[kept].tolist(), each.classes[kept].tolist()
            scores = each.scores[kept].tolist()
            masks = None if each.masks is None else each.masks[kept]
            if drawn is not None:
                picture = drawn / f"{name}.png"  # after the whole name: a.png and a.jpg are two images
                picture.parent.mkdir(parents=True, exist_ok=True)
                draw_boxes(pixels, boxes, classes, class_names=names, scores=scores, masks=masks).save(picture)
            texts, areas = (None, ()) if masks is None else (as_texts(masks), areas_of(masks))
            yield FoundObjects(name, pixels.shape[1], pixels.shape[0], boxes, classes, scores, texts, areas)
        progress(min(start + _AT_ONCE, len(paths)), len(paths))


def _write_quarantine(path: Path, rows: list[tuple[str, str, str]]) -> None:
    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "reason", "detail"))
            writer.writerows(rows)

    replace(path, write)
