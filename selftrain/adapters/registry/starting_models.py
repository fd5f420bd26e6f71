"""Brought along: the model and weights files that a run starts from - checked first, named for the cache, adopted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.config import Experiment, Place, Recipe, Registry
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import BackboneError, ConfigError, RegistryError, SourceError
from selftrain.ladder import resolve

if TYPE_CHECKING:
    from selftrain.learn.models.contract import SavedModel


def check(e: Experiment, place: Place) -> None:
    """Refuse, before anything is read or trained, what the run would stumble on after its teacher's work.

    Raises an error that names the key: a weights file or a teacher that is not there, or a teacher without a next rung
    (or one without published weights) where `student.backbone` names none.
    """
    teacher = e.teacher.backbone if e.teacher.start == "train" else _backbone(e.teacher.start, place, e.registry)
    if e.teacher.start == "train":
        _check_weights("teacher", e.teacher)
    if e.gate.max_rounds == 0:
        return
    _check_weights("student", e.student)
    try:
        student = e.student.backbone_after(teacher)
    except BackboneError as error:
        raise ConfigError(
            f"teacher.start is {e.teacher.start!r}, a model named {teacher!r}, which is on no ladder: there is no next "
            "rung; set student.backbone, such as 'efficientnet_b0'"
        ) from error
    if e.student.start == "teacher" and not _same(student, teacher):
        raise ConfigError(
            f"student.start is 'teacher', but student.backbone is {student!r} and teacher.start {e.teacher.start!r} a "
            f"{teacher!r}: a student goes on from a teacher of its own network alone; set student.start to "
            "'student' or 'new'"
        )
    if e.student.weights == "imagenet" and resolve(student).application is None:
        raise ConfigError(
            f"student.weights is 'imagenet', but {student!r}, the rung above {teacher!r}, has no published weights; "
            "set student.backbone to one that has, such as 'efficientnet_b0', or student.weights to null or a file"
        )


def _same(student: str, teacher: str) -> bool:
    """Whether two names are of one network that can be built; a model of one's own cannot."""
    try:
        return resolve(student) == resolve(teacher)
    except BackboneError:
        return False


def bring_teacher(
    start: str, *, place: Place, settings: Registry, class_names: tuple[str, ...], image_size: int
) -> SavedModel:
    """The first teacher that is not trained: 'champion', a `.keras` file, or a saved model's folder.

    Raises WithdrawnError for one that was withdrawn, or taught by one that was.
    """
    from selftrain.learn.models.contract import CONTRACT_FILE, SavedModel, file_digest
    from selftrain.learn.models.loading import adopt
    from selftrain.learn.models.saving import save

    path = _located(start, place, settings)
    if path.is_dir():
        return _of_classes(SavedModel.read(path), class_names)
    # Kept by the file's digest: saved anew, the same model would have another one, and all after it would run again.
    kept = open_dataset(place).workspace.models / f"{file_digest(path)[:24]}-{image_size}"
    if not (kept / CONTRACT_FILE).is_file():
        model, contract = adopt(path, class_names=class_names, image_size=image_size)
        save(model, contract, kept)
    _refuse_withdrawn(kept, start, place)  # what it holds, in whichever file
    return _of_classes(SavedModel.read(kept), class_names)


def described(start: str, *, place: Place, registry: Registry) -> str:
    """`teacher.start` with what it means now: the champion's version and digest, or the file's sha256."""
    if start == "train":
        return start
    if start != "champion":
        return f"{start} {_content(Path(start))}"
    from selftrain.adapters.registry.versions import champion
    from selftrain.adapters.tracking.store import open_tracking

    present = champion(open_tracking(open_dataset(place).workspace.root), registry.model_name)
    return f"{start} {present.number} {present.model_digest}" if present else f"{start} none"


def described_weights(weights: str | None) -> str | None:
    """A recipe's `weights`, with the file's sha256 where it is one."""
    return weights if weights in (None, "imagenet") else f"{weights} {_content(Path(weights))}"


def _located(start: str, place: Place, settings: Registry) -> Path:
    """The `.keras` file or the saved model's folder that `start` names; the champion's is fetched."""
    from selftrain.learn.models.contract import CONTRACT_FILE, MODEL_FILE

    if start != "champion":
        if not Path(start).exists():
            raise SourceError(
                f"teacher.start is {start!r}: no file; give 'train', 'champion', a .keras file or a folder"
            )
        path = Path(start)
        ours = path.name == MODEL_FILE and (path.parent / CONTRACT_FILE).is_file()
        path = path.parent if ours else path  # a saved model's file: its contract says who taught it
        _refuse_withdrawn(path, start, place)
        return path
    from selftrain.adapters.registry import recall_log
    from selftrain.adapters.registry.versions import champion, load_model_folder
    from selftrain.adapters.tracking.store import open_tracking

    workspace = open_dataset(place).workspace
    tracking = open_tracking(workspace.root)
    version = champion(tracking, settings.model_name)
    if version is None:
        raise RegistryError(
            f"teacher.start is 'champion', but {settings.model_name!r} has none; run once with 'train', or promote"
        )
    called = f"teacher.start is 'champion', and {version.uri}"
    recall_log.recalled(tracking).refuse(version.descent, called, advice=recall_log.ANOTHER_START)
    return load_model_folder(tracking, version, cache=workspace.models)


def _refuse_withdrawn(path: Path, start: str, place: Place) -> None:
    from selftrain.adapters.registry import recall_log

    called = f"teacher.start is {start!r}, and the model there"
    model = recall_log.descent_at(path)
    recall_log.refuse_given(model, called, Path(place.workspace), advice=recall_log.ANOTHER_FOLDER)


def _backbone(start: str, place: Place, settings: Registry) -> str:
    from selftrain.learn.models.loading import backbone_of

    return backbone_of(_located(start, place, settings))


def _check_weights(role: str, recipe: Recipe) -> None:
    if recipe.weights not in (None, "imagenet") and not Path(recipe.weights).is_file():
        raise ConfigError(
            f"{role}.weights is {recipe.weights!r}: no file; allowed: null, 'imagenet', or a weights file"
        )


def _of_classes(model: SavedModel, class_names: tuple[str, ...]) -> SavedModel:
    """`model`, if it knows exactly these classes in this order; a teacher of others would label wrongly, unseen."""
    if model.contract.class_names != class_names:
        raise SourceError(
            f"the teacher knows the classes {', '.join(model.contract.class_names)}, the data has "
            f"{', '.join(class_names)}; both must be the same, in the same order: train a teacher, or bring another"
        )
    return model


def _content(path: Path) -> str:
    """sha256 of a file, or of a saved model's contract, which holds that of its weights; 'missing' without either."""
    from selftrain.learn.models.contract import CONTRACT_FILE, file_digest

    file = path / CONTRACT_FILE if path.is_dir() else path
    return file_digest(file) if file.is_file() else "missing"
