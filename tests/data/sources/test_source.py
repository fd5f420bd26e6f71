import gzip
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from selftrain import config
from selftrain.data.sources.arrays import stratified_order
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import open_source
from selftrain.errors import SourceError


def folder_source(root: Path, **folders: str) -> config.FolderSource:
    return config.FolderSource(**{role: str(root / name) for role, name in folders.items()})


def rows(listing: Listing) -> dict[str, tuple[str | None, str | None]]:
    table = listing.table
    return {
        Path(path).as_posix(): (label, split)
        for path, label, split in zip(
            table["path"].to_pylist(), table["label"].to_pylist(), table["split"].to_pylist(), strict=True
        )
    }


def test_class_folders_give_labels_and_the_unlabelled_folder_none(folders: Path) -> None:
    source = open_source(folder_source(folders, labeled="labeled", unlabeled="unlabeled"))
    listing = source.scan()
    found = rows(listing)
    assert found[f"{folders}/labeled/cat/00.png"] == ("cat", None)
    assert found[f"{folders}/unlabeled/03.webp"] == (None, "unlabeled")
    assert len(listing) == 34
    assert source.class_names(listing) == ("cat", "dog")
    path = f"{folders}/labeled/dog/05.jpg"
    assert source.read(path) == Path(path).read_bytes()


def test_an_unlabelled_folder_inside_the_labelled_one_is_no_class(folders: Path) -> None:
    (folders / "unlabeled").rename(folders / "labeled" / "unlabeled")
    listing = open_source(folder_source(folders, labeled="labeled", unlabeled="labeled/unlabeled")).scan()
    assert sorted({label for label, _ in rows(listing).values() if label}) == ["cat", "dog"]
    assert len(listing) == 34


def test_validation_and_test_folders_give_splits(folders: Path) -> None:
    (folders / "test" / "cat").mkdir(parents=True)
    (folders / "labeled" / "cat" / "03.png").rename(folders / "test" / "cat" / "03.png")
    listing = open_source(folder_source(folders, labeled="labeled", test="test")).scan()
    assert rows(listing)[f"{folders}/test/cat/03.png"] == ("cat", "test")


def test_a_class_that_only_a_test_folder_has_stops_with_the_image_named(folders: Path, draw) -> None:
    draw(folders / "test" / "bird" / "x.png", seed=900)
    with pytest.raises(SourceError, match=r"label without training images: .*bird/x\.png.*cat, dog"):
        open_source(folder_source(folders, labeled="labeled", test="test")).scan()


def test_an_image_beside_the_class_folders_stops_with_its_name(folders: Path, draw) -> None:
    draw(folders / "labeled" / "stray.png", seed=901)
    with pytest.raises(SourceError, match=r"without a label.*stray\.png"):
        open_source(folder_source(folders, labeled="labeled")).scan()


def test_an_empty_class_folder_is_left_out_and_named(folders: Path) -> None:
    (folders / "labeled" / "bird").mkdir()
    listing = open_source(folder_source(folders, labeled="labeled", unlabeled="unlabeled")).scan()
    assert len(listing) == 34
    assert any("bird" in note and "left out" in note for note in listing.notes)


def test_class_folders_without_any_image_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "labeled" / "bird").mkdir(parents=True)
    with pytest.raises(SourceError, match="hold no image: bird; add some"):
        open_source(folder_source(tmp_path, labeled="labeled")).scan()


def test_a_class_folder_whose_name_is_no_utf_8_is_named(folders: Path, draw) -> None:
    latin_1 = os.fsdecode(os.fsencode(folders / "labeled") + b"/caf\xe9")
    draw(Path(latin_1) / "00.png", seed=1)
    with pytest.raises(SourceError, match=r"class folder 'caf\\udce9' .* not UTF-8; rename it") as error:
        open_source(folder_source(folders, labeled="labeled")).scan()
    error.value.message.encode()


def test_a_folder_without_class_folders_is_an_error(folders: Path) -> None:
    with pytest.raises(SourceError, match="no class folders"):
        open_source(folder_source(folders, labeled="unlabeled")).scan()


