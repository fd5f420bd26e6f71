"""Model references: a folder, a file or a registry address, and the model that it names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.registry import recall_log, versions
from selftrain.adapters.registry.versions import CHALLENGER, CHAMPION, Version
from selftrain.adapters.tracking.store import Tracking, open_existing, open_to_read
from selftrain.config import check_model_name
from selftrain.errors import ConfigError, NotRegisteredError, RegistryError
from selftrain.files.workspace import Workspace
from selftrain.learn.adoption.adopt import NOTHING_KNOWN, Known, adopt
from selftrain.learn.adoption.formats import ANY_SIDE, NAMED, digest_of, is_brought, refuse_other, side_of
from selftrain.learn.detection.saving import SavedDetector, holds_detector
from selftrain.learn.models.contract import CONTRACT_FILE, MODEL_FILE, Contract, read_contract
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import values_digest
from selftrain.selflabel.lineage.descent import Descent

if TYPE_CHECKING:
    import keras

ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>\d+))")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict, its contract, its name for the user, and any reason not to trust it."""

    model: keras.Model
    contract: Contract
    called: str
    concern: str | None = None


@dataclass(frozen=True)
class FoundModel:
    """A model that is not loaded yet: the side of its images in pixels, and how to load it.

    A `detector` is opened as itself, and `load` refuses it: it answers no class for an image. `called` and `concern`
    are as in LoadedModel. `bits` is how many of 16 bits its grey pictures fill.
    """

    image_size: int
    load: Callable[[], LoadedModel]
    detector: SavedDetector | None = None
    called: str = ""
    concern: str | None = None
    bits: int | None = None


@dataclass(frozen=True)
class OpenRegistry:
    """A registry that exists, the model name to use in it, and where fetched models are kept."""

    tracking: Tracking
    name: str
    cache: Path


class Standing(BaseModel):
    """The champion and the challenger of a model; `concern` is any reason not to trust the champion."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_name: str
    champion_version: int | None
    challenger_version: int | None
    model_uri: str | None
    concern: str | None = None


def standing(opened: OpenRegistry) -> Standing:
    """The champion and the challenger of the registry's model."""
    present = versions.champion(opened.tracking, opened.name)
    waiting = versions.challenger(opened.tracking, opened.name)
    recalled = recall_log.recalled(opened.tracking)
    return Standing(
        model_name=opened.name,
        champion_version=present.number if present else None,
        challenger_version=waiting.number if waiting else None,
        model_uri=present.uri if present else None,
        concern=recalled.concern(present.descent, f"the champion {present.uri}") if present else None,
    )


def open_registry(workspace: Path, name: str | None = None) -> OpenRegistry:
    """The registry that runs in `workspace` register in; nothing is created.

    Without `name`: the registry's only model, else the last registered run's. Raises RegistryError before the first
    run, and where it is unclear which model is meant. Raises NotRegisteredError, with the names of the models, for an
    unknown `name`, and ConfigError for one that MLflow does not allow.
    """
    return _opened(open_existing, workspace, name)


def open_registry_to_read(workspace: Path, name: str | None = None) -> OpenRegistry:
    """`open_registry` for code that changes nothing, which does not load MLflow where the store is embedded."""
    return _opened(open_to_read, workspace, name)


def _opened(open_store: Callable[[Path], Tracking | None], workspace: Path, name: str | None) -> OpenRegistry:
    if name:
        check_model_name(name, given_as="the model's name")
    prepare_process()
    tracking = open_store(workspace)
    if tracking is None:
        raise RegistryError(
            f"{workspace} has no registry yet; `selftrain run` registers a model that passes its gate "
            "(or give --workspace; a server's address goes into MLFLOW_TRACKING_URI)"
        )
    if name:
        _check_registered(tracking, name)
    return OpenRegistry(tracking, name or _default_name(tracking), Workspace(workspace).models)


