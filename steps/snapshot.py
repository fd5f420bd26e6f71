"""The snapshot step: saves the data set as a DVC version."""

from typing import Annotated

from zenml import log_metadata, step

from selftrain.adapters.snapshots.repository import snapshot as take_snapshot
from selftrain.config import Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset


@step(enable_cache=False)
def snapshot(manifest: Manifest, place: Place) -> Annotated[str, "dataset_version"]:
    """Add the ingested data set to DVC and push it. Never taken from the cache; repeating it changes nothing."""
    dataset = open_dataset(place)
    version = take_snapshot(dataset.workspace, dataset.name)
    log_metadata({"dataset_version": version.hash, "manifest_digest": manifest.digest, "images": len(manifest)})
    return version.hash
