"""The live champion: what a server asks the registry for, again and again; or one model that the user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry import recall_log, versions
from selftrain.adapters.registry.references import FoundModel, OpenRegistry
from selftrain.adapters.registry.versions import Version
from selftrain.adapters.serving.live.live_model import LoadedDetector, LoadedVersion
from selftrain.errors import UntrustedFileError
from selftrain.learn.detection.saving import SavedDetector, holds_detector
from selftrain.learn.models.loading import load

OF_NO_REGISTRY: Final = 0
"""The number of a model that has no version."""


@dataclass(frozen=True)
class RegisteredChampion:
    """The champion of one registered model."""

    opened: OpenRegistry

    def number(self) -> int | None:
        """The version that is champion now. Raises RegistryError when the registry does not answer."""
        return versions.champion_number(self.opened.tracking, self.opened.name)

    def load(self, number: int) -> LoadedVersion | LoadedDetector:
        """Version `number`, fetched into the cache. Raises RegistryError, and UntrustedFileError for another digest."""
        tracking = self.opened.tracking
        version = versions.get_version(tracking, name=self.opened.name, number=number)
        folder = versions.load_model_folder(tracking, version, cache=self.opened.cache)
        concern = recall_log.recalled(tracking).concern(version.descent, version.uri)
        start_keras()
        if holds_detector(folder):
            saved = SavedDetector.read(folder)
            _check_digest(version, folder, saved.contract.weights_sha256)
            return LoadedDetector(number, version.uri, saved.open(), saved.contract, concern)
        model, contract = load(folder)
        _check_digest(version, folder, contract.weights_sha256)
        return LoadedVersion(number, version.uri, model, contract, concern)


@dataclass(frozen=True)
class GivenModel:
    """A model that the user names, served as it is: no champion replaces it."""

    found: FoundModel

    def number(self) -> int:
        """Always the one model that was given."""
        return OF_NO_REGISTRY

    def load(self, number: int) -> LoadedVersion | LoadedDetector:
        """The model, as `find_reference` loads it. Raises what that raises."""
        detector = self.found.detector
        if detector is not None:
            return LoadedDetector(number, self.found.called, detector.open(), detector.contract, self.found.concern)
        loaded = self.found.load()
        return LoadedVersion(number, loaded.called, loaded.model, loaded.contract, loaded.concern)


def _check_digest(version: Version, folder: Path, sha256: str) -> None:
    """Raise UntrustedFileError where the files in `folder` are not those that were registered."""
    if version.model_digest and version.model_digest != sha256:
        raise UntrustedFileError(
            f"{version.uri} was registered with sha256 {version.model_digest}, the file in {folder} has "
            f"{sha256}; it was not loaded: promote another version, or register it again"
        )
