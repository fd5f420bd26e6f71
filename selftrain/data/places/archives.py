"""Archives: zip files and tars of class folders, and the tars of WebDataset; members are read where they are."""

from __future__ import annotations

import json
import os
import posixpath
import re
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from selftrain.data.images.names import IMAGE_SUFFIXES, LEFT_BEHIND, named_like_an_image
from selftrain.data.places.place import INSIDE, LARGEST, Found, split_named, splits_noted
from selftrain.errors import SourceError
from selftrain.naming import name_rows

_CLASS_PARTS: Final = ("cls", "label", "class", "cls.txt", "label.txt", "class.txt")
_JSON_KEYS: Final = ("label", "class", "cls", "category", "class_name")


class Member(NamedTuple):
    """A file in an archive; `start` is where its bytes begin, -1 where only the library knows."""

    name: str
    size: int
    start: int


class Packed(Protocol):
    """An archive of one kind, opened."""

    @property
    def path(self) -> str:
        """Where it lies."""

    @property
    def members(self) -> Mapping[str, Member]:
        """Its files, by name, in their order. Raises SourceError."""

    def content(self, name: str) -> bytes:
        """The bytes of one file. Raises OSError."""


@dataclass(frozen=True)
class Zip:
    """A zip archive, read by its directory."""

    path: str

    @cached_property
    def members(self) -> Mapping[str, Member]:
        infos = [info for info in self._opened.infolist() if not info.is_dir()]
        locked = [info.filename for info in infos if info.flag_bits & 1]
        if locked:
            raise SourceError(f"{self.path!r} is encrypted ({name_rows(locked)}); unpack it, and give the folder")
        return _checked(self.path, [Member(info.filename, info.file_size, -1) for info in infos])

    def content(self, name: str) -> bytes:
        _refuse_large(self.members[name])
        try:
            return self._opened.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, SourceError) as error:
            raise OSError(
                f"{name!r} in {self.path!r} cannot be unpacked: {error}; download the archive again"
            ) from error

    @cached_property
    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise SourceError(f"{self.path!r} cannot be read as a zip archive ({error}); download it again") from error


@dataclass(frozen=True)
class Tar:
    """A tar without compression, whose members are read by their place in it."""

    path: str

    @cached_property
    def members(self) -> Mapping[str, Member]:
        try:
            with tarfile.open(self.path, "r:") as opened:
                found = [Member(each.name, each.size, each.offset_data) for each in opened if each.isreg()]
        except (OSError, tarfile.TarError) as error:
            raise SourceError(
                f"{self.path!r} cannot be read as a tar ({error}); if it is compressed, decompress it once (gunzip), "
                "as its members are read in any order; else download it again"
            ) from error
        return _checked(self.path, found)

    def content(self, name: str) -> bytes:
        member = self.members[name]
        _refuse_large(member)
        with open(self.path, "rb") as file:
            file.seek(member.start)
            data = file.read(member.size)
        if len(data) != member.size:
            raise OSError(f"{self.path!r} ends inside {name!r}; download it again")
        return data


@dataclass(frozen=True)
class Archives:
    """The images in archives, below the folder `inside` of each.

    A label is that of WebDataset (a part `.cls` or `.json` with the same key), else the first folder.
    """

    packed: Sequence[Packed]
    inside: str = ""

    def find(self, *, labelled: bool) -> Found:
        found = Found()
        for each in self.packed:
            names = [name for name in each.members if _is_below(name, self.inside)]
            if not names:
                raise SourceError(f"{each.path!r} holds nothing below {self.inside!r}; correct what follows {INSIDE!r}")
            images = [name for name in names if _is_image(name)]
            found.ignored += len(names) - len(images)
            labels, words = self._labels(each, names, images) if labelled else (dict[str, str | None](), False)
            mtime_ns = os.stat(each.path).st_mtime_ns
            split = split_named(os.path.basename(each.path)) if len(self.packed) > 1 else None
            for name in images:
                size, path = each.members[name].size, f"{each.path}{INSIDE}{name}"
                found.add(path, label=labels.get(name), size=size, mtime_ns=mtime_ns, split=split, word=words)
        found.notes += splits_noted(found, len(self.packed))
        return found

    def holds(self, path: str) -> bool:
        return any(path.startswith(each.path + INSIDE) for each in self.packed)

    def read(self, path: str) -> bytes:
        file, _, name = path.partition(INSIDE)
        packed = next(each for each in self.packed if each.path == file)
        if name not in packed.members:
            raise FileNotFoundError(f"{file!r} has no member {name!r}")
        return packed.content(name)

    def _labels(
        self, packed: Packed, names: Sequence[str], images: Sequence[str]
    ) -> tuple[dict[str, str | None], bool]:
        """The labels by the name of the image, and whether they are words in samples, and not the names of folders."""
        parts = {name: _key(name) for name in names}
        labelling = {key: name for name, (key, part) in parts.items() if part in _CLASS_PARTS or part == "json"}
        if any(parts[name][0] in labelling for name in images):
            return _of_parts(packed, images, labelling), True
        return _of_folders(packed.path, images, self.inside), False


