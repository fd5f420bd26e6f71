"""The recall log: which models are withdrawn, since when and why. Lines are only ever added.

Its lines are tags of the MLflow experiment that runs go to, rather than of a registered model. Most teachers are never
registered, and a model taught by one may be registered under any name.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.process.settings import prepare_mlflow, zenml_folder
from selftrain.adapters.registry import tag_log, versions
from selftrain.adapters.tracking.store import Tracking, open_to_read, stack_tracker_uri
from selftrain.errors import RegistryError
from selftrain.files.workspace import Workspace
from selftrain.selflabel.lineage.descent import SHOWN, Descent, Recall, Recalled

if TYPE_CHECKING:
    from selftrain.config import Place
    from selftrain.learn.detection.saving import DetectorContract, SavedDetector
    from selftrain.learn.models.contract import Contract, SavedModel

LOG_TAG = "selftrain.recall."
ANOTHER_START = "start from another: set teacher.start to 'train' or to a model's folder, or `selftrain rollback` first"
ANOTHER_FOLDER = "start from another: set teacher.start to 'train' or to another model's folder"
ANOTHER_TEACHER = "nothing is taught by it: name another model"
ROLL_BACK = "make the champion before it champion again with `selftrain rollback`"
ANOTHER_MODEL = (
    "nothing is labelled or registered with it, and the same run would only make or find it again. Change what it "
    "learns from - the labels, the settings or the seed - or take the recall back (selftrain recall --undo)"
)


def read_log(tracking: Tracking) -> list[Recall]:
    """Every line of the log, oldest first."""
    with versions.answering(tracking):
        tags = tracking.client.get_experiment(tracking.experiment_id).tags
    return tag_log.lines(tags, LOG_TAG, Recall)


def append(tracking: Tracking, line: Recall) -> Recall:
    """Append `line`, with its number and time filled in, and return it."""
    log = read_log(tracking)
    number = log[-1].number + 1 if log else 1
    line = line.model_copy(update={"number": number, "when": tag_log.now()})
    key = tag_log.new_key(LOG_TAG, number)
    with versions.answering(tracking):
        tracking.client.set_experiment_tag(tracking.experiment_id, key, line.model_dump_json())
    return line


def recalled(tracking: Tracking) -> Recalled:
    """What is withdrawn now. The registry is asked who taught whom only if anything is withdrawn."""
    log = read_log(tracking)
    holds = bool(Recalled.of(log).withdrawn)
    return Recalled.of(log, [version.descent for version in versions.all_versions(tracking)] if holds else ())


def lines_about(tracking: Tracking, name: str) -> list[Recall]:
    """The lines that concern any version of the model `name`, oldest first."""
    log = read_log(tracking)
    every = [version.descent for version in versions.all_versions(tracking)] if log else []
    own = [version.descent for version in versions.versions(tracking, name)] if log else []

    def concerns(line: Recall) -> bool:
        alone = Recalled.of([line.model_copy(update={"action": "withdraw"})], every)
        return any(alone.cause(model) is not None for model in own)

    return [line for line in log if concerns(line)]


def open_log(workspace: Path) -> Tracking | None:
    """The store of `workspace`, or None where its log is certainly empty.

    It is for reading only. MLflow takes seconds to load, and most workspaces have no recall.
    """
    elsewhere = os.environ.get("MLFLOW_TRACKING_URI") or stack_tracker_uri()
    if not elsewhere and not may_hold_lines(Workspace(workspace).mlflow_database):
        return None
    return open_to_read(workspace)


def known_log(workspace: Path) -> Tracking | None:
    """`open_log` for calls that work without any store; also None where no store has been used yet.

    ZenML takes seconds to load, and makes a store of its own where there is none. So it is only asked for its stack
    where it was set up before and `workspace` exists.
    """
    used = workspace.is_dir() and (zenml_is_set_up() or may_hold_lines(Workspace(workspace).mlflow_database))
    if not used and not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    prepare_mlflow()
    return open_log(workspace)


def zenml_is_set_up() -> bool:
    """Whether ZenML was used on this machine before."""
    return "ZENML_STORE_URL" in os.environ or (zenml_folder() / "config.yaml").is_file()


def may_hold_lines(database: Path) -> bool:
    """Whether the log in the embedded store `database` has a line; True also where only MLflow can tell."""
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
            line = store.execute("SELECT 1 FROM experiment_tags WHERE key LIKE ? LIMIT 1", (f"{LOG_TAG}%",)).fetchone()
    except sqlite3.DatabaseError:
        return True  # it is locked, broken, or has another MLflow's tables: MLflow must say
    return line is not None


def withdrawn(place: Place) -> list[str]:
    """The identities of what is withdrawn now, sorted; empty before the first run."""
    tracking = open_log(Path(place.workspace))
    return sorted({line.identity for line in Recalled.of(read_log(tracking)).in_force}) if tracking is not None else []


def refuse_withdrawn(model: SavedModel | SavedDetector, place: Place) -> None:
    """Raise WithdrawnError if `model`, of a run or its cache, is withdrawn or tainted."""
    tracking = open_log(Path(place.workspace))
    if tracking is not None:
        refuse(tracking, model.contract)


def refuse(tracking: Tracking, contract: Contract | DetectorContract) -> None:
    """Raise WithdrawnError if the model that `contract` describes is withdrawn or tainted."""
    called = f"the {contract.backbone} {contract.identity[:SHOWN]} of this run"
    recalled(tracking).refuse(descent_of(contract), called, advice=ANOTHER_MODEL)


def refuse_file(model: Descent, called: str, workspace: Path, *, advice: str) -> None:
    """Raise WithdrawnError if a user's model, a folder or file, is withdrawn or tainted."""
    tracking = known_log(workspace)
    if tracking is not None:
        recalled(tracking).refuse(model, called, advice=advice)


def concern_about_file(model: Descent, called: str, workspace: Path) -> str | None:
    """What to tell the user about their model, a folder or file; None where nothing was withdrawn."""
    try:
        tracking = known_log(workspace)
        return recalled(tracking).concern(model, called) if tracking is not None else None
    except RegistryError as error:
        return f"it is not known whether {called} was withdrawn: {error}"


def alarm(tracking: Tracking, champion: versions.Version | None) -> str:
    """What to add to a message about `champion` if it is withdrawn or tainted: why, and what to do."""
    if champion is None:
        return ""
    concern = recalled(tracking).concern(champion.descent, f"the champion {champion.uri}")
    return f"; {concern}; {ROLL_BACK}" if concern else ""


def descent_of(contract: Contract | DetectorContract) -> Descent:
    """Who taught the model that `contract` describes, as the contract says."""
    return Descent(frozenset({contract.identity, contract.weights_sha256} - {""}), contract.lineage)


def descent_at(path: Path) -> Descent:
    """Who taught the model at `path`, as its contract says. One that a user brings only has its digest."""
    from selftrain.learn.adoption.formats import digest_of, is_brought
    from selftrain.learn.detection.saving import SavedDetector, holds_detector
    from selftrain.learn.models.contract import read_contract

    if holds_detector(path):
        return descent_of(SavedDetector.read(path).contract)
    if path.is_dir() and not is_brought(path):
        return descent_of(read_contract(path))
    return Descent(frozenset({digest_of(path)}))
