"""Starting models: the teacher and the weights files that a run starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.config import CocoSource, Experiment, Recipe, Registry, Student, Teacher
from selftrain.errors import ConfigError, RegistryError, SourceError
from selftrain.files.workspace import Workspace
from selftrain.selflabel.graph.spaces import Spaces, spaces_of

if TYPE_CHECKING:
    from selftrain.adapters.registry.versions import Version
    from selftrain.adapters.tracking.store import Tracking
    from selftrain.learn.detection.saving import SavedDetector
    from selftrain.learn.models.contract import SavedModel
    from selftrain.learn.models.zero_shot import ZeroShot

Saved = TypeVar("Saved", "SavedModel", "SavedDetector")
UInt8s = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def teacher_backbone(e: Experiment, workspace: Workspace) -> str:
    """The network of the first teacher: the one to train, or that of the model that `teacher.start` names.

    Raises SourceError or RegistryError for a missing model, WithdrawnError as `starting_teacher` does, and
    BackboneError for a preset of KerasHub that is not there, the student's included.
    """
    _check_presets(e)
    if e.teacher.start == "train":
        return e.teacher.backbone
    if e.teacher.start == "zero_shot":
        return _made_of(e.teacher).backbone
    from selftrain.learn.adoption.formats import name_of

    return name_of(_located(e.teacher.start, workspace, e.registry, e.retrain.from_version))


def retraining_of(e: Experiment) -> Experiment:
    """`e` as a retraining runs it: from the champion, where there is one that knows the classes of the data."""
    from selftrain.adapters.registry.versions import get_version, load_model_folder
    from selftrain.retraining.journal import journal_of, unfinished_start
    from selftrain.retraining.start import from_champion

    workspace = Workspace(Path(e.workspace)).ensure()
    tracking, present = _champion(workspace, e.registry)
    if present is None:
        return e
    killed = unfinished_start(journal_of(workspace, e.name).lines())
    number = killed.facts.get("from_version") if killed else present.number
    if number is None:  # the killed one trained a teacher, and so does this one
        return e
    first = get_version(tracking, name=present.name, number=number)
    folder = load_model_folder(tracking, first, cache=workspace.models)
    return from_champion(e, number) if _can_go_on(folder, e) else e


def _can_go_on(folder: Path, e: Experiment) -> bool:
    """Whether the model in `folder` knows the classes of the data of `e`; a detector, with the network of `e` too."""
    from selftrain.data.sources.source import open_source
    from selftrain.learn.detection.saving import SavedDetector, holds_detector
    from selftrain.learn.models.contract import read_contract

    if holds_detector(folder) != isinstance(e.source, CocoSource):
        return False  # a model of another task has this name
    if isinstance(e.source, CocoSource):
        from selftrain.data.sources.coco import CocoImages

        contract = SavedDetector.read(folder).contract
        _, labelled = CocoImages(e.source).labelled[0]
        return contract.class_names == labelled.label_map.names and contract.backbone in e.detection.networks
    source = open_source(e.source)
    return read_contract(folder).class_names == source.class_names(source.scan())


def starting_detector(
    start: str, *, workspace: Workspace, settings: Registry, class_names: tuple[str, ...], version: int | None = None
) -> SavedDetector:
    """The first teacher of a detector's run that does not train one: the champion, or a saved detector's folder.

    Raises SourceError for a model that is not a detector of these classes, RegistryError without a champion, and
    WithdrawnError for one that was withdrawn, or taught by one that was.
    """
    from selftrain.learn.detection.saving import SavedDetector, holds_detector

    path = _located(start, workspace, settings, version)
    if not holds_detector(path):
        raise SourceError(
            f"teacher.start is {start!r}, which is not a saved detector; give 'train', 'champion' or its folder"
        )
    return _of_classes(SavedDetector.read(path), class_names)


def starting_teacher(
    teacher: Teacher,
    *,
    workspace: Workspace,
    settings: Registry,
    class_names: tuple[str, ...],
    image_size: int,
    version: int | None = None,
    labeled: Callable[[int], tuple[UInt8s, Ints]] | None = None,
    bits: int | None = None,
) -> SavedModel:
    """The first teacher of a run that does not train one, as `teacher.start` says.

    It is the champion, one that the user brings, a saved model's folder, or a zero-shot model, which is built here. One
    that the user brings is asked how it reads images, on `labeled` ones of a side in pixels; PredictionError is raised
    as `adopt` does. `bits` is how the run reads grey pictures of 16 bits. UntrustedFileError is raised for one of a
    Format that only answers.
    Raises WithdrawnError for a teacher that was withdrawn, or taught by one that was.
    """
    from selftrain.learn.adoption.adopt import Known, adopt, size_of
    from selftrain.learn.adoption.formats import digest_of, is_brought, name_of
    from selftrain.learn.adoption.preparation import PLAIN
    from selftrain.learn.models.contract import CONTRACT_FILE, SavedModel
    from selftrain.learn.models.saving import save

    start = teacher.start
    if start == "zero_shot":
        return _zero_shot(teacher, workspace, class_names=class_names, image_size=image_size, bits=bits)
    path = _located(start, workspace, settings, version)
    if path.is_dir() and not is_brought(path):
        return _of_bits(_of_classes(SavedModel.read(path), class_names), bits)
    name_of(path)  # a format that only labels is refused here
    known = Known(pixels=teacher.pixels, size=size_of(teacher.image_size), labeled=labeled)
    model, contract = adopt(path, class_names=class_names, image_size=image_size, known=known)
    # Kept by the file's digest: a second save would have another digest, and every later step would run again.
    name = f"{digest_of(path)[:24]}-{teacher.image_size or image_size}{_suffix(bits)}"
    read = contract.brought.pixels if contract.brought is not None else PLAIN
    folder = workspace.models / (name if read == PLAIN else f"{name}-{read.replace(' ', '-').replace('..', '-')}")
    if not (folder / CONTRACT_FILE).is_file():
        save(model, contract.model_copy(update={"bits": bits}), folder)
    _refuse_withdrawn(folder, start, workspace)  # the same model may be recalled as another file
    return _of_classes(SavedModel.read(folder), class_names)


def _suffix(bits: int | None) -> str:
    return "" if bits is None else f"-bits{bits}"


def _of_bits(saved: SavedModel, bits: int | None) -> SavedModel:
    """`saved`. Raises ConfigError where it was trained to read grey pictures of 16 bits in another way."""
    if saved.contract.bits is not None and saved.contract.bits != (bits or 16):
        raise ConfigError(
            f"the teacher in {saved.folder} was trained on grey pictures of {saved.contract.bits} bits, this run reads "
            f"them as {bits or 16}: set ingest.bits to {saved.contract.bits}, or train a teacher"
        )
    return saved


def _zero_shot(
    teacher: Teacher, workspace: Workspace, *, class_names: tuple[str, ...], image_size: int, bits: int | None
) -> SavedModel:
    """The zero-shot model of `class_names`, kept by what it was made of."""
    from selftrain.learn.models.contract import CONTRACT_FILE, SavedModel
    from selftrain.learn.models.zero_shot import save_zero_shot

    made_of = _made_of(teacher)
    folder = workspace.models / f"{made_of.digest(class_names)[:24]}-{image_size}{_suffix(bits)}"
    if not (folder / CONTRACT_FILE).is_file():
        save_zero_shot(made_of, class_names=class_names, folder=folder, image_size=image_size, bits=bits)
    _refuse_withdrawn(folder, teacher.start, workspace)
    return SavedModel.read(folder)


def _made_of(teacher: Teacher) -> ZeroShot:
    from selftrain.learn.models.zero_shot import ZeroShot

    return ZeroShot(str(teacher.preset), teacher.prompts, teacher.called)


def _check_presets(e: Experiment) -> None:
    """Raise BackboneError for a preset of KerasHub that is not there. A handle is only checked when it is fetched."""
    presets = [e.teacher.preset, *(recipe.frozen_preset for recipe in (e.teacher, e.student))]
    for preset in filter(None, presets):
        start_keras()
        from selftrain.learn.foundation.presets import located

        located(preset)


def described_start(teacher: Teacher, *, workspace: Workspace, settings: Registry) -> str:
    """`teacher.start` with what it names now: the champion's version and digest, or what identifies the file."""
    start = teacher.start
    if start == "train":
        return start
    if start == "zero_shot":
        from selftrain.learn.foundation.presets import content

        return f"{start} {content(str(teacher.preset))}"
    if start != "champion":
        return f"{start} {_content(Path(start))}"
    _, present = _champion(workspace, settings)
    return f"{start} {present.number} {present.model_digest}" if present else f"{start} none"


