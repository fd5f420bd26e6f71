"""Places: the files that a list of images names, inside their folder, and the size of each."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from selftrain.data.images.decode import ORIENTATION_TAG
from selftrain.data.sources.objects.labelled import IMAGE_SCHEMA
from selftrain.errors import SourceError
from selftrain.naming import name_rows

Size = tuple[int, int]
"""Width and height in pixels."""
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")  # a URL, or a drive
_TURNED = frozenset((5, 6, 7, 8))
_UPRIGHT, _KEEPS_SHAPE = 1, frozenset((2, 3, 4))


def image_table(
    root: str,
    names: Sequence[str],
    sizes: Sequence[Size | None],
    *,
    where: str,
    splits: Sequence[str | None] | None = None,
    groups: Sequence[str | None] | None = None,
) -> tuple[pa.Table, tuple[str, ...]]:
    """The images `names` below the folder `root` (IMAGE_SCHEMA), and notes. A size that is None is read from the file.

    Raises SourceError for a name that leads out of `root`, two names for one file, a file that is missing or not an
    image, and a size that differs from the file's.
    """
    if not os.path.isdir(root):
        raise SourceError(f"{where}: the folder of images {root!r} does not exist; give the folder that holds them")
    plain = [_inside(name, where) for name in names]
    paths, notes = _found(root, plain, where)
    _refuse_twice(plain, paths, where)
    headers = [_header(path) for path in paths]
    read = [size for size, _ in headers]
    unreadable = [name for name, size in zip(plain, read, strict=True) if size is None]
    if unreadable:
        raise SourceError(f"{where}: {len(unreadable)} files are not images: {name_rows(unreadable)}; leave them out")
    _refuse_other_sizes(plain, sizes, [size for size in read if size], where)
    columns = {
        "name": plain,
        "path": paths,
        "width": [size[0] for size in read if size],
        "height": [size[1] for size in read if size],
        "split": splits or [None] * len(plain),
        "group": groups or [None] * len(plain),
    }
    return pa.table(columns, schema=IMAGE_SCHEMA), (*notes, *_turns_noted(plain, sizes, headers))


def _inside(name: str, where: str) -> str:
    """`name` with / between folders and without `.`. Raises SourceError where it would lead out of its folder."""
    turned = name.replace("\\", "/")
    plain = os.path.normpath(turned)
    leaves = plain.startswith(("..", "/")) or "\0" in name or _ELSEWHERE.match(turned)
    if leaves or not name.strip():
        raise SourceError(
            f"{where}: {name[:200]!r} is not a file below the folder of images; file names are relative to it, as in "
            "'photos/1.jpg'. Correct the name"
        )
    return plain


def _found(root: str, names: list[str], where: str) -> tuple[list[str], tuple[str, ...]]:
    """The path of each name; where none is at its place, but all lie in `root` itself, those."""
    paths = [os.path.join(root, name) for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if not os.path.isfile(path)]
    if not missing:
        return paths, ()
    flat = [os.path.join(root, os.path.basename(name)) for name in names]
    if len(missing) == len(names) and len(set(flat)) == len(flat) and all(map(os.path.isfile, flat)):
        return flat, (f"the images lie in {root!r} itself, without the folders that the file names",)
    raise SourceError(
        f"{where}: {len(missing)} of {len(names)} images are not in {root!r}: {name_rows(missing)}; give the folder "
        "that the names start from, or remove these images from the file"
    )


def _refuse_twice(names: list[str], paths: list[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name, path in zip(names, map(os.path.realpath, paths), strict=True):
        if path in seen:
            raise SourceError(
                f"{where}: the images {seen[path]!r} and {name!r} are one file. A second annotation of one image, as "
                "Label Studio exports it, must be merged or removed"
            )
        seen[path] = name


def _header(path: str) -> tuple[Size | None, int]:
    """The size of an image as it is displayed, from its header, None if it has none; and its EXIF orientation."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # Pillow warns about large images; they are not decoded here
            width, height = image.size
            orientation = image.getexif().get(ORIENTATION_TAG)
            turned = not isinstance(image, TiffImageFile) and orientation in _TURNED
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, _UPRIGHT
    known = orientation if isinstance(orientation, int) and orientation in _TURNED | _KEEPS_SHAPE else _UPRIGHT
    return (height, width) if turned else (width, height), known


def _turns_noted(
    names: Sequence[str], said: Sequence[Size | None], headers: Sequence[tuple[Size | None, int]]
) -> list[str]:
    """What is said of images that EXIF turns, where no size shows whether their boxes are on the turned image."""
    doubtful = [
        name
        for name, told, (size, orientation) in zip(names, said, headers, strict=True)
        if orientation != _UPRIGHT and (told is None or orientation in _KEEPS_SHAPE or (size and size[0] == size[1]))
    ]
    if not doubtful:
        return []
    return [
        f"{len(doubtful)} images are turned by their EXIF data ({name_rows(doubtful)}): their boxes are taken to be on "
        "the image as it is displayed. If the tool that drew them ignored EXIF, take the orientation out of these files"
    ]


def _refuse_other_sizes(names: list[str], said: Sequence[Size | None], read: list[Size], where: str) -> None:
    wrong = [
        f"{name!r} is {told[0]} x {told[1]} there and {size[0]} x {size[1]} in the file"
        + (" (turned by its EXIF data?)" if told == size[::-1] else "")
        for name, told, size in zip(names, said, read, strict=True)
        if told is not None and told != size
    ]
    if wrong:
        raise SourceError(
            f"{where}: {len(wrong)} images have another size: {name_rows(wrong)}; boxes would be in the wrong place. "
            "Annotate the images as they are displayed, or correct width and height"
        )


def refuse_shared_texts(files: Sequence[str], text_of: Callable[[str], Path], where: str) -> None:
    """Raise SourceError where two of the image `files` have one text file, of which only one can be the image's."""
    known: dict[Path, str] = {}
    for file in files:
        other = known.setdefault(text_of(file), file)
        if other != file and text_of(file).is_file():
            raise SourceError(
                f"{where}: {other!r} and {file!r} share the text file {str(text_of(file))!r}; whose boxes are these? "
                "Rename the other image, or take it away"
            )