def load_reference(
    reference: str,
    *,
    workspace: Path,
    model_name: str | None = None,
    class_names: tuple[str, ...] = (),
    known: Known = NOTHING_KNOWN,
) -> LoadedModel:
    """The model that `reference` names, as `find_reference` finds it."""
    return find_reference(
        reference, workspace=workspace, model_name=model_name, class_names=class_names, known=known
    ).load()


def find_reference(
    reference: str,
    *,
    workspace: Path,
    model_name: str | None = None,
    class_names: tuple[str, ...] = (),
    known: Known = NOTHING_KNOWN,
) -> FoundModel:
    """The model that `reference` names: a saved model's folder, one that the user brings, `models:/NAME@ALIAS`,
    `models:/NAME/NUMBER`, or `champion`.

    One that the user brings is a file or folder of a `Format`. It needs `class_names`, in the order of its outputs, and
    is asked as `adopt` does with what is `known`. Raises ConfigError for any other reference, UntrustedFileError for a
    file of another format, and RegistryError for an unknown version. Loading raises UntrustedFileError for a file that
    differs from its contract, or is refused. A saved model names its classes itself: other `class_names` are refused.
    """
    prepare_process()
    path = Path(reference)
    if reference in (CHAMPION, CHALLENGER) or reference.startswith("models:/"):
        return _find_version(
            reference, workspace=workspace, model_name=model_name, class_names=class_names, known=known
        )
    if is_brought(path):
        return _find_brought(path, class_names, workspace, known)
    if path.name == MODEL_FILE and path.is_file():
        return _find_folder(path.parent, str(path.parent), workspace, class_names, known)
    if path.is_dir() and ((path / CONTRACT_FILE).exists() or holds_detector(path)):
        return _find_folder(path, reference, workspace, class_names, known)
    if path.exists():
        raise refuse_other(path)
    raise ConfigError(
        f"{reference!r} is not a model: give a saved model's folder, {NAMED}, models:/NAME@champion, "
        "models:/NAME/NUMBER, or champion"
    )


def find_registered(reference: str, *, workspace: Path, model_name: str | None = None) -> FoundModel:
    """A registered model by `champion`, `challenger`, a number, or its `models:/` address."""
    return _find_version(reference, workspace=workspace, model_name=model_name)


def _find_version(
    reference: str,
    *,
    workspace: Path,
    model_name: str | None,
    class_names: tuple[str, ...] = (),
    known: Known = NOTHING_KNOWN,
) -> FoundModel:
    opened, version = find_version(reference, workspace=workspace, model_name=model_name)
    folder = versions.load_model_folder(opened.tracking, version, cache=opened.cache)
    if holds_detector(folder):
        concern = recall_log.recalled(opened.tracking).concern(version.descent, version.uri)
        return _detector(folder, version.uri, concern)
    promised = _promised(folder, class_names, known, version.uri)

    def loaded() -> LoadedModel:
        start_keras(lean=True)
        concern = recall_log.recalled(opened.tracking).concern(version.descent, version.uri)
        return LoadedModel(*load(folder), called=version.uri, concern=concern)

    return FoundModel(promised.image_size, loaded, bits=promised.bits)


def _promised(folder: Path, class_names: tuple[str, ...], known: Known, called: str) -> Contract:
    """The contract of the saved model in `folder`. Raises ConfigError if the user says it otherwise."""
    contract = read_contract(folder)
    if class_names and class_names != contract.class_names:
        raise ConfigError(
            f"{called} names its classes itself: {', '.join(contract.class_names)}; leave out the classes that you "
            f"give: {', '.join(class_names)}"
        )
    if known.pixels is not None or known.size is not None or known.bits is not None:
        raise ConfigError(
            f"{called} knows how it reads images; leave out the pixels, the image size and the bits that you give"
        )
    return contract


def find_version(reference: str, *, workspace: Path, model_name: str | None = None) -> tuple[OpenRegistry, Version]:
    """The version that `champion`, `challenger`, a number or a `models:/` address names, and its registry."""
    address = ADDRESS.fullmatch(reference)
    if reference.startswith("models:/") and address is None:
        raise ConfigError(f"{reference!r} is not a model address; write models:/NAME@champion or models:/NAME/NUMBER")
    opened = open_registry(workspace, address["name"] if address else model_name)
    key = (address["alias"] or address["number"]) if address else reference
    return opened, _version(opened, key)