def described_weights(recipe: Recipe) -> str | None:
    """The `weights` of `recipe`, with the sha256 of a file, or what identifies its preset of KerasHub."""
    if (preset := recipe.frozen_preset) is not None:
        from selftrain.learn.foundation.presets import content

        return f"{recipe.backbone} {content(preset)}"
    return described_file(recipe.weights)


def described_file(weights: str | None) -> str | None:
    """`weights`, with the sha256 of a file; None for none."""
    return None if weights is None else _described(weights)


def _described(weights: str) -> str:
    return weights if weights == "imagenet" else f"{weights} {_content(Path(weights))}"


def described_spaces(e: Experiment, student: Student, backbone: str) -> Spaces:
    """The feature spaces of a round (`spaces_of`), with what identifies their weights or presets."""
    found = spaces_of(e, student, backbone).networks
    recipes = [Recipe(backbone=each.backbone, weights=each.weights, head="fitted", steps=0) for each in found]
    described = [described_weights(recipe) or "" for recipe in recipes]
    named = [each.model_copy(update={"content": content}) for each, content in zip(found, described, strict=True)]
    return Spaces(networks=tuple(named))


def _located(start: str, workspace: Workspace, settings: Registry, number: int | None = None) -> Path:
    """What `start` names: the user's own model, or a saved model's folder; the champion is fetched."""
    from selftrain.learn.models.contract import CONTRACT_FILE, MODEL_FILE

    if start != "champion":
        if not Path(start).exists():
            raise SourceError(
                f"teacher.start is {start!r}, which does not exist; give 'train', 'champion', 'zero_shot', a .keras or "
                ".h5 file or a folder"
            )
        path = Path(start)
        saved = path.name == MODEL_FILE and (path.parent / CONTRACT_FILE).is_file()
        path = path.parent if saved else path  # the contract beside it says who taught the model
        _refuse_withdrawn(path, start, workspace)
        return path
    from selftrain.adapters.registry import recall_log
    from selftrain.adapters.registry.versions import get_version, load_model_folder

    tracking, version = _champion(workspace, settings)
    if number is not None:
        version = get_version(tracking, name=settings.model_name, number=number)
    if version is None:
        raise RegistryError(
            f"teacher.start is 'champion', but {settings.model_name!r} has none; run once with 'train', or promote"
        )
    called = f"teacher.start is 'champion', and {version.uri}"
    recall_log.recalled(tracking).refuse(version.descent, called, advice=recall_log.ANOTHER_START)
    return load_model_folder(tracking, version, cache=workspace.models)


