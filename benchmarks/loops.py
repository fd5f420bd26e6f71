"""A loop through the core, without engines: what pipelines/ssl_pipeline.py does, test left unread."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selftrain.config import Experiment
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.sources.source import ImageSource
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.progress import Progress
from selftrain.selflabel.loop import LoopResult, run_loop
from selftrain.selflabel.rounds.history import Verdict
from selftrain.selflabel.rounds.outcome import outcome
from selftrain.selflabel.teaching.task import TaskData


@dataclass(frozen=True)
class Ended:
    """A loop that came to its end, and the images it ran on, which are there as long as its scratch folder."""

    looped: LoopResult
    verdict: Verdict
    ingested: IngestResult
    images: TaskData


class Said:
    """Progress in lines: each task when it begins, and a line a quarter of a training; `name` goes before each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: tuple[str, int] = ("", 0)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        what, quarter = note.split(": ")[0], done * 4 // max(total, 1)
        if quarter and (what, quarter) != self._seen:
            self._seen = (what, quarter)
            print(f"    {self._name}: {done} of {total}, {note}", flush=True)


@contextmanager
def scratch(key: str) -> Iterator[Path]:
    """A folder outside the project for images, named by `key`; removed at the end, found again after a kill."""
    folder = Path(tempfile.gettempdir(), f"selftrain-benchmarks-{os.getuid()}", key)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def ingested(e: Experiment, source: ImageSource) -> IngestResult:
    """The manifest of `source`, its images in the workspace of `e`."""
    return ingest(source, source.scan(), open_dataset(e.place).store, settings=e.ingest, splitting=e.splitting)


def run(e: Experiment, source: ImageSource, keep: Path, progress: Progress) -> Ended:
    """The loop of `e` on the images of `source`, from where it was if `keep` holds models and checkpoints of it."""
    made = ingested(e, source)
    dataset = open_dataset(e.place, e.machine)
    looped = run_loop(
        e,
        made.manifest,
        dataset,
        folder=keep / "models",
        checkpoints=Checkpoints(keep / "checkpoints"),
        progress=progress,
    )
    return Ended(looped, outcome(e.gate, looped.history).verdict, made, TaskData(made.manifest, dataset))
