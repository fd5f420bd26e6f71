"""Pascal VOC source: boxes from a folder of XML files, one per image, and a folder of images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from selftrain.data.images.formats import EXTENSIONS
from selftrain.data.label_map import LabelMap
from selftrain.data.sources.objects.checking import checked
from selftrain.data.sources.objects.coco import source_of
from selftrain.data.sources.objects.labelled import DrawnObjects, Fault, LabelledImages
from selftrain.data.sources.objects.outlines import Box, box_around, turn_of, turned_said
from selftrain.data.sources.objects.places import Size, image_table
from selftrain.errors import SourceError

ENDINGS = tuple(EXTENSIONS)
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_ENCODING = re.compile(rb"\s*<\?xml[^>]*?encoding=([\"'])([\w.-]+)\1[^>]*\?>")
_YES = ("1", "1.0", "true", "yes")


@dataclass(frozen=True)
class _Drawn:
    """An object of an XML file: its class, its corners as they are written, and what is wrong with it.

    `turn` is by how many radians CVAT turned the rectangle around its centre.
    """

    name: str
    box: Box
    difficult: bool
    fault: Fault | None
    turn: float = 0.0


@dataclass(frozen=True)
class _Page:
    """An XML file: its image, the size that it states, and its objects."""

    image: str
    renamed: bool
    size: Size | None
    objects: tuple[_Drawn, ...]


def read_voc(
    folder: Path, *, images: str, classes: Sequence[str] | None = None, split: str | None = None
) -> LabelledImages:
    """The images and objects of the Pascal VOC files (`*.xml`) in `folder`, whose images lie in the folder `images`.

    - `classes`: the classes to keep, in this order; by default all, by name.
    - `split`: what all its images are for, if that is given.

    VOC counts pixels from 1 and includes the last one, so 1 is taken off `xmin` and `ymin`. Some tools count from 0, up
    to the edge: a corner below 1 shows that, and nothing is taken off then. A `difficult` object becomes a crowd, which
    neither teaches nor counts as missed. Raises SourceError for a file that is not VOC, or contradicts its image.
    """
    files = sorted(each for each in folder.rglob("*") if each.suffix.lower() == ".xml" and each.name[:2] != "._")
    if not files:
        raise SourceError(f"{str(folder)!r} holds no XML file; give the folder with one Pascal VOC file per image")
    pages = [_page(file, folder, images) for file in files]
    from_zero = any(min(each.box[:2]) < 1 for page in pages for each in page.objects)  # false for NaN
    found = sorted({each.name for page in pages for each in page.objects})
    if not found:
        raise SourceError(f"{str(folder)!r}: none of {len(files)} XML files holds an object; nothing can be learned")
    label_map = LabelMap(tuple(found))
    for name in classes or ():
        label_map.index(name)
    names = tuple(classes) if classes else label_map.names
    table, notes = image_table(
        images,
        [page.image for page in pages],
        [page.size for page in pages],
        where=repr(str(folder)),
        splits=[split] * len(pages),
        groups=[source_of(page.image) for page in pages],
    )
    objects = [(at, each) for at, page in enumerate(pages) for each in page.objects]
    boxes = _from_zero([each.box for _, each in objects], already=from_zero)
    turned = [row for row, (_, each) in enumerate(objects) if each.turn]
    for row in turned:
        boxes[row] = box_around(tuple(boxes[row]), objects[row][1].turn)
    drawn = DrawnObjects(
        image=np.array([at for at, _ in objects], np.int64),
        label=np.array([names.index(each.name) if each.name in names else -1 for _, each in objects], np.int64),
        boxes=boxes,
        masks=[None] * len(objects),
        crowd=np.array([each.difficult for _, each in objects], bool),
        ids=[None] * len(objects),
        faults=[each.fault for _, each in objects],
    )
    difficult = sum(each.difficult for _, each in objects)
    said = [f"{difficult} objects are marked difficult: they neither teach nor count as missed"] if difficult else []
    said += ["corners are below 1, so they count from 0, up to the edge; VOC itself counts from 1"] if from_zero else []
    said += [turned_said(len(turned))] if turned else []
    renamed = sum(page.renamed for page in pages)
    said += [f"{renamed} files name another image than their own name; their own was taken"] if renamed else []
    return checked(table, drawn, LabelMap(names), where=repr(str(folder)), notes=(*notes, *said))


def voc_folders(folder: Path) -> tuple[Path, Path]:
    """The folder of XML files, and that of their images, of the VOC data set in `folder`.

    VOC's own names are `Annotations` and `JPEGImages`; `folder` may be that of the data set, or its `Annotations`.
    """
    files = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    root = files.parent if files.name == "Annotations" else files
    photos = root / "JPEGImages"
    return files, photos if photos.is_dir() else root if holds_images(root) else files


def holds_images(folder: Path) -> bool:
    """Whether there is an image in `folder` or below it."""
    return any(each.suffix.lower() in ENDINGS for each in folder.rglob("*"))


def _from_zero(boxes: list[Box], *, already: bool) -> np.ndarray:
    """`boxes` (n, 4) with corners that count from 0, up to the edge."""
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    return corners if already else corners - np.array([1.0, 1.0, 0.0, 0.0])


def _page(file: Path, folder: Path, images: str) -> _Page:
    root = _parsed(file)
    image, renamed = _image_name(root, file, folder, images)
    return _Page(
        image=image,
        renamed=renamed,
        size=_stated_size(root),
        objects=tuple(_object(each, file, at) for at, each in enumerate(root.findall("object"), start=1)),
    )


class _DoctypeError(Exception):
    """A file declares a DOCTYPE."""


class _Plain(ElementTree.TreeBuilder):
    """Builds elements, and stops at a DOCTYPE."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called where it begins."""
        raise _DoctypeError


