"""The label store: reads every round's pseudo-labels from ZenML's artifact store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.adapters.runs.materializers import TABLE
from selftrain.adapters.runs.records import has_runs
from selftrain.errors import SelftrainError
from selftrain.selflabel.lineage import rows
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse

ARTIFACT = "pseudo_labels"  # their name in the step


@dataclass(frozen=True)
class KeptLabels:
    """One round's stored pseudo-labels: their `facts` without the rows, and the `run` that made them."""

    run: str
    facts: PseudoLabels
    images: int
    artifact: ArtifactVersionResponse

    @contextmanager
    def opened(self) -> Iterator[pq.ParquetFile]:
        """Open their Parquet file."""
        with _opened(self.artifact) as file:
            yield file

    @contextmanager
    def manifest(self) -> Iterator[pq.ParquetFile | None]:
        """Open the manifest of their images; None where the run was deleted from ZenML's store."""
        from zenml.client import Client

        step = self.artifact.producer_step_run_id
        try:
            manifests = Client().get_run_step(step).inputs.get("manifest", []) if step is not None else []
        except KeyError:
            manifests = []
        if not manifests:
            yield None
            return
        with _opened(manifests[0]) as file:
            yield file


def kept_labels() -> tuple[list[KeptLabels], list[str]]:
    """The pseudo-labels of all runs, oldest first, and the addresses of those whose files are gone.

    Labels that a run took from the cache belong to the run that made them.
    """
    from zenml.client import Client
    from zenml.constants import PAGE_SIZE_MAXIMUM
    from zenml.exceptions import ZenMLBaseException
    from zenml.utils.pagination_utils import depaginate_stream

    if not has_runs():
        return [], []
    kept: list[KeptLabels] = []
    gone: list[str] = []
    listed = depaginate_stream(
        Client().list_artifact_versions,
        artifact=ARTIFACT,
        sort_by="asc:created",
        size=PAGE_SIZE_MAXIMUM,
        hydrate=True,
    )
    for artifact in listed:
        if artifact.artifact.name != ARTIFACT or artifact.data_type.attribute != PseudoLabels.__name__:
            continue
        try:
            with _opened(artifact) as file:
                facts, images = rows.head(file, artifact.uri), file.metadata.num_rows
        except (OSError, RuntimeError, ZenMLBaseException, pa.ArrowInvalid, SelftrainError):
            gone.append(str(artifact.uri))
            continue
        kept.append(KeptLabels(str(artifact.producer_pipeline_run_id or "deleted"), facts, images, artifact))
    return kept, gone


@contextmanager
def _opened(artifact: ArtifactVersionResponse) -> Iterator[pq.ParquetFile]:
    with _store(artifact.artifact_store_id).open(f"{artifact.uri}/{TABLE}", "rb") as file:
        yield rows.open_labels(file)


@cache
def _store(store_id: UUID | None) -> Any:
    from zenml.artifacts.utils import load_artifact_store
    from zenml.client import Client

    return Client().active_stack.artifact_store if store_id is None else load_artifact_store(store_id)
