"""Label Studio's tasks: the image of each in a JSON export, and the regions that somebody drew there."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import unquote

from selftrain.data.images.names import named_like_an_image
from selftrain.data.sources.objects.coco_file import file_name_of
from selftrain.errors import SourceError

LABELS: Final = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "labels")
_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # which Label Studio puts before the name of an uploaded file

Region = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A task that somebody looked at: its image's name, the regions drawn there, and whether each has a class.

    An image with an object that has none would teach this object as background, so it is not used.
    """

    name: str
    regions: list[Region]
    complete: bool


def read_tasks(path: Path, where: str) -> list[Region]:
    """The tasks in the file at `path`, which `where` names. Raises SourceError for another JSON file, or none."""

    def refused(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=refused)
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{where} cannot be read as JSON ({str(error)[:200]}); export it again") from error
    if not isinstance(content, list) or not all(
        isinstance(each, dict) and isinstance(each.get("data"), dict) for each in content
    ):
        raise SourceError(f"{where} is not a list of tasks with data; export it as JSON, not as JSON-MIN or CSV")
    return content


def done_task(task: Region, images: str, where: str, counts: Counter[str]) -> Task | None:
    """The task with its image below the folder `images`, if somebody labelled it; what is not used is counted."""
    every = task.get("annotations", task.get("completions"))
    given = [each for each in every if isinstance(each, dict)] if isinstance(every, list) else []
    done = [each for each in given if not each.get("was_cancelled")]
    if not done:
        counts["tasks have no annotation, or were skipped: their images are not used"] += 1
        return None
    if len(done) > 1:
        counts["tasks have several annotations: ground truth counts, else the newest"] += 1
    newest = max(done, key=lambda each: (bool(each.get("ground_truth")), str(each.get("updated_at") or "")))
    result = newest.get("result")
    regions = [each for each in result if isinstance(each, dict)] if isinstance(result, list) else []
    if any(each.get("image_rotation") not in (None, 0) for each in regions):
        counts["images were turned in Label Studio: they are not used; turn the files, and label them again"] += 1
        return None
    key, regions = _on_one_image(task, regions, where, counts)
    other = _without_class(regions)
    complete = not any(map(_drawable, other)) and (not other or any(map(class_names, regions)))
    if other:
        counts["regions have no class, or are not boxes, polygons, brush strokes or ellipses: left out"] += len(other)
    if not complete:
        counts["images have an object without a class, or no other region: they are not used"] += 1
    return Task(_file(task["data"][key], images, where), regions, complete)


def _on_one_image(task: Region, regions: list[Region], where: str, counts: Counter[str]) -> tuple[str, list[Region]]:
    """The key of the task's image in its data, and the regions on this image.

    The export does not say which image a tag shows; people mostly give the tag the name of the key.
    """
    texts = {key: value for key, value in task["data"].items() if isinstance(value, str)}
    keys = [key for key, value in texts.items() if key != "image" and named_like_an_image(_plain(value))]
    keys = ["image", *keys] if "image" in texts else keys
    if not keys:
        raise SourceError(f"{where}: task {task.get('id')!r} has no image in its data: {sorted(task['data'])[:5]}")
    if len(keys) == 1:
        return keys[0], regions
    tags = sorted({str(each.get("to_name")) for each in regions if _placed(each)})
    known = next((key for key in keys if key in tags), None)
    if known is None and len(tags) > 1:
        raise SourceError(
            f"{where}: task {task.get('id')!r} has the images {', '.join(keys)} and regions on {', '.join(tags)}; "
            "which lie on which is not written there: make a task of each image"
        )
    key = known or keys[0]
    counts[f"tasks have several images: only {key!r} is used"] += 1
    if known is None:
        return key, regions
    own = [each for each in regions if not _placed(each) or each.get("to_name") == known]
    if len(own) < len(regions):
        counts["regions lie on another image of their task: left out"] += len(regions) - len(own)
    return key, own


def _without_class(regions: Sequence[Region]) -> list[Region]:
    """The regions somewhere in the image that have no class that is read.

    A box drawn with tags of its own for shape and class, and a text that was read off, are several regions of one id.
    """
    known = {each["id"] for each in regions if each.get("id") is not None and class_names(each)}
    return [each for each in regions if _placed(each) and not class_names(each) and each.get("id") not in known]


def _file(address: str, images: str, where: str) -> str:
    """The file of the image at `address`, below the folder `images`; blanks and umlauts may be written as %20."""
    name = file_name_of({"file_name": address}, where)
    tries = [name]
    for plain in dict.fromkeys((_plain(name), unquote(_plain(name)))):
        base = os.path.basename(plain)
        tries += [plain, *_inner(plain), base, _PREFIX.sub("", base)]
    return next((each for each in tries if os.path.isfile(os.path.join(images, each))), tries[-1])


def _plain(name: str) -> str:
    """An address without its protocol and query: the path in a bucket, or on a server."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", name).partition("?")[0].lstrip("/")


def _inner(path: str) -> list[str]:
    """The ends of `path`, from the longest to the shortest: a folder may be anywhere in a bucket."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts) - 1)]


def _placed(region: Region) -> bool:
    """Whether the region is a place in the image, of whatever kind."""
    value = region.get("value")
    return isinstance(value, dict) and bool({"x", "points", "rle", "vertices"} & value.keys())


def _drawable(region: Region) -> bool:
    """Whether the region is a box, polygon, brush stroke or ellipse; a key point has a width alone."""
    value = region.get("value")
    return isinstance(value, dict) and bool({"points", "rle", "radiusX", "height"} & value.keys())


def class_names(region: Region) -> list[str]:
    """The classes of a region that is a box, polygon, brush stroke or ellipse."""
    value = region.get("value")
    if not isinstance(value, dict) or not _drawable(region):
        return []
    found: list[object] = next((value[key] for key in LABELS if isinstance(value.get(key), list)), [])
    return [name for name in found if isinstance(name, str)]