def test_a_missing_folder_is_named_by_its_key(folders: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.unlabeled.*nowhere"):
        open_source(folder_source(folders, labeled="labeled", unlabeled="nowhere")).scan()


def test_the_same_folder_cannot_be_labelled_and_test(folders: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.test and source\.labeled are the same"):
        open_source(folder_source(folders, labeled="labeled", test="labeled")).scan()


def table_source(root: Path, text: str) -> config.TableSource:
    (root / "list.csv").write_text(text)
    return config.TableSource(path=str(root / "list.csv"))


def test_a_csv_gives_labels_and_splits_as_text(folders: Path) -> None:
    text = "path,label,split\nlabeled/cat/00.png,1,\nlabeled/cat/01.png,01,train\nunlabeled/00.webp,,unlabeled\n"
    source = open_source(table_source(folders, text))
    listing = source.scan()
    assert list(rows(listing).values()) == [("1", None), ("01", "train"), (None, "unlabeled")]
    assert source.class_names(listing) == ("01", "1")


def test_a_parquet_list_gives_the_same_listing_as_the_csv(folders: Path) -> None:
    text = "path,label\nlabeled/cat/00.png,cat\nunlabeled/00.webp,\n"
    from_csv = open_source(table_source(folders, text)).scan()
    table = pa.table({"label": ["cat", ""], "path": ["labeled/cat/00.png", "unlabeled/00.webp"]})
    pq.write_table(table, folders / "list.parquet")
    from_parquet = open_source(config.TableSource(path=str(folders / "list.parquet"))).scan()
    assert from_parquet.digest == from_csv.digest


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_a_damaged_parquet_list_is_an_error_that_names_it_wherever_the_damage_is(
    folders: Path, compression: str
) -> None:
    path = folders / "list.parquet"
    pq.write_table(pa.table({"path": [CAT], "label": ["cat"]}), path, compression=compression)
    whole = path.read_bytes()
    source = open_source(config.TableSource(path=str(path)))
    assert len(source.scan()) == 1
    refusals: list[str] = []
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x80]) + whole[position + 1 :])
        try:
            source.scan()  # some bytes are not looked at
        except SourceError as error:
            refusals.append(error.message)
    assert len(refusals) > len(whole) / 3 / 4
    assert all("list.parquet" in message or "row 1" in message for message in refusals)
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"list\.parquet' cannot be read as a table"):
            source.scan()


