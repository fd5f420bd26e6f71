"""The scan step: a cheap listing of the source, so that the cache notices changed files."""

from dataclasses import replace
from typing import Annotated

from zenml import step

from selftrain.adapters.process.console import show
from selftrain.adapters.process.secrets import resolve
from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.config import Inbox, Ingest, Machine, Place, Source
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.rows import described
from selftrain.data.store.dataset import open_dataset
from selftrain.retraining.collecting import open_source_with_inbox
from selftrain.retraining.label_entry import labelled_listing


@step(enable_cache=False, output_materializers={"listing": TableMaterializer})
def scan(
    source: Source, place: Place, machine: Machine, settings: Ingest, inbox: Inbox | None = None
) -> tuple[Annotated[Listing, "listing"], Annotated[str, "store_id"], Annotated[Machine, "machine"]]:
    """List the source (path, size, mtime), what was taken in from `inbox`, and labels that came later.

    It also names the image store that all of it goes to. `machine` is returned as it came: ZenML can leave an artifact
    out of a cache key, but not a parameter.
    """
    images, store = open_source_with_inbox(source, place, settings, inbox, resolve=resolve), open_dataset(place).store
    found = images.scan()
    listing = replace(labelled_listing(found, store), notes=found.notes)
    show("\n".join(described(listing)))
    return listing, store.id(), machine
