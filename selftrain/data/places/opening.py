"""Opening: what a path or URL in a configuration is, by what lies there."""

from __future__ import annotations

import os

from selftrain.data.images.formats import HEADER_BYTES, sniff
from selftrain.data.images.names import IMAGE_SUFFIXES
from selftrain.data.places.archives import Archives, packed
from selftrain.data.places.buckets import BucketImages
from selftrain.data.places.parquet import ParquetImages
from selftrain.data.places.place import INSIDE, Place
from selftrain.data.places.records import Records
from selftrain.errors import SourceError

_TARS, _PARQUETS = (".tar",), (".parquet", ".pq")
_PRESSED = (".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_NOT_BESIDE = ("data",)  # the one folder in which Hugging Face puts files


def open_place(path: str) -> Place | None:
    """The place at `path`, which may name something inside it behind `::`; None for a plain folder, or for nothing.

    Raises SourceError for a file that holds no images in a way that is known.
    """
    if "://" in path:
        return BucketImages(path)
    file, _, inside = os.path.expanduser(path).partition(INSIDE)
    file = os.path.normpath(file)
    if os.path.isfile(file):
        return _of_file(file, inside.strip("/"))
    if os.path.isdir(file):
        return _of_folder(file, inside.strip("/"))
    return None


def _of_file(path: str, inside: str) -> Place:
    name = os.path.basename(path).lower()
    if name.endswith(_PARQUETS):
        return ParquetImages((path,), inside or None)
    if ".tfrecord" in name:
        return Records((path,))
    if name.endswith((".zip", *_TARS)):
        return Archives((packed(path),), inside)
    if name.endswith(_PRESSED):
        raise SourceError(
            f"{path!r} is compressed as a whole, so its images cannot be read one by one; unpack it and give the "
            "folder, or gunzip it to a .tar"
        )
    raise SourceError(
        f"{path!r} is a file that holds no images in a way that is known; give a folder, a .zip, .tar, .parquet or "
        ".tfrecord, or a list with --table"
    )


def _of_folder(path: str, inside: str) -> Place | None:
    """The place that the files in a folder make; None for a plain folder: one that has class folders, or pictures."""
    files = _files(path)
    parquets = tuple(each for each in files if each.lower().endswith(_PARQUETS))
    records = tuple(each for each in files if ".tfrecord" in os.path.basename(each).lower())
    tars = tuple(each for each in files if each.lower().endswith(_TARS))
    if parquets:
        return ParquetImages(parquets, inside or None)
    if records:
        return Records(records)
    return Archives(tuple(packed(each) for each in tars), inside) if tars else None


def _files(path: str, *, beside: bool = True) -> list[str]:
    """The files in a folder, and in the one that Hugging Face makes; [] where there are pictures or other folders."""
    found = list[str]()
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inside = _files(entry.path, beside=False) if beside and entry.name in _NOT_BESIDE else []
                if not inside:
                    return []
                found += inside
            elif _is_picture(entry):
                return []
            else:
                found.append(entry.path)
    return sorted(found)


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """Whether a file is a picture by its ending, or by its first bytes where it has none."""
    _, dot, suffix = entry.name.rpartition(".")
    if dot:
        return suffix.lower() in IMAGE_SUFFIXES
    try:
        with open(entry.path, "rb") as file:
            return sniff(file.read(HEADER_BYTES)) is not None
    except OSError:
        return False
