"""Sources of images to predict: files, folders and buckets, listed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from selftrain.data.images.names import named_like_an_image
from selftrain.data.images.openers import MOST_BYTES, image_bytes, refuse_bytes
from selftrain.data.sources.listing import find_images
from selftrain.data.workers import cores
from selftrain.errors import SourceError
from selftrain.files.remote import Remote, open_remote

REMOTE_THREADS: Final = 16  # reads that wait for a server at the same time


@dataclass(frozen=True)
class ListedImage:
    """One image file; `state` changes when its content may have changed, and is "" for a path that does not exist."""

    path: str
    state: str
    read: Callable[[str], bytes]
    error: str | None = None


@dataclass(frozen=True)
class ListedSources:
    """The images of all sources in their order, each path once, and the threads that read them best."""

    images: tuple[ListedImage, ...]
    threads: int


def list_sources(sources: Sequence[str]) -> ListedSources:
    """The images that `sources` name: files, folders with their sub-folders, and URLs that fsspec opens.

    A path that does not exist is one image with an error. Raises SourceError for a URL or folder without images, and
    InboxError for a bucket that cannot be listed.
    """
    found: dict[str, ListedImage] = {}
    remote = False
    for source in sources:
        bucket = "://" in source and not source.startswith("file://")
        remote |= bucket
        images = _of_bucket(source) if bucket else _of_disk(Path(source.removeprefix("file://")))
        for image in images:  # "a/../b.png" is "b.png"
            found.setdefault(image.path if bucket else os.path.abspath(image.path), image)
    return ListedSources(tuple(found.values()), max(cores(), REMOTE_THREADS) if remote else cores())


def common_folder(paths: Sequence[str]) -> str | None:
    """The deepest folder that holds all of `paths`; None where some are URLs."""
    if any("://" in path for path in paths):
        return None
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])


def name_below(path: str, root: str | None) -> str:
    """`path` as it is called below the folder `root`; unchanged without one."""
    return path if root is None else Path(os.path.relpath(os.path.abspath(path), root)).as_posix()


def _of_disk(path: Path) -> list[ListedImage]:
    if path.is_dir():
        files = find_images(str(path))
        if not files.paths:
            raise SourceError(f"{path} holds no image files; give another folder")
        states = zip(files.paths, files.sizes, files.mtimes_ns, strict=True)
        return [ListedImage(name, f"{size} {mtime_ns}", read_file) for name, size, mtime_ns in sorted(states)]
    if path.is_file():
        status = path.stat()
        return [ListedImage(str(path), f"{status.st_size} {status.st_mtime_ns}", read_file)]
    return [ListedImage(str(path), "", read_file, error="no such file or folder")]


def _of_bucket(url: str) -> list[ListedImage]:
    remote = open_remote(url, {})
    files = [file for file in remote.list().files if named_like_an_image(file.path.rpartition("/")[2])]
    if not files:
        raise SourceError(f"{url} holds no image files; give another URL")
    return [
        ListedImage(each.path, f"{each.size} {each.mtime_ns} {each.version}", partial(_read_object, remote, each.size))
        for each in files
    ]


def read_file(path: str) -> bytes:
    """The bytes of a file of this machine. Raises OSError."""
    return image_bytes(path)


def _read_object(remote: Remote, size: int, path: str) -> bytes:
    """The bytes of an object that the listing gave `size`. Raises ImageError for one that is too large to hold."""
    refuse_bytes(size, MOST_BYTES)
    return remote.read_path(path)
