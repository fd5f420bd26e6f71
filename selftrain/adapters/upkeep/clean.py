"""Clean: what a workspace no longer needs is removed, kind by kind, and what that frees is said in bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.runs.run_lock import no_run
from selftrain.adapters.snapshots.objects import remove_objects, unneeded_objects
from selftrain.adapters.tracking.store import open_existing
from selftrain.adapters.upkeep.needed import Facts, Needed, PastVersion, needed
from selftrain.adapters.upkeep.run_models import remove_models, unneeded_models
from selftrain.adapters.upkeep.stores import read_facts
from selftrain.data.store import decoded_files, feature_files
from selftrain.errors import InputError
from selftrain.files.disk_use import disk_use, half_removed, remove_folder
from selftrain.files.workspace import Workspace
from selftrain.learn.training import checkpoint

if TYPE_CHECKING:
    from selftrain.adapters.upkeep.run_models import RunModel

MODELS = "models"  # MLflow's folder of models, in that of its artifacts


class Freed(BaseModel):
    """What is freed of one kind: how many files, and their bytes."""

    model_config = ConfigDict(frozen=True)

    kind: str
    files: int
    size: int


class CleanReport(BaseModel):
    """What a clean freed, or would free if `dry_run`: bytes by kind and in all; and how many runs were kept."""

    model_config = ConfigDict(frozen=True)

    dry_run: bool
    kept_runs: int
    freed: tuple[Freed, ...]
    size: int


@dataclass(frozen=True)
class Leftovers:
    """Files of one kind that nothing needs, and how they are removed."""

    kind: str
    paths: tuple[Path, ...]
    remove: Callable[[], object]


def clean(root: Path, *, keep_runs: int, dry_run: bool = False) -> CleanReport:
    """Remove from the workspace at `root` what neither users nor the newest `keep_runs` runs of an experiment need.

    It can be stopped and repeated at any time. Raises InputError without a workspace there, BusyError while a run is
    alive, and RegistryError or SnapshotError where a store does not answer; then nothing was removed.
    """
    workspace = Workspace(root)
    if not workspace.datasets.is_dir():
        raise InputError(
            f"{root} is not a workspace, which has a folder `datasets`; name the right one with --workspace"
        )
    prepare_process()
    with no_run(workspace.locks):
        facts = read_facts(workspace, open_existing(root))
        kept = needed(facts, keep_runs)
        found = list(leftovers(workspace, facts, kept))
        freed = tuple(_freed(each, dry_run=dry_run) for each in found)
    return CleanReport(dry_run=dry_run, kept_runs=len(kept.runs), freed=freed, size=sum(each.size for each in freed))


def leftovers(workspace: Workspace, facts: Facts, kept: Needed) -> Iterator[Leftovers]:
    """All that nothing needs, kind by kind."""
    decoded = decoded_files.decoded_files(workspace.decoded_cache)
    prune = partial(decoded_files.prune, workspace.decoded_cache, budget_mb=0)
    yield Leftovers("decoded images", tuple(decoded), prune)
    features = feature_files.feature_files(workspace.features_cache)
    prune = partial(feature_files.prune, workspace.features_cache, budget_bytes=0)
    yield Leftovers("features of images", tuple(features), prune)
    trainings = checkpoint.finished_trainings(workspace.checkpoints)
    prune = partial(checkpoint.prune, workspace.checkpoints, keep=0)
    yield Leftovers("checkpoints of finished trainings", tuple(trainings), prune)
    copies = _copies(workspace, facts)
    yield Leftovers("copies of superseded models", copies, partial(_remove_all, copies))
    files = _model_files(workspace, facts.versions, kept)
    yield Leftovers("files of superseded models", files, partial(_remove_all, files))
    models = unneeded_models(workspace, [run.id for run in facts.runs if run.id not in kept.runs], kept.runs)
    yield Leftovers("models of old runs", _folders(models), partial(remove_models, models))
    objects = tuple(unneeded_objects(workspace, kept.datasets))
    yield Leftovers("data set versions", objects, partial(remove_objects, workspace, kept.datasets))


def _freed(found: Leftovers, *, dry_run: bool) -> Freed:
    use = disk_use(found.paths)
    if not dry_run:
        found.remove()
        use = use.without(disk_use(found.paths))
    return Freed(kind=found.kind, files=use.files, size=use.size)


def _copies(workspace: Workspace, facts: Facts) -> tuple[Path, ...]:
    """Copies of registered versions, but for those that an alias names. A copy of a user's own model stays.

    After a move the copies have other names, so those from before it are found by the version alone.
    """
    stay = {version.cached_as for version in facts.versions if version.aliases}
    made = "|".join(re.escape(f"{version.name}-{version.number}-") for version in facts.versions)
    folders = workspace.models.iterdir() if workspace.models.is_dir() else ()
    copies = [each for each in folders if made and re.fullmatch(rf"({made})[0-9a-f]{{12}}", each.name)]
    return tuple(sorted({*(each for each in copies if each.name not in stay), *half_removed(workspace.models)}))


def _model_files(workspace: Workspace, versions: Iterable[PastVersion], kept: Needed) -> tuple[Path, ...]:
    """The files of registered versions that nothing needs, where they lie in the workspace. Their records stay."""
    own = (workspace.mlflow_artifacts / MODELS).resolve()
    stay = {_folder(each.source) for each in versions if not each.ours or (each.name, each.number) in kept.models}
    gone = [each for each in {_folder(version.source) for version in versions} - stay if each is not None]
    gone = [each for each in gone if each.is_relative_to(own)]
    rest = {path for folder in gone for path in half_removed(folder.parent)}
    return tuple(sorted({*rest, *filter(Path.is_dir, gone)}))


def _folder(source: str) -> Path | None:
    """The local folder that the address `source` names, or None."""
    parts = urlparse(source)
    return Path(unquote(parts.path)).resolve() if parts.scheme in ("file", "") and parts.path else None


def _folders(models: Iterable[RunModel]) -> tuple[Path, ...]:
    return tuple(model.folder for model in models)


def _remove_all(folders: Iterable[Path]) -> None:
    for folder in folders:
        remove_folder(folder)
