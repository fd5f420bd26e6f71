"""Layout: folders of images as downloads and tools leave them, where not every sub-folder is a class."""

from __future__ import annotations

import os
from collections.abc import Mapping

from selftrain.config import FolderSource
from selftrain.data.images.names import LEFT_BEHIND
from selftrain.errors import SourceError

SPLIT_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "labeled"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsup", "unsupervised", "pool"), "unlabeled"),
}
"""What people call the folder of each role of a FolderSource, in lower case."""


ANSWERS = ".selftrain-answers"
"""A file in a folder of classes that a model chose, not people."""


def stop_at_answers(root: str, key: str) -> None:
    """Raise SourceError if the class folders in `root`, which `key` names, are what a model answered."""
    if os.path.lexists(os.path.join(root, ANSWERS)):
        raise SourceError(
            f"{key}: {root!r} was written by `selftrain pseudo-label --materialize`: its classes are answers of a "
            "model, and a run would learn from them, and be judged by them, as if people had given them. Give these "
            f"images without labels: a run makes pseudo-labels itself. Where people have checked them, remove {ANSWERS}"
        )


def folders_in(root: str) -> list[str]:
    """The names of the folders in `root` that people made, sorted."""
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(name for name in names if name.lower() not in LEFT_BEHIND)


def splits_in(root: str) -> dict[str, str]:
    """The folders of `root` by role, if they are splits; empty if they are classes.

    They are splits if all have a usual name for one, with a training folder among them, and the class folders of the
    others are among those of training.
    """
    roles: dict[str, str] = {}
    for name in folders_in(root):
        role = SPLIT_NAMES.get(name.lower())
        if role is None or role in roles:
            return {}
        roles[role] = os.path.join(root, name)
    if "labeled" not in roles or len(roles) < 2:
        return {}
    classes = set(folders_in(roles["labeled"]))
    held_out = [set(folders_in(folder)) for role, folder in roles.items() if role in ("validation", "test")]
    return roles if classes and all(each and each <= classes for each in held_out) else {}


def stop_at_splits(root: str, key: str) -> None:
    """Raise SourceError if the folders in `root`, which `key` names, are splits."""
    roles = splits_in(root)
    if roles:
        given = " ".join(f"--{role} {folder}" for role, folder in roles.items())
        named = ", ".join(map(os.path.basename, roles.values()))
        raise SourceError(
            f"{key}: the folders in {root!r} are splits, not classes ({named}); give each its place: "
            f"selftrain init {given}, or the same keys under `source`. `selftrain init --splits auto` does so itself"
        )


def taken_as_splits(source: FolderSource) -> FolderSource:
    """`source` with the splits inside `source.labeled` in their places; what is given already stays.

    Raises SourceError if there are none.
    """
    roles = splits_in(os.path.normpath(os.path.expanduser(source.labeled)))
    if not roles:
        raise SourceError(
            f"--splits auto: the folders in {source.labeled!r} are not splits. It knows {', '.join(SPLIT_NAMES)}, "
            "each with class folders of the same names inside; leave the option out"
        )
    given = {key: value for key, value in source.model_dump().items() if value is not None and key != "labeled"}
    return FolderSource.model_validate({**roles, **given})


def one_level_too_high(root: str, only: str) -> str:
    """What to say if `only`, the one folder in `root`, holds the classes; "" if it does not."""
    folder = os.path.join(root, only)
    inside = folders_in(folder) if os.path.isdir(folder) else []
    if len(inside) < 2:
        return ""
    named = ", ".join(inside[:5]) + (" ..." if len(inside) > 5 else "")
    return f"; the classes may be one level down ({named}): give {folder!r}"


def super_classes(root: str, names: list[str]) -> dict[str, list[str]]:
    """The class folders among `names` in `root` that hold two or more folders themselves, with their names."""
    inside = {name: folders_in(os.path.join(root, name)) for name in names}
    return {name: found for name, found in inside.items() if len(found) > 1}
