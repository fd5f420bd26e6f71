"""Where a step's training goes: the model's folder, its checkpoints, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from tempfile import mkdtemp
from typing import overload

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.console import progress
from selftrain.adapters.runs.interruption import checkpoint_store, interruptible
from selftrain.adapters.runs.materializers import TEMPORARY
from selftrain.data.store.dataset import Dataset
from selftrain.files.mirror import Mirror
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.teaching.task import Destination


@contextmanager
def destination(dataset: Dataset, note: str, *, code: Callable[[], str] = code_digest.train) -> Iterator[Destination]:
    """A destination whose checkpoints the same `code`, by its digest, finds again. ZenML stores its folder.

    With SELFTRAIN_CHECKPOINTS, they are kept there too, and SIGTERM stops the training gently.
    """
    store = checkpoint_store()
    mirror = Mirror(store, dataset.workspace.checkpoints) if store else None
    with interruptible() as interruption, progress(note) as show:
        folder = dataset.checkpoints(code())
        checkpoints = Checkpoints(folder, dataset.machine.checkpoint_s, mirror, interruption.told_to_stop)
        yield Destination(Path(mkdtemp(prefix=TEMPORARY)), checkpoints, show, dataset.machine.devices)


@overload
def own_copy(model: SavedModel) -> SavedModel: ...
@overload
def own_copy(model: None) -> None: ...
@overload
def own_copy(model: SavedModel | None) -> SavedModel | None: ...
def own_copy(model: SavedModel | None) -> SavedModel | None:
    """`model` in a folder of its own, for a step with two outputs that may be one model: storing it moves its files."""
    if model is None:
        return None
    folder = mkdtemp(prefix=TEMPORARY)
    return replace(model, folder=Path(copytree(model.folder, folder, dirs_exist_ok=True)))
