"""Our own packages `pipelines` and `steps`, in a folder that has packages of the same names, as ZenML's projects do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selftrain.errors import ConfigError

NAMES = ("pipelines", "steps")


@contextmanager
def own_packages_first(root: Path) -> Iterator[None]:
    """Let `pipelines` and `steps` be those in the folder `root` while the block imports them.

    `zenml pipeline run` puts the current folder in front of everything else. Raises ConfigError where this process has
    loaded other packages of these names already.
    """
    for name in NAMES:
        _refuse_other(name, root)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))


def _refuse_other(name: str, root: Path) -> None:
    folders = [str(folder) for folder in getattr(sys.modules.get(name), "__path__", ())]
    if folders and str(root / name) not in folders:
        raise ConfigError(
            f"the package {name!r} of {folders[0]} is loaded, and selftrain has one of the same name. Start selftrain "
            "in a process of its own: selftrain run --config FILE"
        )
