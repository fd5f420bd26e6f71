"""YOLO source: boxes from text files beside the images, as a data.yaml of ultralytics lists them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from selftrain.data.label_map import LabelMap
from selftrain.data.sources.objects.checking import checked
from selftrain.data.sources.objects.coco import source_of
from selftrain.data.sources.objects.labelled import DrawnObjects, LabelledImages
from selftrain.data.sources.objects.outlines import outline_of
from selftrain.data.sources.objects.places import image_table, refuse_shared_texts
from selftrain.data.sources.objects.voc import ENDINGS
from selftrain.errors import SelftrainError, SourceError

_BOX, _FOUR_POINTS = 4, 8  # numbers after the class
_FARTHEST = 1.5  # sides of the image: what lies a little outside is cut
_KEYS = {None: "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class _Line:
    """A line of a text file: its class, and its corners as shares of the image's sides.

    `points` are x and y of a polygon's points in turn, none of a box.
    """

    label: int
    corners: tuple[float, float, float, float]
    numbers: int
    where: str
    points: tuple[float, ...] = ()


def read_yolo(path: Path, *, classes: Sequence[str] | None = None, split: str | None = None) -> LabelledImages:
    """The images and objects that the data.yaml at `path` lists under `train`; under `val` or `test` for that `split`.

    - `classes`: the classes to keep, in this order; by default all of `names`.

    Folders of images and lists of them (`.txt`) are read. The labels of an image lie where the last `images` of its
    path says `labels`. An image without a text file, or with an empty one, has no objects. Four numbers after the class
    are a box, more are a polygon: an outline and the box around it. Four points alone may also be an oriented box: they
    are taken for polygons only where other lines have polygons. Raises SourceError, with the file and line, for
    anything else.
    """
    content = _content(path)
    known = _names(content.get("names"), path)
    count = content.get("nc", len(known))
    if count != len(known):
        raise SourceError(f"{str(path)!r}: nc is {count!r}, and names lists {len(known)} classes; correct one of them")
    pose = content.get("kpt_shape") is not None  # points of a skeleton follow the box
    for name in classes or ():
        LabelMap(known).index(name)
    names = tuple(classes) if classes else known
    root, elsewhere = _root(content, path), (*_elsewhere(content, path), *_alike(content, path))
    files = _images(content.get(_KEYS[split]), root, path, _KEYS[split])
    root = Path(os.path.commonpath([root, *(os.path.dirname(file) for file in files)]))
    relative = [os.path.relpath(file, root) for file in files]
    table, notes = image_table(
        str(root),
        relative,
        [None] * len(files),
        where=repr(str(path)),
        splits=[split] * len(files),
        groups=[source_of(os.path.basename(file)) for file in files],
    )
    refuse_shared_texts(files, _label_file, repr(str(path)))
    if not any(_label_file(file).is_file() for file in files):
        raise SourceError(
            f"{str(path)!r}: none of the {len(files)} images of {_KEYS[split]} has a text file; that of {files[0]!r} "
            f"would be {str(_label_file(files[0]))!r}. Put them there, or leave out {_KEYS[split]}"
        )
    lines = [(at, each) for at, file in enumerate(files) for each in _lines(_label_file(file), len(known), pose=pose)]
    _refuse_oriented([each for _, each in lines], lambda: _of_other_splits(content, path, split, len(known)))
    sizes = list(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True))
    boxes = [np.array(each.corners) * np.tile(sizes[at], 2) for at, each in lines]
    missing = sum(not _label_file(file).is_file() for file in files)
    said = (f"{missing} images have no text file, and count as looked at and empty",) if missing else ()
    drawn = DrawnObjects(
        image=np.array([at for at, _ in lines], np.int64),
        label=np.array([_index(names, known[each.label]) for _, each in lines], np.int64),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        masks=[_mask(each, *sizes[at]) for at, each in lines],
        crowd=np.zeros(len(lines), bool),
        ids=[None] * len(lines),
        faults=[None] * len(lines),
    )
    return checked(table, drawn, LabelMap(names), where=repr(str(path)), notes=(*notes, *elsewhere, *said))


def yolo_splits(path: Path) -> tuple[str, ...]:
    """The held-out splits, of `validation` and `test`, that the data.yaml at `path` has here.

    Tools name a test folder that they have not written. A split that lists what `train` lists is not held out.
    """
    content = _content(path)
    root = _root(content, path)
    return tuple(
        split
        for split, key in _KEYS.items()
        if split is not None
        and content.get(key)
        and content[key] != content.get("train")
        and all(_place(root, each).exists() for each in _places(content[key]))
    )


def yolo_root(path: Path) -> str:
    """The folder that the paths in the data.yaml at `path` start from."""
    return str(_root(_content(path), path))


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


def _content(path: Path) -> dict[str, object]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SourceError(f"{str(path)!r} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{str(path)!r} is not a data.yaml: it has no keys; it needs names and train")
    return content


def _names(given: object, path: Path) -> tuple[str, ...]:
    if isinstance(given, dict):
        numbered = {str(key): name for key, name in given.items()}
        given = [numbered.get(str(at)) for at in range(len(given))]
        given = None if None in given else given
    if not isinstance(given, list) or not given:
        raise SourceError(f"{str(path)!r}: names must list the classes, or number them from 0 without gaps")
    for at, name in enumerate(given):
        if not isinstance(name, str | int | float) or isinstance(name, bool):
            raise SourceError(f"{str(path)!r}: YAML reads name {at} as {name!r}; put it in quotes")
    try:
        return LabelMap(tuple(str(name) for name in given)).names
    except SelftrainError as error:
        raise SourceError(f"{str(path)!r}: names: {error}") from error


def _root(content: dict[str, object], path: Path) -> Path:
    """`path` of the file, from its own folder; that folder where there is none, or it lies on another machine."""
    said = content.get("path")
    root = path.parent / said if isinstance(said, str) else path.parent
    return Path(os.path.abspath(root if root.is_dir() else path.parent))


def _elsewhere(content: dict[str, object], path: Path) -> tuple[str, ...]:
    """A note where `path` of the file names a folder that is not here."""
    said = content.get("path")
    if not isinstance(said, str) or (path.parent / said).is_dir():
        return ()
    return (f"{str(path)!r}: path is {said!r}, which does not exist here: paths start from the folder of that file",)


def _alike(content: dict[str, object], path: Path) -> tuple[str, ...]:
    """A note for each held-out split that lists what `train` lists."""
    return tuple(
        f"{str(path)!r}: {key} lists the images of train, so selftrain draws its own"
        for key in ("val", "test")
        if content.get(key) is not None and content[key] == content.get("train")
    )


def _images(given: object, root: Path, path: Path, key: str) -> list[str]:
    """The image files of the folders and lists `given`, sorted. Roboflow writes ../train/images for train/images."""
    places = _places(given)
    if not places:
        raise SourceError(
            f"{str(path)!r}: {key} must be a folder of images, a list of them (.txt), or several of these"
        )
    found: list[str] = []
    for each in places:
        place = _place(root, each)
        if place.suffix.lower() == ".txt" and place.is_file():
            found += _listed(place, root)
        elif place.is_dir():
            found += [str(file) for file in place.rglob("*") if file.suffix.lower() in ENDINGS]
        else:
            raise SourceError(
                f"{str(path)!r}: {key} is {each!r}, which is neither a folder nor a list below {str(root)!r}"
            )
    if not found:
        raise SourceError(f"{str(path)!r}: {key} names no image; files ending in {', '.join(ENDINGS)} are read")
    return sorted(set(found))


def _places(given: object) -> list[str]:
    """The folders and lists that a key of the file names; none if it holds something else."""
    places = [given] if isinstance(given, str) else given
    return places if isinstance(places, list) and all(isinstance(each, str) for each in places) else []


def _place(root: Path, said: str) -> Path:
    inside = said[3:] if said.startswith("../") and not (root / said).exists() else said
    return Path(os.path.normpath(root / inside))


def _listed(file: Path, root: Path) -> list[str]:
    """The images that the lines of `file` name: from its own folder, or else from `root`."""
    found = []
    for at, line in enumerate(_text(file).splitlines(), 1):
        name = line.strip().replace("\\", "/")
        if not name:
            continue
        image = next((path for path in (file.parent / name, root / name) if path.is_file()), None)
        if image is None:
            raise SourceError(
                f"{str(file)!r}, line {at}: {name!r} was found neither beside the list nor below {str(root)!r}"
            )
        found.append(os.path.normpath(image))
    return found


def _of_other_splits(content: dict[str, object], path: Path, split: str | None, classes: int) -> list[_Line]:
    """The lines of the splits beside `split`."""
    root = _root(content, path)
    files = [
        file
        for other, key in _KEYS.items()
        if other != split and (other is None or other in yolo_splits(path))
        for file in _images(content.get(key), root, path, key)
    ]
    return [each for file in files for each in _lines(_label_file(file), classes, pose=False)]


def _refuse_oriented(lines: Sequence[_Line], others: Callable[[], list[_Line]]) -> None:
    """Raise SourceError for lines of four points, unless some, also of the `others`, have a polygon."""
    corners = [each for each in lines if each.numbers == _FOUR_POINTS]
    if corners and not any(map(_is_polygon, lines)) and not any(map(_is_polygon, others())):
        raise SourceError(
            f"{corners[0].where}: four points are an oriented box, or a polygon, and no other line says which; "
            "selftrain reads boxes along the sides: export them so"
        )


def _label_file(image: str) -> Path:
    """The text file of an image: the last folder `images` of its path says `labels` there."""
    before, mark, after = image.rpartition("/images/")
    file = Path(f"{before}/labels/{after}" if mark else image).with_suffix(".txt")
    upper = file.with_suffix(".TXT")
    return upper if upper.is_file() and not file.is_file() else file


def _is_polygon(line: _Line) -> bool:
    return line.numbers not in (_BOX, _FOUR_POINTS)


def _mask(line: _Line, width: int, height: int) -> bytes | None:
    """The pixels inside a polygon, as COCO's run lengths; None for a box, and a polygon without a pixel."""
    if not line.points:
        return None
    points = [value * side for value, side in zip(line.points, (width, height) * (len(line.points) // 2), strict=True)]
    return outline_of([points], width=width, height=height).mask


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SourceError(f"{str(file)!r} cannot be read as text in UTF-8: {error}") from error


def _lines(file: Path, classes: int, *, pose: bool) -> list[_Line]:
    if not file.is_file():
        return []
    return [
        _line(text.split()[: 1 + _BOX] if pose else text.split(), f"{str(file)!r}, line {at}", classes)
        for at, text in enumerate(_text(file).splitlines(), 1)
        if text.strip()
    ]


def _line(parts: list[str], where: str, classes: int) -> _Line:
    try:
        label, *values = (float(part) for part in parts)
    except ValueError as error:
        raise SourceError(f"{where}: {' '.join(parts)[:80]!r} holds something that is not a number") from error
    if label not in range(classes):
        raise SourceError(f"{where}: class {parts[0]} is not one of names, 0 to {classes - 1}")
    if not all(math.isfinite(value) and abs(value) <= _FARTHEST for value in values):
        raise SourceError(f"{where}: coordinates are shares of the image's sides, 0 to 1; are these pixels?")
    match values:
        case [x, y, w, h]:
            return _Line(int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2), _BOX, where)
        case _ if len(values) >= 6 and len(values) % 2 == 0:
            corners = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
            return _Line(int(label), corners, len(values), where, tuple(values))
        case _:
            raise SourceError(f"{where}: {len(values)} numbers after the class; a box has 4, a polygon 6 or more")