def _champion(workspace: Workspace, settings: Registry) -> tuple[Tracking, Version | None]:
    """The registry, which is only opened here, and its champion."""
    from selftrain.adapters.registry.versions import champion
    from selftrain.adapters.tracking.store import open_tracking

    tracking = open_tracking(workspace.root)
    return tracking, champion(tracking, settings.model_name)


def _refuse_withdrawn(path: Path, start: str, workspace: Workspace) -> None:
    from selftrain.adapters.registry import recall_log

    called = f"teacher.start is {start!r}, and the model there"
    model = recall_log.descent_at(path)
    recall_log.refuse_file(model, called, workspace.root, advice=recall_log.ANOTHER_FOLDER)


def _of_classes(model: Saved, class_names: tuple[str, ...]) -> Saved:
    """`model`, if it knows exactly these classes in this order. Any other would label wrongly."""
    if model.contract.class_names != class_names:
        raise SourceError(
            f"the teacher knows the classes {', '.join(model.contract.class_names)}, but the data has "
            f"{', '.join(class_names)}; both must be the same, in the same order. Train a teacher, or name another"
        )
    return model


def _content(path: Path) -> str:
    """sha256 of a user's model, or of a saved model's contract, which holds its weights' sha256; else 'missing'."""
    from selftrain.learn.adoption.formats import digest_of, is_brought
    from selftrain.learn.models.contract import CONTRACT_FILE, file_digest

    if path.is_dir() and is_brought(path):
        return digest_of(path)
    file = path / CONTRACT_FILE if path.is_dir() else path
    return file_digest(file) if file.is_file() else "missing"
