"""The ingest step: writes source files into shards, and lists them in a Manifest."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.console import progress
from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.config import Ingest, Machine, Place, Source, Splitting
from selftrain.data.ingest.ingest import ingest as ingest_images
from selftrain.data.ingest.report import IngestReport, report_ingested
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset


@step(
    cache_policy=CachePolicy(cache_func=code_digest.ingest, ignored_inputs=["machine"]),
    output_materializers=dict.fromkeys(("manifest", "development", "test"), TableMaterializer),
)
def ingest(
    listing: Listing,
    store_id: str,
    source: Source,
    place: Place,
    settings: Ingest,
    splitting: Splitting,
    machine: Machine,
) -> tuple[
    Annotated[Manifest, "manifest"],
    Annotated[Manifest, "development"],
    Annotated[Manifest, "test"],
    Annotated[IngestReport, "ingest_report"],
]:
    """Ingest what is new in `listing` into the store. Another or a wiped store has another `store_id`, and is filled.

    `development` is the manifest's training and validation part, `test` its test part. A step that takes only one part
    stays cached while the other changes. Only the steps that count, make or report test evaluations take `test`.
    """
    store = open_dataset(place).store
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
    development, test = done.manifest.part(Split.TRAIN, Split.VALIDATION), done.manifest.part(Split.TEST)
    return done.manifest, development, test, report_ingested(done, store.quarantine_path)
