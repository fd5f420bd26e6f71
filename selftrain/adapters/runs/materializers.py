"""Materializers: how ZenML's artifact store keeps our own values, as Parquet or plain files, never pickles."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Protocol

from zenml.enums import ArtifactType
from zenml.io import fileio
from zenml.materializers.base_materializer import BaseMaterializer
from zenml.utils import io_utils

from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.selflabel.teaching.shard_groups import GroupAnswers

TABLE = "table.parquet"
TEMPORARY = "selftrain-"  # how the names of the folders that steps train into begin


class Table(Protocol):
    """A value that is one Parquet file and knows its digest."""

    @property
    def digest(self) -> str:
        """sha256 of the values."""

    def write(self, path: Path) -> None:
        """Write one Parquet file."""


class TableMaterializer(BaseMaterializer):
    """One of our tables, such as a Listing or a Manifest, as one Parquet file; its content hash is its digest."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Listing, Manifest, Annotations, PseudoLabels, GroupAnswers)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def save(self, data: Table) -> None:
        """Write `data` to the artifact's folder."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / TABLE
            data.write(path)
            fileio.copy(str(path), self._path)

    def load(self, data_type: type[Any]) -> Any:
        """Read the value back."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / TABLE
            fileio.copy(self._path, str(path))
            return data_type.read(path)

    def compute_content_hash(self, data: Table) -> str:
        """The value's digest, so that equal values let later steps stay cached."""
        return data.digest

    @property
    def _path(self) -> str:
        return f"{self.uri}/{TABLE}"


class ModelMaterializer(BaseMaterializer):
    """A saved model's or detector's folder: the `.keras` file and its contract."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (SavedModel, SavedDetector)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.MODEL

    def save(self, data: SavedModel | SavedDetector) -> None:
        """Copy the model's files to the artifact's folder; then remove a step's own temporary folder."""
        for path in sorted(data.folder.iterdir()):
            fileio.copy(str(path), f"{self.uri}/{path.name}")
        temporary = data.folder.parent == Path(tempfile.gettempdir())
        if temporary and data.folder.name.startswith(TEMPORARY):
            shutil.rmtree(data.folder)

    def load(self, data_type: type[SavedModel] | type[SavedDetector]) -> SavedModel | SavedDetector:
        """The model's folder: the artifact itself where it is local, a temporary copy elsewhere."""
        if Path(self.uri).is_dir():
            return data_type.read(Path(self.uri))
        folder = Path(tempfile.mkdtemp(prefix="selftrain-model-"))
        io_utils.copy_dir(self.uri, str(folder), overwrite=True)
        return data_type.read(folder)

    def compute_content_hash(self, data: SavedModel | SavedDetector) -> str:
        """The digest of the weights and of what the model promises, without how its training went."""
        return data.digest
