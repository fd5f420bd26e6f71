"""The live champion: what a server asks the registry for, again and again."""

from __future__ import annotations

from dataclasses import dataclass

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry import recall_log, versions
from selftrain.adapters.registry.references import OpenRegistry
from selftrain.adapters.serving.live.live_model import LoadedVersion
from selftrain.errors import UntrustedFileError
from selftrain.learn.models.loading import load


@dataclass(frozen=True)
class RegisteredChampion:
    """The champion of one registered model."""

    opened: OpenRegistry

    def number(self) -> int | None:
        """The version that is champion now. Raises RegistryError when the registry does not answer."""
        return versions.champion_number(self.opened.tracking, self.opened.name)

    def load(self, number: int) -> LoadedVersion:
        """Version `number`, fetched into the cache. Raises RegistryError, and UntrustedFileError for another digest."""
        tracking = self.opened.tracking
        version = versions.get_version(tracking, name=self.opened.name, number=number)
        folder = versions.load_model_folder(tracking, version, cache=self.opened.cache)
        start_keras()
        model, contract = load(folder)
        if version.model_digest and version.model_digest != contract.weights_sha256:
            raise UntrustedFileError(
                f"{version.uri} was registered with sha256 {version.model_digest}, the file in {folder} has "
                f"{contract.weights_sha256}; it was not loaded: promote another version, or register it again"
            )
        concern = recall_log.recalled(tracking).concern(version.descent, version.uri)
        return LoadedVersion(number, version.uri, model, contract, concern)
