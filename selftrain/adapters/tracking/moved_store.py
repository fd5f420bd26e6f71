"""A moved workspace: MLflow keeps absolute paths of its artifacts; this module makes them follow."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from selftrain.errors import RegistryError

PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("experiments", "artifact_location"),
)
"""(table, column) where MLflow 3 keeps an address in an experiment's artifact folder."""
WAIT_S = 30.0


def follow_artifacts(database: Path, *, experiment: str, artifacts: str) -> bool:
    """Make the addresses in an embedded store begin with `artifacts`, where `experiment`'s begin with another folder.

    A copied workspace needs this too, or it would write into the folder of the original. Changes all addresses or none,
    and returns whether it did. A database that is missing or lacks the experiment stays as it is. Raises RegistryError
    for one that is broken, stays locked, or was moved and is read-only.
    """
    if not database.exists():
        return False
    try:
        return _follow(database, experiment, artifacts)
    except sqlite3.DatabaseError as error:
        raise RegistryError(
            f"the MLflow store {database} cannot be used ({error}). Let the process that writes it end, make it "
            "writable where the workspace was moved, or restore it from a copy"
        ) from error


def _follow(database: Path, experiment: str, artifacts: str) -> bool:
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as store, store:
        tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return False
        found = store.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
        if found is None or found[0] == artifacts or not str(found[0]).startswith("file:"):
            return False
        for table, column in PLACES:
            if table in tables:
                store.execute(
                    f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                    f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                    {"old": found[0], "new": artifacts},
                )
    return True
