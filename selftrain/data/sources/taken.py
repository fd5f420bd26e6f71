"""Taken images: a source, and with it the images that were taken in from the inbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.intake_table import held_images, intake_path, read_intake
from selftrain.data.sources.listing import LISTING_SCHEMA, Listing
from selftrain.data.sources.source import ImageSource
from selftrain.errors import SourceError


@dataclass(frozen=True)
class TakenImages:
    """`source`, and each image of the intake in the folder `store` once, unlabelled.

    Ingest finds those images in the store's index, by the name, size and time that they were taken in with, and reads
    nothing. `mend` (selftrain/data/ingest/intake.py) must have been called before, in case the store lost a shard.
    """

    source: ImageSource
    store: Path

    @property
    def on_disk(self) -> bool:
        return self.source.on_disk

    def scan(self) -> Listing:
        listed = self.source.scan()
        images = held_images(read_intake(intake_path(self.store)))
        names = images["name"].combine_chunks()
        inside = names.filter(pc.is_in(names, listed.table["path"].combine_chunks()))
        if len(inside):
            raise SourceError(
                f"{len(inside)} files are in the source and in the inbox, such as {inside[0].as_py()!r}; "
                "give the inbox a folder that the source does not search"
            )
        nothing = pa.nulls(images.num_rows, pa.string())
        columns = {"path": names, "label": nothing, "split": nothing}
        rows = pa.table({**columns, "size": images["size"], "mtime_ns": images["mtime_ns"]}, schema=LISTING_SCHEMA)
        table = pa.concat_tables([listed.table, rows], promote_options="default")  # other columns: null
        return Listing.build(table, ignored=listed.ignored)

    def read(self, path: str) -> bytes:
        """The encoded image at `path` of the source. Raises OSError for one of the inbox, which the store holds."""
        return self.source.read(path)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return self.source.class_names(listing)
