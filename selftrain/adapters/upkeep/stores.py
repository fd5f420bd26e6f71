"""What the stores of a workspace say: its runs and models in MLflow, and the decisions on retraining."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from functools import partial
from typing import TYPE_CHECKING

from selftrain.adapters.registry import champions
from selftrain.adapters.registry.versions import all_pages, all_versions, cached_name, names
from selftrain.adapters.snapshots.objects import versions_here
from selftrain.adapters.tracking.runs import NAME_PARAM, RUN_TAG, VERSION_TAG
from selftrain.adapters.upkeep.needed import Facts, PastRun, PastVersion

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from selftrain.adapters.tracking.store import Tracking
    from selftrain.files.workspace import Workspace

DATASET_TAG = "selftrain.dataset_version"
PAGE = 1000


def read_facts(workspace: Workspace, tracking: Tracking | None) -> Facts:
    """The facts that decide what is needed. Raises RegistryError or SnapshotError where a store does not answer."""
    decided_on = frozenset(_decided_on(workspace))
    if tracking is None:
        return Facts(decided_on=decided_on)
    here = versions_here(workspace)
    search = partial(tracking.client.search_runs, [tracking.experiment_id], max_results=PAGE)
    logged: list[Run] = all_pages(tracking, search)
    ids = {run.info.run_id: run.data.tags[RUN_TAG] for run in logged if RUN_TAG in run.data.tags}
    return Facts(
        runs=tuple(_past_run(run, here) for run in logged if RUN_TAG in run.data.tags),
        versions=tuple(_past_versions(tracking, ids)),
        logs={name: champions.history(tracking, name) for name in names(tracking)},
        decided_on=decided_on,
    )


def _past_run(run: Run, here: Set[str]) -> PastRun:
    tags, version = run.data.tags, run.data.tags.get(VERSION_TAG, "")
    return PastRun(
        id=tags[RUN_TAG],
        experiment=run.info.run_name,
        start=run.info.start_time,
        finished=run.info.status == "FINISHED" and tags.get(DATASET_TAG) in here,
        dataset_version=tags.get(DATASET_TAG),
        model=(run.data.params.get(NAME_PARAM, ""), int(version)) if version.isdecimal() else None,
    )


def _past_versions(tracking: Tracking, runs: dict[str, str]) -> Iterator[PastVersion]:
    made: list[ModelVersion] = all_pages(tracking, tracking.client.search_model_versions)
    by = {(each.name, int(each.version)): runs.get(each.run_id or "") for each in made}
    for version in all_versions(tracking):
        yield PastVersion(
            name=version.name,
            number=version.number,
            source=version.source,
            aliases=version.aliases,
            run=by.get((version.name, version.number)),
            dataset_version=version.tags.get(DATASET_TAG),
            cached_as=cached_name(version),
            ours=bool(version.run_key),
        )


def _decided_on(workspace: Workspace) -> Iterator[str]:
    """The newest version that the decisions on retraining name, for each data set: the watermark."""
    for journal in workspace.datasets.glob("*.retraining.jsonl"):
        named = (_named_in(line) for line in reversed(journal.read_text(encoding="utf-8").splitlines()))
        yield from list(filter(None, named))[:1]


def _named_in(line: str) -> str | None:
    """The data set version in a line of the journal; None for the half line that a killed process wrote."""
    try:
        version = json.loads(line).get("dataset_version")
    except ValueError:
        return None
    return str(version) if version else None
