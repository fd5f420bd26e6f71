"""A training as a pod runs it: the step itself, in a process whose folder is empty at first.

`python -m benchmarks.pod_training prepare TASK` ingests the digits and pushes them to the store, as the pods before a
training do. `train TASK` runs the step, writes a line for each step of the training to `steps.txt`, and prints the
digest of the weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selftrain.config import Experiment
from selftrain.progress import Progress

STEPS = "steps.txt"
EXPERIMENT, MANIFEST, VERSION = "experiment.json", "development.parquet", "version.txt"


@dataclass(frozen=True)
class Reached:
    """A step of a training, and when it was done (seconds of the machine's clock)."""

    at: float
    step: int


def reached(path: Path) -> list[Reached]:
    """The steps that a training has done so far. A line that a kill cut off is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Reached(float(at), int(step)) for at, step in map(str.split, lines)]


def prepare(task: Path) -> None:
    """Ingest the images of TASK's experiment, push them, and leave the manifest and the version in TASK."""
    from benchmarks.loops import ingested
    from selftrain.adapters.snapshots.repository import snapshot
    from selftrain.data.manifest import Split
    from selftrain.data.sources.source import open_source
    from selftrain.data.store.dataset import open_dataset

    e = _experiment(task)
    manifest = ingested(e, open_source(e.source)).manifest
    manifest.part(Split.TRAIN, Split.VALIDATION).write(task / MANIFEST)
    (task / VERSION).write_text(snapshot(open_dataset(e.place).workspace, e.place.dataset).hash)


def train(task: Path) -> None:
    """Run the step that trains the first teacher; the working directory is the pod's disk."""
    from selftrain.adapters.runs import destination
    from selftrain.data.manifest import Manifest
    from selftrain.selflabel.rounds.plan import teacher_plan
    from steps.train_teacher import train_teacher

    e, version = _experiment(task), (task / VERSION).read_text()
    destination.progress = written  # a line for each step, where the console shows one every ten seconds
    model = train_teacher.entrypoint(Manifest.read(task / MANIFEST), e.place, teacher_plan(e), None, e.machine, version)
    print(model.contract.values_sha256)


@contextmanager
def written(what: str) -> Iterator[Progress]:
    """A Progress that writes the time and the number of each step."""
    with open(STEPS, "a", buffering=1) as file:
        yield lambda done, total, note="": print(time.monotonic(), done, file=file)


def _experiment(task: Path) -> Experiment:
    return Experiment.model_validate_json((task / EXPERIMENT).read_text())


if __name__ == "__main__":
    {"prepare": prepare, "train": train}[sys.argv[1]](Path(sys.argv[2]))