CAT = "labeled/cat/00.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"path,label,spilt\n{CAT},cat,\n", "unknown column 'spilt'; did you mean 'split'"),
        (f"label\n{CAT}\n", "no column of paths; it has 'label'"),
        (f"path,label,label\n{CAT},cat,dog\n", "the column 'label' more than once"),
        ("path,label\n", "no rows"),
        (f"path,label\n{CAT},cat,extra\n", "cannot be read as a table"),
        (f"path,label\n{CAT},cat\nlabeled/cat/gone.png,cat\n", r"row without an image file: row 2 \('labeled/cat/gone"),
        (f"path,label,split\n{CAT},cat,trian\n", r"unknown split: row 1 .*allowed are train"),
        (f"path,label,split\n{CAT},,test\n", r"without label in a labelled split: row 1"),
        (f"path,label,split\n{CAT},cat,unlabeled\n", r"label in split unlabeled: row 1"),
        (f"path,label,split\n{CAT},cat,test\n", r"label without training images: row 1"),
        (f"path,label\n{CAT},cat\n{CAT},dog\n", r"listed more than once: row 1 .*row 2"),
        (f"path,label\n{CAT},cat\n./{CAT},dog\n", r"listed more than once: row 1 .*row 2"),
        (f"path,label\n{CAT},cat\n,dog\n", "row without path: row 2"),
        ("path,label\n../outside.png,cat\n", r"path outside .*row 1"),
        ("path,label\n/etc/passwd,cat\n", r"path outside .*row 1"),
    ],
)
def test_a_wrong_table_stops_with_the_rows_named(folders: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(table_source(folders, text)).scan()


def test_at_most_five_rows_are_named(folders: Path) -> None:
    text = "path,label\n" + "".join(f"gone{number}.png,cat\n" for number in range(9))
    with pytest.raises(SourceError, match=r"row 5 \('gone4.png'\) and 4 more"):
        open_source(table_source(folders, text)).scan()


def test_an_absolute_path_inside_the_root_is_allowed(folders: Path) -> None:
    listing = open_source(table_source(folders, f"path,label\n{folders / CAT},cat\n")).scan()
    assert rows(listing) == {f"{folders}/{CAT}": ("cat", None)}


def test_digits_are_split_as_asked_and_always_the_same() -> None:
    source = open_source(config.DigitsSource())
    listing = source.scan()
    counts = {one["values"]: one["counts"] for one in listing.table["split"].value_counts().to_pylist()}
    assert counts == {"train": 100, "validation": 150, "test": 400, "unlabeled": 1147}
    labels = [label for label, split in rows(listing).values() if split == "train"]
    assert sorted(labels) == sorted("0123456789" * 10)
    assert open_source(config.DigitsSource()).scan().digest == listing.digest
    assert open_source(config.DigitsSource(seed=1)).scan().digest != listing.digest


def test_a_digit_keeps_its_scan_and_its_label() -> None:
    source = open_source(config.DigitsSource())
    picture = np.asarray(Image.open(io.BytesIO(source.read("digit-0042.png"))))
    scans = load_digits()
    np.testing.assert_allclose(picture / 255 * 16, scans.images[42], atol=1 / 16)
    with_label = {path: label for path, (label, _) in rows(source.scan()).items() if label}
    assert all(label == str(scans.target[int(path[6:10])]) for path, label in with_label.items())


def test_more_digits_than_there_are_is_an_error() -> None:
    with pytest.raises(SourceError, match="1797"):
        open_source(config.DigitsSource(test=1700)).scan()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 5))
def test_every_beginning_of_a_stratified_order_holds_the_classes_in_proportion(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    order = stratified_order(array, seed=seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    share = np.bincount(array) / len(labels)
    for stop in (len(labels) // 3, len(labels) // 2):
        got = np.bincount(array[order[:stop]], minlength=len(share))
        assert np.abs(got - stop * share).max() <= len(share)


KERAS_SCRIPT = """
from selftrain import config
from selftrain.data.sources.source import open_source
source = open_source(config.KerasDatasetSource(name="fashion_mnist", labeled=20, unlabeled=15))
listing = source.scan()
counts = {str(one["values"]): one["counts"] for one in listing.table["split"].value_counts().to_pylist()}
assert counts == {"None": 20, "unlabeled": 15, "test": 10}, counts
assert source.class_names(listing)[9] == "ankle_boot"
labeled = listing.table.filter([split is None for split in listing.table["split"].to_pylist()])
assert sorted(labeled["label"].to_pylist()) == sorted(source.class_names(listing) * 2)
import io
import numpy as np
from PIL import Image
for path, label in zip(labeled["path"].to_pylist(), labeled["label"].to_pylist()):
    pixel = np.asarray(Image.open(io.BytesIO(source.read(path))))[0, 0]
    assert source.class_names(listing)[pixel] == label
print("done")
"""


@pytest.mark.keras
def test_a_keras_dataset_is_read_by_keras_own_loading_code(tmp_path: Path) -> None:
    """Files in the format of Fashion-MNIST lie where Keras looks; each picture's grey level is its class."""
    folder = tmp_path / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 10)):
        labels = np.arange(count, dtype=np.uint8) % 10
        pictures = np.repeat(labels, 28 * 28)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(struct.pack(">2I", 0, 0) + labels.tobytes())
        )
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(struct.pack(">4I", 0, 0, 0, 0) + pictures.tobytes())
        )
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", KERAS_SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip().endswith("done"), done.stderr


def test_a_list_of_files_in_the_working_folder_that_are_not_there_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selftrain.data.sources.tables import _with_endings

    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_bytes(b"")
    assert _with_endings(["C:\\photos\\0.png", "there"]) == ["C:\\photos\\0.png", "there.png"]
