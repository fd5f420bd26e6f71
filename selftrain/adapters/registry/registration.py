"""Registration: one MLflow version per run key, which is looked up before it is made, and completed after a kill.

A version is made in four steps, and each can be repeated after a kill:

1. the model's record, found by its run key
2. the model's files
3. the version with all its tags, in one call
4. the alias `challenger`, with the mark that registering is done
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.registry.lineage_tags import lineage_tags
from selftrain.adapters.registry.versions import (
    CHALLENGER,
    CHAMPION,
    MODEL_DIGEST,
    RUN_KEY,
    Version,
    challenger,
    find,
    get_version,
    has_files,
)
from selftrain.adapters.serving.packaging import stage
from selftrain.adapters.tracking.runs import ensure_run, numbers
from selftrain.adapters.tracking.store import Tracking
from selftrain.config import Registry
from selftrain.errors import RegistryError
from selftrain.report.cards.head import without_head

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

    from selftrain.evaluate.evaluation import Report
    from selftrain.learn.detection.saving import DetectorContract
    from selftrain.learn.models.contract import Contract

DONE = "selftrain.registered"
LINK = "mlflow.modelVersions"  # MLflow's own pages follow it from a model to its versions
LONGEST_DESCRIPTION = 5000


def register(
    tracking: Tracking,
    *,
    model_folder: Path,
    contract: Contract | DetectorContract,
    report: Report | None,
    run_key: str,
    tags: Mapping[str, str],
    card: str,
    settings: Registry,
    run_id: str,
) -> Version:
    """The version of `run_key`: the one that is there, completed if a kill left it half-made, else a new one.

    `model_folder` is what `learn.models.saving.save` wrote. A new version gets `tags`, the numbers of `report`, the
    model card and the alias `challenger`. `run_id`, that of the pipeline run, ties it to that run's record in MLflow.
    Raises RegistryError when the run key belongs to a version of another model file.
    """
    name = settings.model_name
    _ensure_name(tracking, name)
    version = find(tracking, name=name, run_key=run_key)
    if version is not None and version.model_digest != contract.weights_sha256:
        raise RegistryError(
            f"{version.uri} was registered for run key {run_key!r} with the model {version.model_digest[:12]}, but "
            f"this model is {contract.weights_sha256[:12]}; a run key names one model: give this one another key"
        )
    if version is not None and DONE in version.tags and has_files(tracking, version.source):
        return version
    mlflow_run = ensure_run(tracking, run_id, name)
    logged = _ensure_model(tracking, name, run_key, mlflow_run)
    if version is not None and version.source != logged.artifact_location:
        raise RegistryError(f"{version.uri} has lost its model's record and files; delete that version and run again")
    if not has_files(tracking, logged.artifact_location) or logged.status != "READY":
        _upload(tracking, logged, model_folder=model_folder, contract=contract, card=card)
    if version is None:
        digests = {MODEL_DIGEST: contract.weights_sha256, **lineage_tags(contract)}
        all_tags = {**_numbers_as_tags(report), **tags, **digests, RUN_KEY: run_key}
        version = _new_version(tracking, name, logged, mlflow_run, tags=all_tags, card=card)
    return _finish(tracking, version, logged.model_id)


def _new_version(
    tracking: Tracking, name: str, logged: LoggedModel, mlflow_run: str, *, tags: Mapping[str, str], card: str
) -> Version:
    # With `models:/<id>` as source, or without the run, MLflow 3.17 would look in the process's global store.
    made = tracking.client.create_model_version(
        name,
        logged.artifact_location,
        run_id=mlflow_run,
        tags=dict(tags),
        description=_shortened(card),
        model_id=logged.model_id,
    )
    return get_version(tracking, name=name, number=int(made.version))


def _ensure_name(tracking: Tracking, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracking.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise RegistryError(f"MLflow refused the model name {name!r}: {error}") from error


def _ensure_model(tracking: Tracking, name: str, run_key: str, mlflow_run: str) -> LoggedModel:
    """The model's record of `run_key`, made if it is missing."""
    where = f"tags.`{RUN_KEY}` = '{run_key}' AND name = '{name}'"
    logged = tracking.client.search_logged_models([tracking.experiment_id], filter_string=where, max_results=1)
    if logged:
        return logged[0]
    return tracking.client.create_logged_model(
        tracking.experiment_id, name=name, source_run_id=mlflow_run, tags={RUN_KEY: run_key}
    )


def _upload(
    tracking: Tracking, logged: LoggedModel, *, model_folder: Path, contract: Contract | DetectorContract, card: str
) -> None:
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


def _numbers_as_tags(report: Report | None) -> dict[str, str]:
    return {} if report is None else {key: f"{value:.6g}" for key, value in numbers(report, "selftrain.test_").items()}


def _shortened(card: str) -> str:
    card = without_head(card)
    if len(card) <= LONGEST_DESCRIPTION:
        return card
    note = "\n\n(the whole card is in model_card.md)"
    return card[: LONGEST_DESCRIPTION - len(note)] + note