def _version(opened: OpenRegistry, key: str) -> Version:
    if key.isdecimal():
        return versions.get_version(opened.tracking, name=opened.name, number=int(key))
    if key == CHAMPION:
        version = versions.champion(opened.tracking, opened.name)
    elif key == CHALLENGER:
        version = versions.challenger(opened.tracking, opened.name)
    else:
        raise ConfigError(
            f"{key!r} is not one of our aliases; allowed: {CHAMPION}, {CHALLENGER}, or a version's number"
        )
    if version is None:
        every = versions.versions(opened.tracking, opened.name)
        numbers = ", ".join(str(each.number) for each in every) or "none"
        raise RegistryError(
            f"{opened.name!r} has no {key} (versions: {numbers}); "
            "`selftrain promote` makes one, or name a version or a model's folder instead"
        )
    return version


def _detector(folder: Path, called: str, concern: str | None) -> FoundModel:
    saved = SavedDetector.read(folder)

    def refused() -> LoadedModel:
        raise ConfigError(
            f"{called} is a detector, which answers boxes and not a class per image: `selftrain predict` and "
            "`selftrain pseudo-label` write them"
        )

    return FoundModel(saved.contract.longest, refused, saved, called, concern)


def _find_folder(folder: Path, called: str, workspace: Path, class_names: tuple[str, ...], known: Known) -> FoundModel:
    if holds_detector(folder):
        descent = recall_log.descent_of(SavedDetector.read(folder).contract)
        return _detector(folder, called, recall_log.concern_about_file(descent, called, workspace))
    promised = _promised(folder, class_names, known, called)

    def loaded() -> LoadedModel:
        start_keras(lean=True)
        model, contract = load(folder)
        concern = recall_log.concern_about_file(recall_log.descent_of(contract), called, workspace)
        return LoadedModel(model, contract, called, concern)

    return FoundModel(promised.image_size, loaded, bits=promised.bits)


def _find_brought(path: Path, class_names: tuple[str, ...], workspace: Path, known: Known) -> FoundModel:
    if not class_names:
        raise ConfigError(f"{path} does not name its classes; give --classes a,b,c in the order of its outputs")
    side = max(known.size) if known.size is not None else side_of(path) or ANY_SIDE

    def loaded() -> LoadedModel:
        start_keras(lean=True)
        model, contract = adopt(path, class_names=class_names, image_size=side, known=known)
        weights = {values_digest(model)} if model.weights else set[str]()
        digest = digest_of(path)
        descent = Descent(frozenset({digest, *weights}))  # no contract says who taught it
        contract = contract.model_copy(update={"weights_sha256": digest})
        return LoadedModel(model, contract, str(path), recall_log.concern_about_file(descent, str(path), workspace))

    return FoundModel(side, loaded, bits=known.bits)


def _check_registered(tracking: Tracking, name: str) -> None:
    if not versions.names(tracking, f"name = '{name}'"):
        names = ", ".join(versions.names(tracking)) or "none"
        raise NotRegisteredError(f"no model is called {name!r}; there are: {names}")


def _default_name(tracking: Tracking) -> str:
    names = versions.names(tracking)
    if not names:
        raise RegistryError("no model is registered yet; `selftrain run` registers one that passes its gate")
    if len(names) == 1:
        return names[0]
    last = _last_registered()
    if last is None:
        raise RegistryError(f"there are several models; add --model-name, one of: {', '.join(names)}")
    return last


def _last_registered() -> str | None:
    from selftrain.adapters.runs.records import latest_runs

    uris = (record.model_uri for record in latest_runs(20))
    found = next((ADDRESS.fullmatch(uri) for uri in uris if uri), None)
    return found["name"] if found else None
