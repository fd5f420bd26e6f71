"""The scan step: a cheap listing of the source, so that the cache notices changed files."""

from typing import Annotated

from zenml import step

from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.config import Machine, Place, Source
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.retraining.label_entry import labelled_listing


@step(enable_cache=False, output_materializers={"listing": TableMaterializer})
def scan(
    source: Source, place: Place, machine: Machine
) -> tuple[Annotated[Listing, "listing"], Annotated[str, "store_id"], Annotated[Machine, "machine"]]:
    """List the source (path, size, mtime) with labels that came later, and name the image store that it goes to.

    `machine` is returned as it came: ZenML can leave an artifact out of a cache key, but not a parameter.
    """
    store = open_dataset(place).store
    return labelled_listing(open_source(source).scan(), store), store.id(), machine
