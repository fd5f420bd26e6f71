"""The ingest step: source files into shards, and a Manifest of them."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters import code_digest
from selftrain.adapters.console import progress
from selftrain.adapters.materializers import TableMaterializer
from selftrain.config import Ingest, Machine, Place, Source, Splitting
from selftrain.data import dataset
from selftrain.data.ingest import ingest as ingest_images
from selftrain.data.listing import Listing
from selftrain.data.manifest import Manifest
from selftrain.data.sources import open_source
from selftrain.record import IngestReport, report_ingested


@step(
    cache_policy=CachePolicy(cache_func=code_digest.ingest, ignored_inputs=["machine"]),
    output_materializers={"manifest": TableMaterializer, "labeled": TableMaterializer},
)
def ingest(
    listing: Listing,
    store_id: str,
    source: Source,
    place: Place,
    settings: Ingest,
    splitting: Splitting,
    machine: Machine,
) -> tuple[Annotated[Manifest, "manifest"], Annotated[Manifest, "labeled"], Annotated[IngestReport, "ingest_report"]]:
    """Ingest what is new in `listing` into the store; `store_id` makes another or a wiped store ingest again.

    `labeled` is the human-labelled part of the manifest: steps that read no more stay cached while the pool grows.
    """
    store = dataset.store(place)
    with progress("ingest") as show:
        done = ingest_images(
            open_source(source),
            listing,
            store,
            settings=settings,
            splitting=splitting,
            workers=machine.workers,
            shard_mb=machine.shard_mb,
            progress=show,
        )
    return done.manifest, done.manifest.labeled(), report_ingested(done, store.quarantine_path)
