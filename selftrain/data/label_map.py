"""The label map: the class names, of which a label is an index."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from selftrain.errors import ManifestError, SourceError


@dataclass(frozen=True)
class LabelMap:
    """The class names; a label is an index into them. Raises ManifestError for a name that is empty or occurs twice.

    >>> LabelMap(("cat", "dog")).index("dog")
    1
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not all(self.names):
            raise ManifestError(f"class names must be unique and not empty, got {self.names!r}; rename the classes")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The label of class `name`. For an unknown class, raises SourceError, which names the nearest known one."""
        if name in self.names:
            return self.names.index(name)
        near = difflib.get_close_matches(name, self.names, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SourceError(f"unknown class {name!r}{hint} The {len(self)} classes are {', '.join(self.names[:20])}")
