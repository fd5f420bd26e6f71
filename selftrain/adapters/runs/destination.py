"""Where a step's training goes: the model's folder, its checkpoints, and a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.console import progress
from selftrain.data.store.dataset import Dataset
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.teaching.task import Destination


@contextmanager
def destination(dataset: Dataset, note: str) -> Iterator[Destination]:
    """A destination whose checkpoints the same code finds again. ZenML stores the model from its folder."""
    checkpoints = Checkpoints(dataset.checkpoints(code_digest.train()), dataset.machine.checkpoint_s)
    with progress(note) as show:
        yield Destination(Path(mkdtemp(prefix="selftrain-")), checkpoints, show)
