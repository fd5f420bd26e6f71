"""Test sets: each earlier version of a data set's test images and their labels stays beside the present one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selftrain.data.manifest import Manifest, Split
from selftrain.errors import ManifestError

FOLDER = "test_sets"


@dataclass(frozen=True)
class TestSets:
    """The earlier test sets in the data set's folder `root`: Parquet manifests, named by number and digest.

    A test set is another version as soon as one image or label differs. Evaluations are counted for each version.
    """

    __test__ = False  # no test of pytest's

    root: Path

    def keep(self, previous: Manifest | None, present: Manifest) -> None:
        """Keep the test set of `previous` if that of `present` is another one; the store's lock must be held."""
        if previous is None or not len(previous.rows(Split.TEST)):
            return
        digest = previous.split_digest(Split.TEST)
        names = self._names()
        if digest == present.split_digest(Split.TEST) or (names and _is_of(names[-1], digest)):
            return
        name = f"{len(names) + 1:04d}-{digest[:16]}.parquet"
        previous.part(Split.TEST).write(self.root / FOLDER / name)

    def before(self, present: Manifest) -> str | None:
        """The name of the version that came before the test set of `present`; None for the first."""
        digest = present.split_digest(Split.TEST)
        return next((name for name in reversed(self._names()) if not _is_of(name, digest)), None)

    def read(self, name: str | None) -> Manifest | None:
        """The test images of the version called `name`, with the labels they had; None for None.

        Raises ManifestError if the data set does not hold that version.
        """
        if name is None:
            return None
        if name not in self._names():
            raise ManifestError(f"{self.root / FOLDER} has no test set {name!r}; `selftrain restore` brings it back")
        return Manifest.read(self.root / FOLDER / name)

    def _names(self) -> list[str]:
        return sorted(path.name for path in (self.root / FOLDER).glob("[0-9]*-*.parquet"))


def version_after(name: str | None) -> int:
    """The number of the version that follows the version called `name`; 1 where there was none.

    >>> version_after("0003-8f14e45fceea167a.parquet")
    4
    """
    return 1 if name is None else int(name.split("-")[0]) + 1


def _is_of(name: str, digest: str) -> bool:
    return name.split("-")[1] == f"{digest[:16]}.parquet"
