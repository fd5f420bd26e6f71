"""The model registry: one MLflow version a run key, found again before one is made, whole or completed.

A version is made in four steps that can each be repeated after a kill: the model's record (found by its run key), its
files, the version with all its tags in one call, the alias `challenger` with the mark that registering is done.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.lineage_tags import IDENTITY, descent, lineage_tags
from selftrain.adapters.packaging import stage
from selftrain.adapters.tracking import Tracking, ensure_run, numbers, quiet
from selftrain.config import Registry
from selftrain.errors import NotRegisteredError, RegistryError
from selftrain.selflabel.lineage import Descent

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from selftrain.evaluate.evaluation import EvaluationReport
    from selftrain.learn.contract import Contract

CHALLENGER, CHAMPION = "challenger", "champion"
RUN_KEY, MODEL_DIGEST, DONE = "selftrain.run_key", "selftrain.model_digest", "selftrain.registered"
LINK = "mlflow.modelVersions"  # by which MLflow's own pages go from a model to its versions
MODEL_ARTIFACT = "artifacts/model"
LONGEST_DESCRIPTION = 5000


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
        """What the version's model is known by as a teacher; empty for one that other means registered."""
        return self.tags.get(IDENTITY, self.model_digest)

    @property
    def descent(self) -> Descent:
        """Who taught the version's model, as its tags say."""
        return descent(self.tags, self.model_digest)


def register(
    tracking: Tracking,
    *,
    model_folder: Path,
    contract: Contract,
    report: EvaluationReport | None,
    run_key: str,
    tags: Mapping[str, str],
    card: str,
    settings: Registry,
    run_id: str,
) -> Version:
    """The version of `run_key`: the one that is there, completed if a kill left it half-made, else a new one.

    `model_folder` is what `selftrain.learn.contract.save` wrote. A new version gets `tags`, the numbers of `report`,
    the model card and the alias `challenger`; `run_id` (the pipeline run's) ties it to that run's record in MLflow.
    Raises RegistryError when the run key belongs to a version of another model file.
    """
    name = settings.model_name
    _ensure_name(tracking, name)
    found = find(tracking, name=name, run_key=run_key)
    if found is not None and found.model_digest != contract.weights_sha256:
        raise RegistryError(
            f"{found.uri} was registered for run key {run_key!r} with the model {found.model_digest[:12]}, and now "
            f"{contract.weights_sha256[:12]} came; a run key names one model: give this one another key"
        )
    if found is not None and DONE in found.tags and _has_files(tracking, found.source):
        return found
    mlflow_run = ensure_run(tracking, run_id, name)
    logged = _ensure_model(tracking, name, run_key, mlflow_run)
    if found is not None and found.source != logged.artifact_location:
        raise RegistryError(f"{found.uri} has lost its model's record and files; delete that version and run again")
    if not _has_files(tracking, logged.artifact_location) or logged.status != "READY":
        _upload(tracking, logged, model_folder=model_folder, contract=contract, card=card)
    if found is None:
        digests = {MODEL_DIGEST: contract.weights_sha256, **lineage_tags(contract)}
        everything = {**_numbers_as_tags(report), **tags, **digests, RUN_KEY: run_key}
        # Not `models:/<id>`, nor without the run: MLflow 3.17 would look in the process's global store, not this one.
        made = tracking.client.create_model_version(
            name,
            logged.artifact_location,
            run_id=mlflow_run,
            tags=everything,
            description=_shortened(card),
            model_id=logged.model_id,
        )
        found = _version(tracking, made)
    return _finish(tracking, found, logged.model_id)


def find(tracking: Tracking, *, name: str, run_key: str) -> Version | None:
    """The version of the model `name` with the tag `run_key`, or None; the first one should there be two."""
    same = [version for version in versions(tracking, name) if version.run_key == run_key]
    return same[0] if same else None


def versions(tracking: Tracking, name: str) -> list[Version]:
    """All versions of the model `name`, by number; none when there is no such model."""
    aliases = _aliases(tracking, name)
    listed: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = tracking.client.search_model_versions(f"name = '{name}'", page_token=token)
        listed += page
        token = page.token
        if not token:
            break
    return sorted((_version(tracking, one, aliases) for one in listed), key=lambda version: version.number)


def names(tracking: Tracking, where: str | None = None) -> list[str]:
    """The names of all registered models, or of those that MLflow's filter `where` lets through."""
    from mlflow.exceptions import MlflowException

    found: list[str] = []
    token: str | None = None
    try:
        while True:
            page = tracking.client.search_registered_models(where, page_token=token)
            found += [str(model.name) for model in page]
            token = page.token
            if not token:
                return found
    except MlflowException as error:
        raise RegistryError(f"the registry at {tracking.uri} does not answer: {error}") from error


