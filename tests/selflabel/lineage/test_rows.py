"""Label rows: flat tables of what teachers said, read from the files that runs leave."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Fixed, PseudoLabel
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest
from selftrain.errors import ConfigError, PredictionError
from selftrain.selflabel.lineage.descent import Trust
from selftrain.selflabel.lineage.rows import (
    SCHEMA,
    RoundLabels,
    check_label_file,
    class_counts,
    head,
    matching_ids,
    open_labels,
    rows,
    values,
    write_rows,
)
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

NAMES = ("cat", "dog", "elk")


def image_id(number: int) -> str:
    """Ids that begin alike: the first 32 characters differ every hundred."""
    return f"{number // 100:032x}{number % 100:032x}"


def labelled(count: int, *, seed: int = 0, names: tuple[str, ...] = NAMES) -> PseudoLabels:
    probs = np.random.default_rng(seed).dirichlet(np.ones(len(names)), count).astype(np.float32)
    ids = [image_id(number) for number in range(count)]
    settings = PseudoLabel(threshold=Fixed(value=0.6))
    return select(ids, probs, settings, round_index=2, teacher="t" * 64, class_names=names)


def kept(labels: PseudoLabels, folder: Path, **layout: int) -> pq.ParquetFile:
    labels.write(folder / "labels.parquet", **layout)
    return pq.ParquetFile(folder / "labels.parquet")


def given_by(file: pq.ParquetFile, **said: Any) -> RoundLabels:
    return RoundLabels("run", head(file, "labels.parquet"), **said)


def manifest(count: int, folder: Path) -> pq.ParquetFile:
    table = pa.table(
        {
            "image_id": [image_id(number) for number in range(count)],
            "shard": ["s"] * count,
            "index": list(range(count)),
            "origin": [f"photos/{number}.png" for number in range(count)],
            "width": [8] * count,
            "height": [8] * count,
            "phash": pa.array(range(count), pa.uint64()),
            "split": ["unlabeled"] * count,
            "weight": [1.0] * count,
        }
    )
    Manifest.build(table, LabelMap(NAMES)).write(folder / "manifest.parquet")
    return pq.ParquetFile(folder / "manifest.parquet")


class Watched(io.FileIO):
    """A file that notes which threads read it and which let go of what was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.threads = threads = set[int]()

        class Noted(bytes):
            def __del__(self) -> None:
                threads.add(threading.get_ident())

        self.noted = Noted

    def read(self, size: int | None = -1, /) -> bytes:
        self.threads.add(threading.get_ident())
        return self.noted(super().read(-1 if size is None else size))


Reading = Callable[[pq.ParquetFile], object]
READINGS: dict[str, Reading] = {
    "rows": lambda file: list(rows(given_by(file), file)),
    "ids": lambda file: matching_ids(file, image_id(0)[:40]),
    "counts": lambda file: class_counts(file, classes=len(NAMES)),
}


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_file_is_read_by_the_calling_thread_alone(reading: Reading, tmp_path: Path) -> None:
    """Another thread that lets go of what was read while Python ends aborts the process."""
    kept(labelled(300), tmp_path)
    with Watched(tmp_path / "labels.parquet") as file:
        assert reading(open_labels(file)) is not None
        assert file.threads == {threading.get_ident()}


def test_a_row_says_who_said_what_when_of_which_image_and_why_it_counts_or_not(tmp_path: Path) -> None:
    labels = labelled(5)
    file = kept(labels, tmp_path)
    given = given_by(file, version="models:/m/3", trust=Trust.WITHDRAWN)
    (table,) = rows(given, file, manifest(5, tmp_path))
    found = values(table)
    assert [each.image_id for each in found] == labels.table["image_id"].to_pylist()
    assert [each.origin for each in found] == [f"photos/{number}.png" for number in range(5)]
    for each, row, probs in zip(found, labels.table.to_pylist(), labels.probs(), strict=True):
        assert (each.run, each.round, each.teacher) == ("run", 2, "t" * 64)
        assert (each.version, each.trust, each.threshold) == ("models:/m/3", Trust.WITHDRAWN, "0.6")
        assert each.predicted == NAMES[row["label"]]
        assert list(each.probabilities.values()) == pytest.approx(probs.tolist())
        assert list(each.probabilities) == list(NAMES)
        assert (each.accepted, each.reason, each.weight) == (row["accepted"], row["reason"], row["weight"])
        assert each.accepted == (each.confidence >= each.cutoff)


