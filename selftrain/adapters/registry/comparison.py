"""Side by side: two models on the same test images, as `selftrain compare` shows them. No alias is read or moved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry import recall_log, versions
from selftrain.adapters.registry.champions import current_user
from selftrain.adapters.registry.references import OpenRegistry, find_version, open_registry
from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.config import Place
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset, open_dataset
from selftrain.errors import InputError, SourceError
from selftrain.evaluate.detail import DetailedComparison
from selftrain.learn.detection.saving import SavedDetector, holds_detector
from selftrain.learn.models.contract import SavedModel

DATASET = "selftrain.dataset"


class ModelReference(BaseModel):
    """A model that a user named: a registered version or a folder.

    `dataset` is the one that the version names; `concern` is any reason not to trust the model.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    saved: SavedModel
    called: str
    dataset: str | None = None
    concern: str | None = None


class DetectorReference(BaseModel):
    """A detector that a user named; the fields are those of ModelReference."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    saved: SavedDetector
    called: str
    dataset: str | None = None
    concern: str | None = None


class SideBySide(BaseModel):
    """`model` against `reference`, by name, on the `images` of a test set that had `test_looks` evaluations so far."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: str
    reference: str
    dataset: str
    images: int
    test_looks: int
    accuracy: float
    comparison: DetailedComparison


def find_model(reference: str, *, workspace: Path, model_name: str | None = None) -> ModelReference | DetectorReference:
    """The saved model that `reference` names: a folder, a version's number, an alias, or a `models:/` address.

    Nothing of it is loaded yet. Raises RegistryError and UntrustedFileError.
    """
    named = reference.isdecimal() or reference in (versions.CHAMPION, versions.CHALLENGER)
    if not named and Path(reference).is_dir():
        found = _read(Path(reference))
        concern = recall_log.concern_about_file(recall_log.descent_of(found.contract), reference, workspace)
        return _referred(found, reference, None, concern)
    opened, version = find_version(reference, workspace=workspace, model_name=model_name)
    folder = versions.load_model_folder(opened.tracking, version, cache=opened.cache)
    concern = recall_log.recalled(opened.tracking).concern(version.descent, version.uri)
    return _referred(_read(folder), version.uri, version.tags.get(DATASET), concern)


def _read(folder: Path) -> SavedModel | SavedDetector:
    return SavedDetector.read(folder) if holds_detector(folder) else SavedModel.read(folder)


def _referred(
    saved: SavedModel | SavedDetector, called: str, dataset: str | None, concern: str | None
) -> ModelReference | DetectorReference:
    if isinstance(saved, SavedDetector):
        return DetectorReference(saved=saved, called=called, dataset=dataset, concern=concern)
    return ModelReference(saved=saved, called=called, dataset=dataset, concern=concern)


def _classifier(reference: str, workspace: Path, model_name: str | None) -> ModelReference:
    found = find_model(reference, workspace=workspace, model_name=model_name)
    if isinstance(found, DetectorReference):
        raise InputError(
            f"{found.called} is a detector, and `selftrain compare` knows classifiers; `selftrain run` compares a new "
            "detector with the champion on the same test images"
        )
    return found


def opened_dataset(
    models: Sequence[ModelReference | DetectorReference], *, workspace: Path, dataset: str | None = None
) -> Dataset | None:
    """The data set `dataset`, else the one that the `models` were registered from; None where none is known or here."""
    names = {dataset} if dataset else {each.dataset for each in models if each.dataset}
    if len(names) > 1:
        raise InputError(f"the models are of the data sets {', '.join(sorted(map(str, names)))}; name one: --dataset")
    name = next(iter(names), None)
    if name is None or not (workspace / "datasets" / name).is_dir():
        return None
    return open_dataset(Place(workspace=str(workspace), dataset=name))


def compare_models(
    first: str, second: str, *, workspace: Path, model_name: str | None = None, dataset: str | None = None
) -> SideBySide:
    """The model `first` against `second`, on the test images that their data set has now.

    Each is counted as evaluated on them before it is. Raises InputError where their classes differ from the data set's,
    and SourceError where the data set is not in the workspace.
    """
    models = tuple(_classifier(each, workspace, model_name) for each in (first, second))
    data = opened_dataset(models, workspace=workspace, dataset=dataset)
    if data is None or not data.store.manifest_path.is_file():
        raise SourceError(f"{workspace} holds no data set of these models; name one: --dataset, or give --workspace")
    manifest = Manifest.read(data.store.manifest_path)
    for each in models:
        _check_classes(each, manifest)
    return _compared(models, manifest, data, open_registry(workspace, model_name or _name(models)))


def _compared(
    models: tuple[ModelReference, ...], manifest: Manifest, data: Dataset, opened: OpenRegistry
) -> SideBySide:
    start_keras()
    from selftrain.selflabel.teaching.evaluation_count import count_evaluations
    from selftrain.selflabel.teaching.task import TaskData, task_of

    model, reference = models
    log = TrackedEvaluations(opened.tracking, f"compared by {current_user()}")
    looks = count_evaluations(log, manifest, (model.saved, reference.saved))
    task = task_of("classification")
    found = task.compare_on_test(TaskData(manifest, data), model.saved, reference.saved)
    return SideBySide(
        model=model.called,
        reference=reference.called,
        dataset=data.name,
        images=len(manifest.rows(Split.TEST)),
        test_looks=looks,
        accuracy=found.overall.reference + found.overall.difference,
        comparison=found,
    )


def _name(models: tuple[ModelReference, ...]) -> str | None:
    """The registered name of either model; None where both are folders."""
    named = (each.called.split("/")[1] for each in models if each.called.startswith("models:/"))
    return next(named, None)


def _check_classes(model: ModelReference, manifest: Manifest) -> None:
    names, wanted = model.saved.contract.class_names, manifest.label_map.names
    if names != wanted:
        raise InputError(
            f"the classes of {model.called} are {', '.join(names[:10])}, those of the data set "
            f"{', '.join(wanted[:10])}; compare models of the same classes"
        )
