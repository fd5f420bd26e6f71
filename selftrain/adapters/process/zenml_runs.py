"""Runs as ZenML keeps them: their steps, parameters and values, as frozen values read from its embedded database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from selftrain.adapters.process.zenml_database import Row, ZenMLDatabase

SUCCESSFUL = ("completed", "cached")
VALUE, OLD_VALUE = "data_v2.json", "data.json"  # ZenML up to 0.94.2 wrote JSON inside JSON
PYDANTIC = "zenml.materializers.pydantic_materializer.PydanticMaterializer"
RUNS = """
    SELECT r.id, r.status, r.status_reason, r.exception_info, s.pipeline_configuration
    FROM pipeline_run r JOIN pipeline p ON p.id = r.pipeline_id JOIN pipeline_snapshot s ON s.id = r.snapshot_id
"""
STEPS = """
    SELECT s.id, s.name, s.status, s.start_time, own.config, shared.config
    FROM step_run s
    LEFT JOIN step_configuration own ON own.step_run_id = s.id
    LEFT JOIN step_configuration shared ON shared.snapshot_id = s.snapshot_id AND shared.name = s.name
    WHERE s.pipeline_run_id = ? AND s.status != 'retried' AND (s.name = 'record' OR s.name LIKE 'log_round%')
    ORDER BY s.created
"""
ENDED = """
    (r.status != 'completed' OR p.name != 'retraining_pipeline'
     OR EXISTS (SELECT 1 FROM step_run s WHERE s.pipeline_run_id = r.id AND s.name = 'record'))
"""
INPUTS = "SELECT name, artifact_id FROM step_run_input_artifact WHERE step_id = ? ORDER BY name, input_index"
OUTPUTS = "SELECT name, artifact_id FROM step_run_output_artifact WHERE step_id = ?"


@dataclass(frozen=True)
class StoredValue:
    """A value in ZenML's artifact store: the path of its class, and how it is read as a class."""

    import_path: str
    read: Callable[[type[Any]], Any]


@dataclass(frozen=True)
class StoredStep:
    """A step of a run. `start` orders the steps of one run."""

    name: str
    succeeded: bool
    start: Any
    parameters: Mapping[str, Any]
    inputs: Mapping[str, tuple[StoredValue, ...]]
    outputs: Mapping[str, tuple[StoredValue, ...]]


@dataclass(frozen=True)
class StoredRun:
    """A run: its parameters, why it ended, and its steps `record` and `log_round...`."""

    id: str
    status: str
    parameters: Mapping[str, Any]
    error: str | None
    steps: tuple[StoredStep, ...]


def newest_runs(database: ZenMLDatabase, pipelines: Sequence[str], count: int) -> list[StoredRun]:
    """The newest `count` runs of these pipelines in the active project, newest first.

    A retraining that was not due, and completed without the step `record`, is left out.
    """
    where = f"WHERE p.name IN ({_marks(pipelines)}) AND r.project_id = ? AND {ENDED} ORDER BY r.created DESC LIMIT ?"
    rows = database.rows(f"{RUNS} {where}", (*pipelines, database.project, count))
    return [_run(database, row) for row in rows]


def pipelines_are_known(database: ZenMLDatabase, pipelines: Sequence[str]) -> bool:
    """Whether the active project has ever run one of these pipelines."""
    query = f"SELECT 1 FROM pipeline WHERE name IN ({_marks(pipelines)}) AND project_id = ?"
    return bool(database.rows(query, (*pipelines, database.project)))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def run_of(database: ZenMLDatabase, run_id: UUID) -> StoredRun:
    """The run with the whole id `run_id`. Raises LookupError if the database lacks it."""
    rows = database.rows(f"{RUNS} WHERE r.id = ?", (run_id.hex,))
    if not rows:
        raise LookupError(f"no run {run_id}")
    return _run(database, rows[0])


def _run(database: ZenMLDatabase, row: Row) -> StoredRun:
    run_id, status, reason, exception, configuration = row
    message = json.loads(exception)["message"] if exception else None
    return StoredRun(
        id=str(UUID(run_id)),
        status=status,
        parameters=json.loads(configuration).get("parameters") or {},
        error=reason or message,
        steps=tuple(_step(database, each) for each in database.rows(STEPS, (run_id,))),
    )


def _step(database: ZenMLDatabase, row: Row) -> StoredStep:
    step_id, name, status, start, own, shared = row
    return StoredStep(
        name=name,
        succeeded=status in SUCCESSFUL,
        start=start,
        parameters=json.loads(own or shared)["step_config_overrides"]["parameters"],
        inputs=_values(database, INPUTS, step_id),
        outputs=_values(database, OUTPUTS, step_id),
    )


def _values(database: ZenMLDatabase, query: str, step_id: str) -> dict[str, tuple[StoredValue, ...]]:
    values: dict[str, tuple[StoredValue, ...]] = {}
    for name, artifact in database.rows(query, (step_id,)):
        values[name] = (*values.get(name, ()), _value(database, artifact))
    return values


def _value(database: ZenMLDatabase, artifact: str) -> StoredValue:
    [(uri, kind, how)] = database.rows(
        "SELECT uri, data_type, materializer FROM artifact_version WHERE id = ?", (artifact,)
    )

    def read(model: type[BaseModel]) -> BaseModel:
        if _path(how) != PYDANTIC:
            raise LookupError(f"{uri} was written by {how}")
        if (Path(uri) / VALUE).exists():
            return model.model_validate(json.loads((Path(uri) / VALUE).read_text(encoding="utf-8")))
        return model.model_validate_json(json.loads((Path(uri) / OLD_VALUE).read_text(encoding="utf-8")))

    return StoredValue(_path(kind), read)


def _path(source: str) -> str:
    parts = json.loads(source)
    return f"{parts['module']}.{parts['attribute']}"
