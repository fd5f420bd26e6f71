"""Class folders: links to accepted images, or copies of them, in a folder per class; the originals stay unchanged."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from selftrain.data.sources.layout import ANSWERS
from selftrain.errors import ConfigError
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


def check_target(folder: Path) -> None:
    """Raise ConfigError unless `folder` is empty or does not exist."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty, so nothing was written; give a new folder for --materialize")


def check_class_names(class_names: Sequence[str]) -> None:
    """Raise ConfigError for a class name that cannot be a folder's name, or that differs from another only by case."""
    for name in class_names:
        if not name or name.startswith(".") or any(letter in name for letter in ("/", "\\", "\0")):
            raise ConfigError(
                f"class {name!r} cannot be a folder's name (no /, no \\, no leading dot); leave out --materialize"
            )
    folded = Counter(name.casefold() for name in class_names)
    same = [name for name in class_names if folded[name.casefold()] > 1]
    if same:
        raise ConfigError(
            f"classes {', '.join(map(repr, same))} differ only by case and would share a folder on some disks; "
            "leave out --materialize"
        )


def materialize(labels: PseudoLabels, folder: Path, *, images: Path, copy: bool) -> int:
    """Put each accepted image into folder/<class>/, as a link to its original or, with `copy`, as a copy.

    The image_ids of `labels` are paths below `images`. Files with the same name in different folders get different
    names, see `names_for`. The file ANSWERS says that no person chose the classes. Returns how many images were put
    there. Raises ConfigError where `folder` is not empty, or a class cannot be a folder's name.
    """
    check_target(folder)
    check_class_names(labels.class_names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ANSWERS).write_text("The classes of this folder are answers of a model: `selftrain pseudo-label`.\n")
    accepted = labels.accepted
    indices = accepted["label"].to_pylist()
    paths = accepted["image_id"].to_pylist()
    for index, name in enumerate(labels.class_names):
        of_class = [path for path, label in zip(paths, indices, strict=True) if label == index]
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        for path, as_name in names_for(of_class, images=images).items():
            if copy:
                shutil.copy2(path, target / as_name)
            else:
                os.symlink(os.path.abspath(path), target / as_name)
    return len(paths)


def names_for(paths: Sequence[str], *, images: Path) -> Mapping[str, str]:
    """A name for each of `paths`, unique even on disks that ignore case.

    A name that occurs once stays. Files that share a name get 8 or more hexadecimal digits of a hash of their path
    below `images`.

    >>> names_for(["p/a/1.png", "p/2.png"], images=Path("p"))
    {'p/a/1.png': '1.png', 'p/2.png': '2.png'}
    >>> list(names_for(["p/a/1.png", "p/b/1.png"], images=Path("p")).values())
    ['1-8630ea93.png', '1-c77c8457.png']
    """
    times = Counter(PurePath(path).name.casefold() for path in paths)
    taken = {name for name, count in times.items() if count == 1}
    names: dict[str, str] = {}
    for path in paths:
        pure = PurePath(path)
        name = pure.name
        if times[name.casefold()] > 1:
            digits = hashlib.sha256(os.path.relpath(path, images).encode("utf-8", "surrogateescape")).hexdigest()
            length = 8
            while (name := f"{pure.stem}-{digits[:length]}{pure.suffix}").casefold() in taken:
                length += 1
            taken.add(name.casefold())
        names[path] = name
    return names
