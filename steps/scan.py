"""The scan step: a cheap listing of the source, so that the cache notices changed files."""

from typing import Annotated

from zenml import step

from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.config import Machine, Place, Source
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset


@step(enable_cache=False, output_materializers={"listing": TableMaterializer})
def scan(
    source: Source, place: Place, machine: Machine
) -> tuple[Annotated[Listing, "listing"], Annotated[str, "store_id"], Annotated[Machine, "machine"]]:
    """List the source (path, size, mtime), and name the image store that it goes to.

    `machine` is returned as it came: ZenML can leave an artifact out of a cache key, but not a parameter.
    """
    return open_source(source).scan(), open_dataset(place).store.id(), machine
