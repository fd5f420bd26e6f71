"""Images: from the options of `selftrain init` to the source that they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from selftrain.config import FolderSource, TableSource
from selftrain.data.lists.labels import DOUBTFUL, is_mark
from selftrain.data.sources.layout import taken_as_splits
from selftrain.errors import ConfigError


def source_of(
    folders: Mapping[str, str | None],
    *,
    table: Path | None = None,
    find_splits: bool = False,
    classes: Sequence[str] = (),
) -> FolderSource | TableSource:
    """The source of the list `table`, or of `folders` (role -> path); `find_splits` looks for splits in the labelled.

    Some words, such as "none", mean that an image has no label. Where one of the `classes` has such a name, none of
    them does. Raises ConfigError where both or neither are given, and SourceError as `taken_as_splits` does.
    """
    given: dict[str, object] = {role: path for role, path in folders.items() if path is not None}
    doubtful = DOUBTFUL if table is not None else ()  # a doubtful folder is asked about by its own name
    marks = [name for name in classes if is_mark(name) or name.strip().lower() in doubtful]
    words: dict[str, object] = {"no_label": []} if marks else {}
    if table is not None:
        if given or find_splits:
            other = f"--{next(iter(given), 'splits')}"
            raise ConfigError(f"--table and {other} exclude each other: a list names all its images itself")
        return TableSource.model_validate({"path": str(table), **words})
    if "labeled" not in given:
        raise ConfigError("give --labeled FOLDER and --unlabeled FOLDER, or --table FILE: which images are labelled?")
    if find_splits:
        return taken_as_splits(FolderSource.model_validate({**given, **words}))
    if "unlabeled" not in given:
        raise ConfigError("give --unlabeled FOLDER: self-training learns from images without labels")
    return FolderSource.model_validate({**given, **words})
