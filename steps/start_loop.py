"""The step that begins a loop whose rounds are steps: the first teacher becomes round 0."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.registry.recall_log import refuse_withdrawn
from selftrain.config import Experiment, Machine
from selftrain.data.manifest import Manifest
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.history import History, Round
from selftrain.selflabel.rounds.results import teacher_round
from selftrain.selflabel.rounds.start import check_teacher
from steps.score import score


@step(cache_policy=CachePolicy(cache_func=code_digest.start_loop, ignored_inputs=["machine", "dataset_version"]))
def start_loop(
    manifest: Manifest,
    development: Manifest,
    teacher: SavedModel,
    settings: Experiment,
    machine: Machine,
    dataset_version: str,
) -> tuple[Annotated[History, "history"], Annotated[Round, "finished"]]:
    """Score the first teacher on validation, and begin the history with it."""
    refuse_withdrawn(teacher, settings.place)
    scores = score.entrypoint(development, teacher, settings.place, settings.task, machine, dataset_version)
    check_teacher(settings.teacher.start, scores, manifest)
    history = History().with_round(teacher_round(manifest, teacher, scores, settings.gate))
    return history, history.latest
