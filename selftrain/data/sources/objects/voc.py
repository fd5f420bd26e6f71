"""Pascal VOC source: boxes from a folder of XML files, one per image, and a folder of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from selftrain.data.label_map import LabelMap
from selftrain.data.sources.objects.checking import checked
from selftrain.data.sources.objects.coco import source_of
from selftrain.data.sources.objects.labelled import DrawnObjects, Fault, LabelledImages
from selftrain.data.sources.objects.outlines import Box
from selftrain.data.sources.objects.places import Size, image_table
from selftrain.errors import SourceError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_YES = ("1", "1.0", "true", "yes")


@dataclass(frozen=True)
class _Drawn:
    """An object of an XML file: its class, its corners in pixels from 0, and what is wrong with it."""

    name: str
    box: Box
    difficult: bool
    fault: Fault | None


@dataclass(frozen=True)
class _Page:
    """An XML file: its image, the size that it states, and its objects."""

    image: str
    size: Size | None
    objects: tuple[_Drawn, ...]


def read_voc(
    folder: Path, *, images: str, classes: Sequence[str] | None = None, split: str | None = None
) -> LabelledImages:
    """The images and objects of the Pascal VOC files (`*.xml`) in `folder`, whose images lie in the folder `images`.

    - `classes`: the classes to keep, in this order; by default all, by name.
    - `split`: what all its images are for, if that is given.

    VOC counts pixels from 1 and includes the last one, so 1 is taken off `xmin` and `ymin`. A `difficult` object
    becomes a crowd, which neither teaches nor counts as missed. Raises SourceError for a file that is not VOC, or
    contradicts its image.
    """
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise SourceError(f"{str(folder)!r} holds no XML file; give the folder with one Pascal VOC file per image")
    pages = [_page(file, images) for file in files]
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
    drawn = DrawnObjects(
        image=np.array([at for at, _ in objects], np.int64),
        label=np.array([names.index(each.name) if each.name in names else -1 for _, each in objects], np.int64),
        boxes=np.array([each.box for _, each in objects], np.float64).reshape(-1, 4),
        masks=[None] * len(objects),
        crowd=np.array([each.difficult for _, each in objects], bool),
        ids=[None] * len(objects),
        faults=[each.fault for _, each in objects],
    )
    difficult = sum(each.difficult for _, each in objects)
    said = (f"{difficult} objects are marked difficult: they neither teach nor count as missed",) if difficult else ()
    return checked(table, drawn, LabelMap(names), where=repr(str(folder)), notes=(*notes, *said))


def _page(file: Path, images: str) -> _Page:
    root = _parsed(file)
    return _Page(
        image=_image_name(root, file, images),
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
        root = ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_Plain()))
    except _DoctypeError as error:
        raise SourceError(f"{str(file)!r} declares a DOCTYPE, which VOC has none of; remove it") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise SourceError(f"{str(file)!r} cannot be read as XML: {error}; correct or remove it") from error
    if root.tag != "annotation":
        raise SourceError(f"{str(file)!r} has the root <{root.tag}>; a Pascal VOC file has <annotation>")
    return root


def _image_name(root: ElementTree.Element, file: Path, images: str) -> str:
    """`filename`, if that image exists; else the image with the XML file's own name."""
    said = (root.findtext("filename") or "").strip()
    own = next((file.stem + end for end in ENDINGS if (Path(images) / (file.stem + end)).is_file()), None)
    inside = said and not Path(said).is_absolute() and (Path(images) / said).is_file()
    name = said if inside else own or said
    if not name:
        raise SourceError(f"{str(file)!r} names no image, and {images!r} holds none called {file.stem!r}; add it")
    return name


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
    return _Drawn(name, (x0 - 1, y0 - 1, x1, y1), difficult, None)
