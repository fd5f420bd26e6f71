"""The registry read in SQL: the same answers as MLflow's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from selftrain.adapters.registry import champions, recall_log, versions
from selftrain.adapters.registry.references import OpenRegistry, standing
from selftrain.adapters.tracking.store import EXPERIMENT, Tracking, open_to_read, open_tracking
from selftrain.adapters.tracking.stored_registry import StoredClient, stored_experiment
from selftrain.errors import NotRegisteredError, RegistryError
from selftrain.files.workspace import Workspace
from selftrain.selflabel.lineage.descent import Recall

# mlflow's SQL store leaves cursors to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tracking, Tracking]:
    """One store, opened by MLflow and in SQL: two models, a deleted version, a prompt, promotions and a recall."""
    folder = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        asked = open_tracking(folder, stack=lambda: None)
        client = asked.client
        for name in ("m", "an other"):
            client.create_registered_model(name)
            for key in "abc":
                tags = {versions.RUN_KEY: key, "selftrain.identity": f"{key}{name}", "selftrain.lineage.0": "taught"}
                client.create_model_version(name, (folder / key).as_uri(), tags=tags)
        client.delete_model_version("m", "2")
        client.create_registered_model("a prompt")
        champions.promote(asked, "m", 1, who="ada", why="by hand", force=True)
        champions.promote(asked, "m", 3, who="bob", why="by hand, 'again'", force=True)
        client.set_registered_model_alias("m", versions.CHALLENGER, "1")
        line = Recall(number=0, when="", who="ada", action="withdraw", identity="taught", file="", called="t", why="w")
        recall_log.append(asked, line)
        change(
            Workspace(folder).mlflow_database,  # what MLflow's own call would need a server for
            "INSERT INTO registered_model_tags VALUES ('mlflow.prompt.is_prompt', 'true', 'a prompt', 'default')",
        )
        patch.setenv("MLFLOW_TRACKING_URI", asked.uri)
        read = open_to_read(folder)
    assert read is not None
    return asked, read


def test_the_store_is_read_in_sql_and_says_the_same_as_mlflow(stores: tuple[Tracking, Tracking]) -> None:
    asked, read = stores
    assert isinstance(read.client, StoredClient)
    assert (read.experiment, read.experiment_id, read.uri) == (asked.experiment, asked.experiment_id, asked.uri)
    assert versions.names(read) == versions.names(asked) == ["an other", "m"]
    assert versions.names(read, "name = 'm'") == ["m"]
    assert versions.all_versions(read) == versions.all_versions(asked)
    assert [version.number for version in versions.versions(read, "m")] == [1, 3]
    assert recall_log.read_log(read) == recall_log.read_log(asked) != []
    for name in ("m", "an other", "unknown"):
        assert champions.history(read, name) == champions.history(asked, name)
        assert versions.champion(read, name) == versions.champion(asked, name)
        assert recall_log.lines_about(read, name) == recall_log.lines_about(asked, name)
    now = [standing(OpenRegistry(tracking, "m", Path())) for tracking in (read, asked)]
    assert now[0] == now[1]
    assert (now[0].champion_version, now[0].challenger_version) == (3, 1)
    assert now[0].concern is not None
    with pytest.raises(NotRegisteredError, match="there are: 1, 3"):
        versions.get_version(read, name="m", number=2)


def test_a_store_of_another_version_is_left_to_mlflow(stores: tuple[Tracking, Tracking], tmp_path: Path) -> None:
    database = copy(stores[0], tmp_path)
    uri = f"sqlite:///{database}"
    assert stored_experiment(uri, EXPERIMENT) is not None
    assert stored_experiment(uri, "another experiment") is None
    change(database, "UPDATE alembic_version SET version_num = 'another'")
    assert stored_experiment(uri, EXPERIMENT) is None


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "sqlite:////does/not/exist.db"])
def test_a_server_and_a_missing_file_are_left_to_mlflow(uri: str) -> None:
    assert stored_experiment(uri, EXPERIMENT) is None


def test_a_damaged_store_is_left_to_mlflow(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not this")
    assert stored_experiment(f"sqlite:///{tmp_path / 'mlflow.db'}", EXPERIMENT) is None


def test_a_store_that_breaks_while_it_is_read_is_one_line(stores: tuple[Tracking, Tracking], tmp_path: Path) -> None:
    database = copy(stores[0], tmp_path)
    change(database, "DROP TABLE model_versions")
    with pytest.raises(RegistryError, match="cannot be read"):
        StoredClient(database).search_model_versions()


def copy(tracking: Tracking, folder: Path) -> Path:
    database = folder / "mlflow.db"
    database.write_bytes(Path(tracking.uri.removeprefix("sqlite:///")).read_bytes())
    return database


def change(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as store, store:
        store.execute(statement)
