"""MLflow's embedded store, read in SQL: the registry and its logs, without the seconds that MLflow takes to load.

`StoredClient` has those methods of MlflowClient that our reading code calls, with the same answers. A store whose
tables have another version than SCHEMA, a server, or settings that only MLflow understands are not read here.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selftrain.errors import RegistryError

SCHEMA = "dc11669786a5"  # of MLflow 3.17
MISSING = "RESOURCE_DOES_NOT_EXIST"
WORKSPACES = "MLFLOW_ENABLE_WORKSPACES"
URI = "sqlite:///"
NAME_IS = re.compile(r"name = '(?P<name>[^']*)'")
HIDDEN = "name NOT IN (SELECT name FROM registered_model_tags WHERE key = 'mlflow.prompt.is_prompt' AND value = 'true')"


class MissingError(Exception):
    """What MLflow says of a model that it does not have."""

    error_code = MISSING


class Page(list):  # type: ignore[type-arg]  # as MLflow's own PagedList
    """All answers on one page."""

    token: str | None = None


@dataclass(frozen=True)
class StoredModel:
    """A registered model."""

    name: str
    tags: dict[str, str]
    aliases: dict[str, str]


@dataclass(frozen=True)
class StoredVersion:
    """A version of a registered model."""

    name: str
    version: int
    source: str
    tags: dict[str, str]


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment and its tags."""

    experiment_id: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredClient:
    """The reading half of MlflowClient on the SQLite file `path`. Raises RegistryError where that cannot be read."""

    path: Path

    def get_experiment(self, experiment_id: str) -> StoredExperiment:
        """The experiment with this id."""
        tags = self._rows("SELECT key, value FROM experiment_tags WHERE experiment_id = ?", (int(experiment_id),))
        return StoredExperiment(experiment_id, dict(tags))

    def get_registered_model(self, name: str) -> StoredModel:
        """The model called `name`. Raises MissingError."""
        found = self.search_registered_models(f"name = '{name}'")
        if not found:
            raise MissingError(f"no model is called {name!r}")
        model: StoredModel = found[0]
        return model

    def search_registered_models(self, filter_string: str | None = None, page_token: str | None = None) -> Page:
        """All models by name, or the one that `filter_string` names."""
        where, values = _where(filter_string)
        names = self._rows(f"SELECT name FROM registered_models WHERE {where} ORDER BY name", values)
        return Page(self._model(name) for (name,) in names)

    def search_model_versions(self, filter_string: str | None = None, page_token: str | None = None) -> Page:
        """All versions, or those of the model that `filter_string` names."""
        where, values = _where(filter_string)
        found = self._rows(
            f"SELECT name, version, source FROM model_versions WHERE {where} AND current_stage != 'Deleted_Internal'",
            values,
        )
        return Page(
            StoredVersion(name, number, source, self._version_tags(name, number)) for name, number, source in found
        )

    def _model(self, name: str) -> StoredModel:
        tags = self._rows("SELECT key, value FROM registered_model_tags WHERE name = ?", (name,))
        aliases = self._rows("SELECT alias, version FROM registered_model_aliases WHERE name = ?", (name,))
        return StoredModel(name, dict(tags), {alias: str(number) for alias, number in aliases})

    def _version_tags(self, name: str, number: int) -> dict[str, str]:
        return dict(
            self._rows("SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", (name, number))
        )

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with closing(_connect(self.path)) as store:
                return store.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise RegistryError(
                f"the MLflow store {self.path} cannot be read ({error}); let the process that writes it end"
            ) from error


def stored_experiment(uri: str, name: str) -> tuple[StoredClient, str] | None:
    """A client for the embedded store at `uri` and the id of its experiment `name`; None: only MLflow can read it."""
    path = Path(uri.removeprefix(URI))
    if not uri.startswith(URI) or WORKSPACES in os.environ or not path.is_file():
        return None
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'"
    try:
        with closing(_connect(path)) as store:
            schema = store.execute("SELECT version_num FROM alembic_version").fetchall()
            found = store.execute(query, (name,)).fetchall() if schema == [(SCHEMA,)] else []
            shared = found and store.execute("SELECT 1 FROM registered_models WHERE workspace != 'default'").fetchall()
    except sqlite3.Error:
        return None
    return (StoredClient(path), str(found[0][0])) if len(found) == 1 and not shared else None


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _where(filter_string: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition in SQL. MLflow's prompts are models that only its own search for prompts shows."""
    if filter_string is None:
        return HIDDEN, ()
    named = NAME_IS.fullmatch(filter_string)
    if named is None:
        raise ValueError(f"{filter_string!r} is not name = '...', the only filter known here")
    return f"name = ? AND {HIDDEN}", (named["name"],)
