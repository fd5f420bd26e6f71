from datetime import UTC, datetime

import pyarrow as pa
import pytest

from selftrain.data.label_log import LABEL_LOG_SCHEMA
from selftrain.data.sources.late_labels import with_labels
from selftrain.data.sources.listing import LISTING_SCHEMA, Listing
from selftrain.data.store.image_store import INDEX_SCHEMA

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.fixture
def listing() -> Listing:
    """Two labelled files, one of them a test image, and three of the pool; `p2` has the bytes of `p1`."""
    columns = {
        "path": ["c", "d", "p1", "p2", "p3"],
        "label": ["cat", "dog", None, None, None],
        "split": [None, "test", "unlabeled", "unlabeled", None],
        "size": [1, 1, 1, 1, 1],
        "mtime_ns": [7, 7, 7, 7, 7],
    }
    return Listing.build(pa.table(columns, schema=LISTING_SCHEMA))


@pytest.fixture
def index(listing: Listing) -> pa.Table:
    """What ingest read of these files; the image of `c` is called C, and so on."""
    columns = {name: listing.table[name] for name in ("path", "size", "mtime_ns")}
    columns["image_id"] = pa.array(["C", "D", "P1", "P1", "P3"])
    missing = {field.name: pa.nulls(5, field.type) for field in INDEX_SCHEMA if field.name not in columns}
    return pa.table({**columns, **missing}).select(INDEX_SCHEMA.names)


def log(*rows: tuple[str, str | None, bool]) -> pa.Table:
    table = pa.table({"image_id": [r[0] for r in rows], "label": [r[1] for r in rows], "settles": [r[2] for r in rows]})
    return table.append_column("who", pa.array(["anna"] * len(rows))).append_column(
        "when", pa.array([NOON] * len(rows), LABEL_LOG_SCHEMA.field("when").type)
    )


def rows(listing: Listing) -> dict[str, tuple[str | None, str | None, str | None]]:
    names = (listing.table["label"], listing.table["split"], listing.optional("dispute"))
    return dict(zip(listing.table["path"].to_pylist(), zip(*(n.to_pylist() for n in names), strict=True), strict=True))


def test_an_empty_log_changes_nothing(listing: Listing, index: pa.Table) -> None:
    assert with_labels(listing, LABEL_LOG_SCHEMA.empty_table(), index) is listing


def test_a_label_of_a_pool_image_holds_for_all_its_copies_and_opens_their_split(
    listing: Listing, index: pa.Table
) -> None:
    labelled = with_labels(listing, log(("P1", "dog", False)), index)
    assert rows(labelled) == rows(listing) | {"p1": ("dog", None, None), "p2": ("dog", None, None)}


def test_a_label_that_repeats_the_source_changes_nothing(listing: Listing, index: pa.Table) -> None:
    assert with_labels(listing, log(("D", "dog", False)), index).digest == listing.digest


def test_a_label_against_the_source_leaves_the_image_without_any(listing: Listing, index: pa.Table) -> None:
    found = rows(with_labels(listing, log(("D", "cat", False)), index))
    assert found["d"] == (None, None, "people disagree: 'dog' in the source, 'cat' in the log")
    assert found["c"] == ("cat", None, None)


def test_a_settled_label_replaces_that_of_the_source_in_the_same_split(listing: Listing, index: pa.Table) -> None:
    found = with_labels(listing, log(("D", "dog", False), ("D", "cat", False), ("D", "cat", True)), index)
    assert rows(found)["d"] == ("cat", "test", None)


def test_people_who_disagree_leave_the_image_without_a_label(listing: Listing, index: pa.Table) -> None:
    found = rows(with_labels(listing, log(("P3", "cat", False), ("P3", "dog", False)), index))
    assert found["p3"] == (None, None, "people disagree: 'cat' and 'dog'")


def test_a_label_that_was_taken_back_leaves_the_image_out_or_to_its_source(listing: Listing, index: pa.Table) -> None:
    given = (("P3", "cat", False), ("D", "cat", True), ("P3", None, False), ("D", None, False))
    found = rows(with_labels(listing, log(*given), index))
    assert found["p3"] == (None, None, "its label was taken back")
    assert found["d"] == ("dog", "test", None)
    again = rows(with_labels(listing, log(*given, ("P3", "dog", False)), index))
    assert again["p3"] == ("dog", None, None)


def test_a_file_that_changed_since_it_was_labelled_gets_no_label(listing: Listing, index: pa.Table) -> None:
    changed = listing.table.set_column(4, "mtime_ns", pa.array([7, 7, 7, 7, 8], pa.int64()))
    assert rows(with_labels(Listing.build(changed), log(("P3", "cat", False)), index))["p3"] == (None, None, None)


def test_an_image_of_none_of_the_classes_is_left_out_of_pool_and_training(listing: Listing, index: pa.Table) -> None:
    labelled = with_labels(listing, log(("P1", None, True), ("C", None, True)), index)
    why = "people say that it shows none of the classes"
    assert rows(labelled) == rows(listing) | dict.fromkeys(("p1", "p2", "c"), (None, None, why))
