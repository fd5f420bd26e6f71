"""ZenML's database is read where it is the one that ZenML would use, in a known schema; else ZenML is asked."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from selftrain.adapters.process.zenml_database import SCHEMA, ZenMLDatabase, answered, embedded_database

PROJECT, OTHER, STACK = uuid4(), uuid4(), uuid4()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ZenML's folder, with a database that has two projects and a stack."""
    for name in [name for name in os.environ if name.startswith("ZENML_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    (tmp_path / "work" / "deeper").mkdir(parents=True)
    (tmp_path / "zenml").mkdir()
    monkeypatch.chdir(tmp_path / "work" / "deeper")
    with closing(sqlite3.connect(tmp_path / "zenml" / "zenml.db")) as database, database:
        database.executescript(
            "CREATE TABLE alembic_version (version_num); CREATE TABLE project (id);"
            "CREATE TABLE stack_component (id, type); CREATE TABLE stack_composition (stack_id, component_id);"
            "INSERT INTO stack_component VALUES ('a', 'orchestrator');"
        )
        database.execute("INSERT INTO alembic_version VALUES (?)", (SCHEMA,))
        database.executemany("INSERT INTO project VALUES (?)", [(PROJECT.hex,), (OTHER.hex,)])
        database.execute("INSERT INTO stack_composition VALUES (?, 'a')", (STACK.hex,))
    configure(tmp_path / "zenml")
    return tmp_path / "zenml"


def configure(folder: Path, **store: str) -> None:
    settings = {"type": "sql", "url": f"sqlite:///{folder / 'zenml.db'}", **store}
    active = {"active_project_id": str(PROJECT), "active_stack_id": str(STACK)}
    (folder / "config.yaml").write_text(yaml.safe_dump({"store": settings, **active}))


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "zenml.db")) as database, database:
        database.execute(statement)


def test_the_local_store_is_read(folder: Path) -> None:
    assert embedded_database() == ZenMLDatabase(folder / "zenml.db", PROJECT.hex, STACK.hex)
    assert answered(lambda database: database.component_kinds()) == {"orchestrator"}


def test_a_folder_above_names_the_active_project(folder: Path) -> None:
    (folder.parent / ".zen").mkdir()
    (folder.parent / ".zen" / "config.yaml").write_text(yaml.safe_dump({"active_project_id": str(OTHER)}))
    assert embedded_database() == ZenMLDatabase(folder / "zenml.db", OTHER.hex, STACK.hex)


def test_a_server_is_asked(folder: Path) -> None:
    configure(folder, type="rest", url="https://example.org")
    assert answered(lambda database: 1) is None


def test_a_store_of_another_version_is_left_to_zenml(folder: Path) -> None:
    change(folder, "UPDATE alembic_version SET version_num = '9.9.9'")
    assert answered(lambda database: 1) is None


def test_a_project_that_the_store_lacks_is_left_to_zenml(folder: Path) -> None:
    change(folder, "DELETE FROM project")
    assert answered(lambda database: 1) is None


@pytest.mark.parametrize("name", ["ZENML_STORE_URL", "ZENML_ACTIVE_STACK_ID", "ZENML_REPOSITORY_PATH"])
def test_a_variable_that_chooses_a_store_or_stack_is_left_to_zenml(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    assert answered(lambda database: 1) is None


@pytest.mark.parametrize("damaged", ["config.yaml", "zenml.db"])
def test_a_damaged_file_is_left_to_zenml(folder: Path, damaged: str) -> None:
    (folder / damaged).write_text("]: not this")
    assert answered(lambda database: 1) is None


def test_before_the_first_use_nothing_is_read_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    assert answered(lambda database: 1) is None
    assert not (tmp_path / "zenml").exists()


def test_the_database_cannot_be_changed_through_it(folder: Path) -> None:
    database = embedded_database()
    assert database is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.rows("DELETE FROM project")