def _key(name: str) -> tuple[str, str]:
    """The key of a member and its part, as WebDataset cuts them: at the first dot of the base name.

    >>> _key("train.v2/000.left.jpg")
    ('train.v2/000', 'left.jpg')
    """
    folder, base = posixpath.split(name)
    stem, _, part = base.partition(".")
    return posixpath.join(folder, stem), part.lower()


def _of_parts(packed: Packed, images: Sequence[str], labelling: Mapping[str, str]) -> dict[str, str | None]:
    keys = [_key(name)[0] for name in images]
    several = [key for key in dict.fromkeys(keys) if keys.count(key) > 1] if len(set(keys)) < len(keys) else []
    if several:
        raise SourceError(
            f"{packed.path!r}: several images with one key: {name_rows(several)}; a label is for one image, so write "
            "each into a sample of its own"
        )
    labels: dict[str, str | None] = {}
    for key, name in zip(keys, images, strict=True):
        part = labelling.get(key)
        labels[name] = None if part is None else _label_in(packed, part)
    return labels


def _label_in(packed: Packed, part: str) -> str | None:
    """The label that the part of a sample holds: its text, or a usual key of its JSON."""
    try:
        text = packed.content(part).decode().strip()
        if not part.lower().endswith(".json"):
            return text or None
        value = json.loads(text)
    except (OSError, ValueError) as error:
        raise SourceError(f"{packed.path!r}: {part!r} cannot be read as a label: {error}; write it again") from error
    named = value if isinstance(value, dict) else {"label": value}
    label = next((named[key] for key in _JSON_KEYS if named.get(key) is not None), None)
    if isinstance(label, list | dict):
        raise SourceError(f"{packed.path!r}: {part!r} holds several labels; selftrain gives one class to an image")
    return None if label is None else str(label)


def _of_folders(path: str, images: Sequence[str], inside: str) -> dict[str, str | None]:
    """The first folder of each image below `inside`, or below the one folder that holds all others."""
    below = {name: name[len(inside) + 1 :] if inside else name for name in images}
    while below and all(rest.count("/") > 1 for rest in below.values()):
        tops = {rest.partition("/")[0] for rest in below.values()}
        if len(tops) > 1:
            break
        below = {name: rest.partition("/")[2] for name, rest in below.items()}
    loose = [name for name, rest in below.items() if "/" not in rest]
    if loose:
        raise SourceError(
            f"{len(loose)} image(s) without a label in {path!r}: {name_rows(loose)}; in an archive of labelled images "
            "each lies in a folder named after its class, or has a part .cls or .json"
        )
    return {name: rest.partition("/")[0] for name, rest in below.items()}


def _checked(path: str, members: Sequence[Member]) -> dict[str, Member]:
    """The members by name. Raises SourceError for names that leave the archive's root, and for a name twice."""
    leaving = [each.name for each in members if _leaves(each.name)]
    if leaving:
        raise SourceError(
            f"{path!r} holds paths that leave its root: {name_rows(leaving)}; nothing of it is read: make the archive "
            "again, with relative paths"
        )
    named = {posixpath.normpath(each.name): each._replace(name=each.name) for each in members}
    if len(named) < len(members):
        raise SourceError(f"{path!r} holds {len(members) - len(named)} files twice; make the archive again")
    return {each.name: each for each in named.values()}


def _leaves(name: str) -> bool:
    plain = name.replace("\\", "/")
    return plain.startswith("/") or ".." in plain.split("/") or re.match(r"[A-Za-z]:", plain) is not None


def _is_below(name: str, inside: str) -> bool:
    return not inside or name.startswith(f"{inside}/")


def _is_image(name: str) -> bool:
    """Whether a member is an image by its name, in no folder that a system left behind. A part needs an ending."""
    *folders, base = name.split("/")
    if base.startswith(".") or any(
        (part.startswith(".") and part != ".") or part.lower() in LEFT_BEHIND for part in folders
    ):
        return False
    part = _key(base)[1]
    if part and part.rpartition(".")[2] in IMAGE_SUFFIXES:
        return True
    return part not in _CLASS_PARTS and named_like_an_image(base)


def _refuse_large(member: Member) -> None:
    if member.size > LARGEST:
        allowed = f"at most {LARGEST / 1e6:.0f} MB are allowed"
        raise OSError(f"{member.name!r} has {member.size / 1e6:.0f} MB, {allowed}")


def packed(path: str) -> Packed:
    """The archive at `path`, by its first bytes; nothing else is read yet."""
    with Path(path).open("rb") as file:
        return Zip(path) if file.read(4) in (b"PK\x03\x04", b"PK\x05\x06") else Tar(path)
