"""A whole round in one step; where the loop has ended, it passes on what it got."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy
from zenml.materializers import BuiltInMaterializer

from selftrain.adapters.process import code_digest
from selftrain.adapters.registry.recall_log import refuse_withdrawn
from selftrain.adapters.registry.starting_models import described_spaces
from selftrain.adapters.runs.destination import own_copy
from selftrain.adapters.runs.materializers import ModelMaterializer, TableMaterializer
from selftrain.config import Experiment, Machine
from selftrain.data.manifest import Manifest
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds import next_round as rounds
from selftrain.selflabel.rounds.history import History, Round
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from steps.pseudo_label import pseudo_label
from steps.score import score
from steps.train_student import train_student


@step(
    cache_policy=CachePolicy(cache_func=code_digest.next_round, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={
        "teacher": ModelMaterializer,
        "student": (ModelMaterializer, BuiltInMaterializer),
        "pseudo_labels": (TableMaterializer, BuiltInMaterializer),
    },
)
def next_round(
    manifest: Manifest,
    development: Manifest,
    so_far: History,
    teacher: SavedModel,
    settings: Experiment,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
) -> tuple[
    Annotated[History, "history"],
    Annotated[SavedModel, "teacher"],
    Annotated[Round | None, "finished"],
    Annotated[SavedModel | None, "student"],
    Annotated[PseudoLabels | None, "pseudo_labels"],
]:
    """Label the pool with `teacher`, train a student and score it, unless the loop has ended: then nothing is done.

    The first two outputs are for the next round: the history, and the newest model that was kept.
    """
    place, task, rest = settings.place, settings.task, (machine, dataset_version)
    refuse_withdrawn(teacher, place)
    work = rounds.Work(
        label=lambda coming: pseudo_label.entrypoint(
            *(manifest, teacher, place, task, settings.pseudo_label, coming.index, *rest),
            described_spaces(settings, coming.recipe, coming.backbone),
        ),
        train=lambda coming, labels: train_student.entrypoint(manifest, labels, place, coming, weights, *rest, teacher),
        score=lambda student: score.entrypoint(development, student, place, task, *rest),
    )
    done = rounds.next_round(settings, manifest, so_far, work)
    return done.history, done.newest_kept(teacher), done.finished, own_copy(done.student), done.labels
