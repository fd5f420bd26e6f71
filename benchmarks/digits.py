"""The digits run of `make run`, step by step through the core: what digits_seeds repeats and training times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selftrain.adapters.fitting import run_key
from selftrain.config import DigitsSource, Experiment, Recipe
from selftrain.data import dataset
from selftrain.data.ingest import ingest
from selftrain.data.manifest import Manifest
from selftrain.data.pixels import Pixels
from selftrain.data.sources import open_source
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.checkpoint import Checkpoints
from selftrain.progress import Progress
from selftrain.selflabel.finished import outcome
from selftrain.selflabel.loop import read_test, run_loop
from selftrain.selflabel.rounds import History, Verdict


@dataclass(frozen=True)
class Finished:
    """How one run ended."""

    history: History
    verdict: Verdict
    report: EvaluationReport


def experiment(seed: int, workspace: Path, *, steps: int | None = None) -> Experiment:
    """The default Experiment with another draw of labels and other weights to begin with; 0 is the default itself.

    Seeds of models lie apart, so that no student repeats another run's teacher. `steps` shortens all trainings.
    """
    default = Experiment(source=DigitsSource(seed=seed), seed=100 * seed, workspace=str(workspace))
    if steps is None:
        return default
    return default.model_copy(
        update={"teacher": shortened(default.teacher, steps), "student": shortened(default.student, steps)}
    )


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """The recipe with so many steps and two looks at validation."""
    return recipe.model_copy(update={"steps": steps, "validate_every": -(-steps // 2)})


def ingested(e: Experiment) -> tuple[Manifest, Pixels]:
    """The manifest and the decoded images of an experiment."""
    source = open_source(e.source)
    store = dataset.store(e.place)
    made = ingest(source, source.scan(), store, settings=e.ingest, splitting=e.splitting)
    return made.manifest, dataset.pixels(e.place, made.manifest, e.image_size, e.machine)


def run(e: Experiment, progress: Progress) -> Finished:
    """What pipelines/ssl_pipeline.py does, without the engines; test is read once, at the end."""
    manifest, _ = ingested(e)
    pixels_of = partial(dataset.pixels, e.place, machine=e.machine)
    workspace = dataset.workspace(e.place)
    checkpoints = Checkpoints(workspace.checkpoints)
    folder = workspace.models / run_key(e, manifest, None)
    looped = run_loop(e, manifest, pixels_of=pixels_of, folder=folder, checkpoints=checkpoints, progress=progress)
    return Finished(looped.history, outcome(e.gate, looped.history).verdict, read_test(looped, pixels_of=pixels_of))
