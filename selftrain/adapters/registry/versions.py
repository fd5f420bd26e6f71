"""Versions: what the model registry holds, each pinned by its number, with its aliases and its files."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from selftrain.adapters.registry.lineage_tags import IDENTITY, descent
from selftrain.adapters.tracking.store import Tracking, quiet
from selftrain.adapters.tracking.stored_registry import MISSING
from selftrain.errors import NotRegisteredError, RegistryError
from selftrain.selflabel.lineage.descent import Descent

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.store.entities import PagedList

CHALLENGER, CHAMPION = "challenger", "champion"
RUN_KEY, MODEL_DIGEST = "selftrain.run_key", "selftrain.model_digest"
MODEL_ARTIFACT = "artifacts/model"
T = TypeVar("T")


@dataclass(frozen=True)
class Version:
    """One registered version, pinned by its number; `model_digest` is the sha256 of its weights file."""

    name: str
    number: int
    run_key: str
    model_digest: str
    source: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """The address `mlflow.pyfunc.load_model` takes.

        >>> Version("digits", 3, "", "", "", {}, ()).uri
        'models:/digits/3'
        """
        return f"models:/{self.name}/{self.number}"

    @property
    def identity(self) -> str:
        """The name of the version's model as a teacher; empty unless selftrain registered it."""
        return self.tags.get(IDENTITY, self.model_digest)

    @property
    def descent(self) -> Descent:
        """Who taught the version's model, as its tags say."""
        return descent(self.tags, self.model_digest)


def find(tracking: Tracking, *, name: str, run_key: str) -> Version | None:
    """The version of the model `name` with the tag `run_key`, or None; the first if there are two."""
    same = [version for version in versions(tracking, name) if version.run_key == run_key]
    return same[0] if same else None


@contextmanager
def answering(tracking: Tracking) -> Iterator[None]:
    """Turn an error that MLflow raises in the block into a RegistryError: the registry does not answer."""
    try:
        yield
    except Exception as error:
        if not _is_mlflows(error):
            raise
        raise RegistryError(f"the registry at {tracking.uri} does not answer: {error}") from error


def registered_model(tracking: Tracking, name: str) -> RegisteredModel | None:
    """The registered model called `name`, or None. Raises RegistryError where the registry does not answer."""
    try:
        return tracking.client.get_registered_model(name)
    except Exception as error:
        if not _is_mlflows(error):
            raise
        if error.error_code == MISSING:  # type: ignore[attr-defined]  # MlflowException or our MissingError
            return None
        raise RegistryError(f"the registry does not answer for the model {name!r}: {error}") from error


def _is_mlflows(error: Exception) -> bool:
    """Whether MLflow raised `error`, told without its classes: to import them takes seconds."""
    return hasattr(error, "error_code")


def versions(tracking: Tracking, name: str) -> list[Version]:
    """All versions of the model `name`, by number; empty where the model is unknown."""
    aliases = _aliases(tracking, name)
    listed: list[ModelVersion] = all_pages(tracking, partial(tracking.client.search_model_versions, f"name = '{name}'"))
    return sorted((_version(one, aliases) for one in listed), key=lambda version: version.number)


def names(tracking: Tracking, where: str | None = None) -> list[str]:
    """The names of all registered models, or of those that MLflow's filter `where` lets through."""
    return [model.name for model in _models(tracking, where)]


def all_versions(tracking: Tracking) -> list[Version]:
    """Every version of every registered model, by name and number."""
    aliases = {model.name: _as_text(model.aliases) for model in _models(tracking)}
    listed: list[ModelVersion] = all_pages(tracking, tracking.client.search_model_versions)
    every = [_version(one, aliases.get(one.name, {})) for one in listed]
    return sorted(every, key=lambda version: (version.name, version.number))


def get_version(tracking: Tracking, *, name: str, number: int) -> Version:
    """Version `number` of the model `name`; raises NotRegisteredError, which lists the existing versions."""
    every = versions(tracking, name)
    for version in every:
        if version.number == number:
            return version
    numbers = ", ".join(str(version.number) for version in every) or "none"
    raise NotRegisteredError(f"{name!r} has no version {number}; there are: {numbers}")


def champion(tracking: Tracking, name: str) -> Version | None:
    """The champion of the model `name`, pinned by its number, or None; the alias may move while you use it."""
    return _aliased(tracking, name, CHAMPION)


def champion_number(tracking: Tracking, name: str) -> int | None:
    """The number of the champion of the model `name`, or None; one query, for who asks often."""
    number = _aliases(tracking, name).get(CHAMPION)
    return int(number) if number is not None else None


def challenger(tracking: Tracking, name: str) -> Version | None:
    """The newest registered version that is not (yet) the champion, or None."""
    return _aliased(tracking, name, CHALLENGER)


def load_model_folder(tracking: Tracking, version: Version, *, cache: Path) -> Path:
    """The saved model folder (`.keras` and contract) of `version`, fetched once into `cache`.

    `learn.models.loading.load` reads it and checks its digest. Raises RegistryError when the files are gone.
    """
    target = cache / cached_name(version)
    if target.is_dir():
        return target
    if not has_files(tracking, version.source):
        raise RegistryError(
            f"{version.uri} is in the registry but its files under {version.source} are gone; "
            "run the same configuration again to restore them, or promote another version"
        )
    from mlflow.artifacts import download_artifacts

    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary, quiet():
        fetched = download_artifacts(
            f"{version.source}/{MODEL_ARTIFACT}", dst_path=temporary, tracking_uri=tracking.uri
        )
        try:
            Path(fetched).rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target


def cached_name(version: Version) -> str:
    """The name of the folder that `load_model_folder` keeps the files of `version` in."""
    which = hashlib.sha256(f"{version.run_key} {version.model_digest} {version.source}".encode()).hexdigest()[:12]
    return f"{version.name}-{version.number}-{which}"


def has_files(tracking: Tracking, source: str) -> bool:
    """Whether the files of the model at `source` exist: a wiped artifact store leaves only the model's record."""
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return len(list_artifacts(f"{source}/{MODEL_ARTIFACT}", tracking_uri=tracking.uri)) > 1
    except (MlflowException, OSError):
        return False


def _aliased(tracking: Tracking, name: str, alias: str) -> Version | None:
    number = _aliases(tracking, name).get(alias)
    return get_version(tracking, name=name, number=int(number)) if number is not None else None


def _aliases(tracking: Tracking, name: str) -> dict[str, str]:
    model = registered_model(tracking, name)
    return _as_text(model.aliases) if model is not None else {}


def _as_text(aliases: Mapping[str, str | int]) -> dict[str, str]:
    """Each alias and its version's number as text; some stores give an int."""
    return {alias: str(number) for alias, number in aliases.items()}


def _models(tracking: Tracking, where: str | None = None) -> list[RegisteredModel]:
    return all_pages(tracking, partial(tracking.client.search_registered_models, where))


def all_pages(tracking: Tracking, search: Callable[..., PagedList[T]]) -> list[T]:
    """All pages that `search` answers, as one list."""
    with answering(tracking):
        page = search()
        items = list(page)
        while page.token:
            page = search(page_token=page.token)
            items += page
    return items


def _version(made: ModelVersion, aliases: Mapping[str, str]) -> Version:
    return Version(
        name=made.name,
        number=int(made.version),
        run_key=made.tags.get(RUN_KEY, ""),
        model_digest=made.tags.get(MODEL_DIGEST, ""),
        source=made.source,
        tags=dict(made.tags),
        aliases=tuple(sorted(alias for alias, number in aliases.items() if number == str(made.version))),
    )