@given(st.integers(1, 250), st.integers(0, 300), st.integers(8, 64))
def test_a_prefix_finds_what_looking_at_every_row_finds(
    tmp_path_factory: pytest.TempPathFactory, count: int, number: int, length: int
) -> None:
    folder, prefix = tmp_path_factory.mktemp("labels"), image_id(number)[:length]
    file = kept(labelled(count), folder, rows_per_group=40)
    expected = [each for each in map(image_id, range(count)) if each.startswith(prefix)]
    assert matching_ids(file, prefix).to_pylist() == expected
    found = [name for table in rows(given_by(file), file, prefix=prefix) for name in table["image_id"].to_pylist()]
    assert found == expected


class RecordedFile(pq.ParquetFile):  # type: ignore[misc]
    """A file that knows which of its groups were read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.groups: list[int] = []

    def read_row_group(self, i: int, *args: Any, **options: Any) -> pa.Table:
        self.groups.append(i)
        return super().read_row_group(i, *args, **options)


def test_only_the_groups_that_may_hold_an_image_are_read(tmp_path: Path) -> None:
    kept(labelled(1000), tmp_path, rows_per_group=100)
    file = RecordedFile(tmp_path / "labels.parquet")
    assert file.metadata.num_row_groups == 10
    assert matching_ids(file, image_id(512)).to_pylist() == [image_id(512)]
    assert file.groups == [5]


def test_an_image_that_the_manifest_lacks_has_no_origin(tmp_path: Path) -> None:
    file = kept(labelled(6), tmp_path)
    (table,) = rows(given_by(file), file, manifest(4, tmp_path))
    assert table["origin"].to_pylist()[3:] == ["photos/3.png", None, None]
    (without,) = rows(given_by(file), file)
    assert without["origin"].null_count == 6


def test_counts_a_class_are_those_of_the_labels(tmp_path: Path) -> None:
    labels = labelled(300)
    counts = class_counts(kept(labels, tmp_path), classes=3)
    assert counts[:, 1].tolist() == labels.accepted_per_class().tolist()
    assert counts[:, 0].tolist() == np.bincount(labels.table["label"].to_numpy(), minlength=3).tolist()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_rounds_with_other_classes_go_into_one_table(tmp_path: Path, suffix: str) -> None:
    tables = []
    for number, names in enumerate((NAMES, ("dog", "fox"))):
        (tmp_path / str(number)).mkdir()
        file = kept(labelled(4 + number, names=names), tmp_path / str(number))
        tables += list(rows(given_by(file, version=None if number else "models:/m/1"), file))
    out = tmp_path / "new" / f"all{suffix}"
    assert write_rows(tables, out, class_names=("cat", "dog", "elk", "fox")) == 9
    written = pq.read_table(out) if suffix == ".parquet" else pyarrow.csv.read_csv(out)
    assert written.num_rows == 9
    assert written.column_names == [*SCHEMA.names, "p_cat", "p_dog", "p_elk", "p_fox"]
    assert written["p_cat"].to_pylist()[4:] == [None] * 5
    assert written["p_dog"].null_count == 0
    assert written["class"].to_pylist() == [name for table in tables for name in table["class"].to_pylist()]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_what_could_not_be_written_whole_is_not_there(tmp_path: Path) -> None:
    def failing() -> Any:
        yield from rows(given_by(file), file)
        raise OSError("gone")

    file = kept(labelled(4), tmp_path)
    with pytest.raises(OSError, match="gone"):
        write_rows(failing(), tmp_path / "out" / "all.csv", class_names=NAMES)
    assert list((tmp_path / "out").iterdir()) == []


def test_where_rows_go_is_checked_first(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    for name, said in (
        ("mine.csv", "left unchanged"),
        ("x.txt", "parquet or .csv"),
        ("mine.csv/x.csv", "is not a folder"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_label_file(tmp_path / name)
    check_label_file(tmp_path / "new" / "x.parquet")


def test_a_table_that_holds_no_pseudo_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match=r"elsewhere\.parquet holds no pseudo-labels"):
        head(manifest(2, tmp_path), "elsewhere.parquet")