def _parsed(file: Path) -> ElementTree.Element:
    """The root. A DOCTYPE is refused where it begins: entities can expand without end, and VOC has none."""
    try:
        root = _root(file.read_bytes())
    except _DoctypeError as error:
        raise SourceError(f"{str(file)!r} declares a DOCTYPE, and VOC files have none; remove it") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise SourceError(f"{str(file)!r} cannot be read as XML: {error}; correct or remove it") from error
    if root.tag != "annotation":
        raise SourceError(f"{str(file)!r} has the root <{root.tag}>; a Pascal VOC file has <annotation>")
    return root


def _root(data: bytes) -> ElementTree.Element:
    """The root. Python decodes what the parser does not: East Asian encodings."""
    declared = _ENCODING.match(data)
    if declared is None or declared[2].lower() in (b"utf-8", b"utf-16", b"us-ascii", b"iso-8859-1"):
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_Plain()))
    text = data[declared.end() :].decode(declared[2].decode("ascii"))
    return ElementTree.fromstring(text.encode(), ElementTree.XMLParser(target=_Plain()))


def _image_name(root: ElementTree.Element, file: Path, folder: Path, images: str) -> tuple[str, bool]:
    """The image with the XML file's own name, if there is one, else `filename`; and whether the two differ.

    Tools save a file under the name of its image. The `filename` inside is often left from before a copy.
    """
    said = (root.findtext("filename") or "").strip().replace("\\", "/")
    beside = file.relative_to(folder).parent
    places = (beside / file.stem, Path(file.stem)) if beside != Path() else (Path(file.stem),)
    if Path(said).stem == file.stem:  # which of two images of this name it is
        named = (str(place.with_name(Path(said).name)) for place in places)
        if (exact := next((name for name in named if (Path(images) / name).is_file()), None)) is not None:
            return exact, False
    own = next((name for place in places if (name := _with_ending(Path(images), place))), None)
    inside = bool(said) and not Path(said).is_absolute() and (Path(images) / said).is_file()
    if own is not None:
        return own, inside and Path(said).name != Path(own).name
    if not said:
        raise SourceError(f"{str(file)!r} names no image, and {images!r} holds none called {file.stem!r}; add it")
    return said, False


def _with_ending(images: Path, place: Path) -> str | None:
    """The image at `place` below `images`, whatever its ending. Raises SourceError if there are two."""
    ends = (*ENDINGS, *(end.upper() for end in ENDINGS))
    files = {end: images / f"{place}{end}" for end in ends}
    found = {os.stat(file)[1:3]: end for end, file in files.items() if file.is_file()}  # inode and disk
    if len(found) > 1:
        both = " and ".join(f"{place.name}{end}" for end in found.values())
        raise SourceError(
            f"{str(images)!r} holds {both}, and the XML file does not say by <filename> which one was annotated; name "
            "it there"
        )
    return next((f"{place.as_posix()}{end}" for end in found.values()), None)


def _stated_size(root: ElementTree.Element) -> Size | None:
    """Width and height; None where the file has none or says 0, as some tools write."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _object(each: ElementTree.Element, file: Path, at: int) -> _Drawn:
    name = (each.findtext("name") or "").strip()
    if not name:
        raise SourceError(f"{str(file)!r}, object {at}: <name> is missing or empty; give its class")
    difficult = (each.findtext("difficult") or "").strip().lower() in _YES
    texts = [each.findtext(f"bndbox/{side}") for side in _SIDES]
    if any(text is None for text in texts):
        return _Drawn(name, (np.nan,) * 4, difficult, None)
    try:
        x0, y0, x1, y1 = (float(text or "") for text in texts)
    except ValueError:
        return _Drawn(name, (np.nan,) * 4, difficult, Fault.NOT_NUMBERS)
    if not np.isfinite([x0, y0, x1, y1]).all():
        return _Drawn(name, (np.inf,) * 4, difficult, Fault.NOT_FINITE)
    return _Drawn(name, (x0, y0, x1, y1), difficult, None, _turn(each))


def _turn(each: ElementTree.Element) -> float:
    for attribute in each.iterfind("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            return turn_of(attribute.findtext("value"))
    return 0.0
