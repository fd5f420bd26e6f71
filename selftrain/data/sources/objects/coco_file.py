"""COCO files: strict JSON, whose images, categories and annotations refer to each other as they should."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs, urlsplit

from selftrain.errors import SourceError
from selftrain.naming import name_rows

Id = int | str
Entry = dict[str, object]
CONTRIBUTOR = "selftrain"


@dataclass(frozen=True)
class CocoFile:
    """The parts of one COCO file. `image_of` and `category_of` hold, for each annotation, a position in the others."""

    where: str
    images: list[Entry]
    annotations: list[Entry]
    names: tuple[str, ...]
    category_ids: tuple[Id, ...]
    image_of: list[int]
    category_of: list[int]
    notes: tuple[str, ...]
    ours: bool  # written by selftrain: scores in it are those of models


def read_coco_file(path: Path) -> CocoFile:
    """The COCO file at `path`.

    Raises SourceError for what is not strict JSON, an image or category id that comes twice, two categories of one
    name, and annotations of unknown images or categories; it names the first five.
    """
    where = f"COCO file {str(path)!r}"
    content = _parsed(path, where)
    images = _entries(content, "images", where)
    categories = _entries(content, "categories", where)
    annotations = _entries(content, "annotations", where)
    categories, notes = _without_parents(sorted(categories, key=lambda each: _sort_key(each, where)), annotations)
    category_ids = _ids(categories, "category", where)
    image_of = _places(annotations, "image_id", _ids(images, "image", where), where)
    category_of = _places(annotations, "category_id", category_ids, where)
    repeated = len(annotations) - len({str(each.get("id")) for each in annotations})
    if repeated and any("id" in each for each in annotations):
        notes = (*notes, f"{repeated} annotations share their id with another one; selftrain gives each its own")
    info = content.get("info")
    ours = isinstance(info, dict) and info.get("contributor") == CONTRIBUTOR
    names = _class_names(categories, where)
    return CocoFile(where, images, annotations, names, category_ids, image_of, category_of, notes, ours)


def _parsed(path: Path, where: str) -> Entry:
    def refused(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=refused)
    except OSError as error:
        raise SourceError(f"{where} cannot be read ({error.strerror}); correct the path") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is not JSON ({str(error)[:200]}); export it again") from error
    if not isinstance(content, dict):
        raise SourceError(
            f"{where} holds a {type(content).__name__}, not an object with images, categories and annotations; a list "
            "of detections alone is not a data set"
        )
    return content


def _entries(content: Entry, key: str, where: str) -> list[Entry]:
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise SourceError(
            f"{where} has no list of objects under {key!r}, only {sorted(content)[:10]}; export it as COCO"
        )
    if not found and key != "annotations":
        raise SourceError(f"{where} has no {key}; export it again with some")
    return found


def _is_id(value: object) -> bool:
    return type(value) in (int, str)


def _sort_key(category: Entry, where: str) -> tuple[bool, int, str]:
    value = category.get("id")
    match value:
        case bool():
            pass
        case int():
            return False, value, ""
        case str():
            return True, 0, value
    raise SourceError(f"{where}: a category has the id {value!r}; ids are whole numbers or texts")


def _ids(entries: list[Entry], kind: str, where: str) -> tuple[Id, ...]:
    ids = [each.get("id") for each in entries]
    wrong = [repr(value)[:50] for value in ids if not _is_id(value)]
    if wrong:
        raise SourceError(
            f"{where}: {kind} ids that are neither whole numbers nor texts: {name_rows(wrong)}; correct them"
        )
    twice = [repr(value) for value, count in Counter(ids).items() if count > 1]
    if twice:
        raise SourceError(f"{where}: {kind} ids that come more than once: {name_rows(twice)}; give each its own id")
    return tuple(value for value in ids if isinstance(value, int | str))


def _places(annotations: list[Entry], key: str, ids: tuple[Id, ...], where: str) -> list[int]:
    """The position in `ids` of what each annotation names."""
    place: dict[object, int] = {value: k for k, value in enumerate(ids)}
    places = [place.get(value, -1) if _is_id(value := each.get(key)) else -1 for each in annotations]
    if -1 in places:
        rows = [row for row, found in enumerate(places) if found < 0]
        named = [f"{annotations[row].get(key)!r}"[:50] for row in rows[:5]]
        raise SourceError(
            f"{where}: {len(rows)} annotations have a {key} that the file does not list: {name_rows(named, len(rows))}"
            "; was a part of the file removed?"
        )
    return places


def _class_names(categories: list[Entry], where: str) -> tuple[str, ...]:
    names = [each.get("name") for each in categories]
    wrong = [repr(name)[:50] for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise SourceError(f"{where}: categories without a name: {name_rows(wrong)}; name them")
    twice = [repr(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(f"{where}: two categories of one name: {name_rows(twice)}; merge or rename them")
    return tuple(str(name) for name in names)


def _without_parents(categories: list[Entry], annotations: list[Entry]) -> tuple[list[Entry], tuple[str, ...]]:
    """The categories without Roboflow's first one: the parent of all others, which no object has."""
    used = {repr(each.get("category_id")) for each in annotations}
    parents = {repr(each.get("supercategory")) for each in categories}
    gone = [
        each
        for each in categories
        if each.get("id") == 0
        and each.get("supercategory") == "none"
        and repr(each.get("name")) in parents
        and repr(each.get("id")) not in used
    ]
    if not gone or len(gone) == len(categories):
        return categories, ()
    return [each for each in categories if each not in gone], (f"{gone[0].get('name')!r} is the parent of all classes",)


def file_name_of(image: Entry, where: str) -> str:
    """The file that an image's entry names; for Label Studio's links, the file behind them."""
    name = image.get("file_name")
    if not isinstance(name, str):
        raise SourceError(f"{where}: image {image.get('id')!r} has the file name {name!r}; give it a text")
    if name.startswith("/data/local-files/"):
        return parse_qs(urlsplit(name).query).get("d", [name])[0]
    if name.startswith("/data/upload/"):
        return name.rpartition("/")[2]
    return name


def size_of(image: Entry, where: str) -> tuple[int, int] | None:
    """Width and height of an image's entry; None if it has neither."""
    size = image.get("width"), image.get("height")
    match size:
        case (None, None):
            return None
        case (int() | float() as width, int() | float() as height) if 0 < width < 1e6 and 0 < height < 1e6:
            if width == int(width) and height == int(height):
                return int(width), int(height)
    raise SourceError(
        f"{where}: image {image.get('id')!r} has the size {size!r}; give width and height in pixels, or none"
    )