def all_versions(tracking: Tracking) -> list[Version]:
    """Every version of every registered model, by name and number."""
    return [version for name in names(tracking) for version in versions(tracking, name)]


def get_version(tracking: Tracking, *, name: str, number: int) -> Version:
    """Version `number` of the model `name`; raises NotRegisteredError naming the versions there are."""
    there = versions(tracking, name)
    for version in there:
        if version.number == number:
            return version
    known = ", ".join(str(version.number) for version in there) or "none"
    raise NotRegisteredError(f"{name!r} has no version {number}; there are: {known}")


def champion(tracking: Tracking, name: str) -> Version | None:
    """The champion of the model `name`, resolved once to its number, or None; use its `uri` from here on."""
    return _aliased(tracking, name, CHAMPION)


def challenger(tracking: Tracking, name: str) -> Version | None:
    """The newest registered version that is not (yet) the champion, or None."""
    return _aliased(tracking, name, CHALLENGER)


def load_model_folder(tracking: Tracking, version: Version, *, cache: Path) -> Path:
    """The saved model folder (`.keras` and contract) of `version`, fetched once into `cache`.

    `selftrain.learn.contract.load` reads it and checks its digest. Raises RegistryError when the files are gone.
    """
    which = hashlib.sha256(f"{version.run_key} {version.model_digest} {version.source}".encode()).hexdigest()[:12]
    target = cache / f"{version.name}-{version.number}-{which}"
    if target.is_dir():
        return target
    if not _has_files(tracking, version.source):
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


def _ensure_name(tracking: Tracking, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracking.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise RegistryError(f"MLflow refused the model name {name!r}: {error}") from error


def _ensure_model(tracking: Tracking, name: str, run_key: str, mlflow_run: str) -> LoggedModel:
    """The model's record of `run_key`, made if there is none."""
    where = f"tags.`{RUN_KEY}` = '{run_key}' AND name = '{name}'"
    there = tracking.client.search_logged_models([tracking.experiment_id], filter_string=where, max_results=1)
    if there:
        return there[0]
    return tracking.client.create_logged_model(
        tracking.experiment_id, name=name, source_run_id=mlflow_run, tags={RUN_KEY: run_key}
    )


def _upload(tracking: Tracking, logged: LoggedModel, *, model_folder: Path, contract: Contract, card: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "served"
        stage(
            folder,
            model_folder=model_folder,
            contract=contract,
            card=card,
            model_id=logged.model_id,
            mlflow_run=logged.source_run_id,
        )
        tracking.client.log_model_artifacts(logged.model_id, str(folder))
    tracking.client.finalize_logged_model(logged.model_id, "READY")


def _finish(tracking: Tracking, version: Version, model_id: str) -> Version:
    """Give `version` the alias `challenger`, unless a newer one has it or it is champion, and mark it done."""
    link = json.dumps([{"name": version.name, "version": str(version.number)}])
    tracking.client.set_logged_model_tags(model_id, {LINK: link})
    present = challenger(tracking, version.name)
    newest = present is None or present.number <= version.number
    if newest and CHAMPION not in version.aliases:
        tracking.client.set_registered_model_alias(version.name, CHALLENGER, str(version.number))
    tracking.client.set_model_version_tag(version.name, str(version.number), DONE, "true")
    return get_version(tracking, name=version.name, number=version.number)


def _has_files(tracking: Tracking, source: str) -> bool:
    """Whether a model's files are there: a wiped artifact store leaves only its record."""
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
    from mlflow.exceptions import MlflowException

    try:
        return {alias: str(number) for alias, number in tracking.client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise RegistryError(f"the registry does not answer for the model {name!r}: {error}") from error


def _version(tracking: Tracking, made: ModelVersion, aliases: Mapping[str, str] | None = None) -> Version:
    known = _aliases(tracking, made.name) if aliases is None else aliases
    return Version(
        name=made.name,
        number=int(made.version),
        run_key=made.tags.get(RUN_KEY, ""),
        model_digest=made.tags.get(MODEL_DIGEST, ""),
        source=made.source,
        tags=dict(made.tags),
        aliases=tuple(sorted(alias for alias, number in known.items() if number == str(made.version))),
    )


def _numbers_as_tags(report: EvaluationReport | None) -> dict[str, str]:
    return {} if report is None else {key: f"{value:.6g}" for key, value in numbers(report, "selftrain.test_").items()}


def _shortened(card: str) -> str:
    if len(card) <= LONGEST_DESCRIPTION:
        return card
    note = "\n\n(the whole card is in model_card.md)"
    return card[: LONGEST_DESCRIPTION - len(note)] + note
