"""ZenML's embedded database, opened without ZenML: what this machine's runs and stacks are, in SQL and read-only.

ZenML takes seconds to load. Its local store is one SQLite file, whose schema has a version. A store of another version,
a server, or settings that only ZenML understands are not read here: then `embedded_database` gives None, and the caller
asks ZenML.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from selftrain.adapters.process.settings import zenml_folder

SCHEMA = "0.98.0"  # of ZenML 0.98; another may keep the same facts elsewhere
REPOSITORY = ".zen"
HARMLESS = frozenset(
    {
        "ZENML_ANALYTICS_OPT_IN",
        "ZENML_CONFIG_PATH",
        "ZENML_CUSTOM_SOURCE_ROOT",
        "ZENML_DEBUG",
        "ZENML_ENABLE_RICH_TRACEBACK",
        "ZENML_LOGGING_COLORS_DISABLED",
        "ZENML_LOGGING_VERBOSITY",
        "ZENML_PARAMETER_SIZE_THRESHOLD",
        "ZENML_SUPPRESS_LOGS",
    }
)
"""ZenML's variables that choose no store, project or stack; with any other set, ZenML is asked."""
UNREADABLE = (sqlite3.Error, OSError, LookupError, TypeError, ValueError)
T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class ZenMLDatabase:
    """The SQLite file of ZenML's local store, and the ids (32 hex digits) of the active project and stack in it."""

    path: Path
    project: str
    stack: str

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """The answer to one reading query. Raises an error of UNREADABLE."""
        with opened(self.path) as database:
            return database.execute(query, values).fetchall()

    def component_kinds(self) -> frozenset[str]:
        """The kinds of component that the active stack has, such as 'orchestrator'."""
        found = self.rows(
            "SELECT c.type FROM stack_composition s JOIN stack_component c ON c.id = s.component_id "
            "WHERE s.stack_id = ?",
            (self.stack,),
        )
        if not found:
            raise LookupError(f"the stack {self.stack} is not in {self.path}")
        return frozenset(kind for (kind,) in found)


def answered(question: Callable[[ZenMLDatabase], T]) -> T | None:
    """What `question` reads in the embedded database; None where only ZenML can answer it."""
    try:
        database = embedded_database()
        return question(database) if database is not None else None
    except UNREADABLE:
        return None


def embedded_database() -> ZenMLDatabase | None:
    """The database of ZenML's local store; None where ZenML has none yet, uses a server, or has another schema.

    Raises an error of UNREADABLE where a file of ZenML is not as expected.
    """
    config = zenml_folder() / "config.yaml"
    if not config.is_file() or any(name.startswith("ZENML_") and name not in HARMLESS for name in os.environ):
        return None
    settings = _yaml(config)
    kind, url = settings["store"]["type"], str(settings["store"]["url"])
    path = Path(url.removeprefix("sqlite:///"))
    if kind != "sql" or not url.startswith("sqlite:///") or not path.is_file():
        return None
    local = _repository_settings()
    project, stack = (local.get(key) or settings[key] for key in ("active_project_id", "active_stack_id"))
    with opened(path) as database:
        if database.execute("SELECT version_num FROM alembic_version").fetchall() != [(SCHEMA,)]:
            return None
        found = database.execute("SELECT 1 FROM project WHERE id = ?", (UUID(project).hex,)).fetchall()
    return ZenMLDatabase(path, UUID(project).hex, UUID(stack).hex) if found else None


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The SQLite file `path`, for reading only."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        yield database


def _repository_settings() -> dict[str, Any]:
    """What the nearest `.zen` folder, from here upwards, says about the active project and stack."""
    here = Path.cwd()
    folder = next((each / REPOSITORY for each in (here, *here.parents) if (each / REPOSITORY).is_dir()), None)
    return _yaml(folder / "config.yaml") if folder is not None and (folder / "config.yaml").is_file() else {}


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML") from error
