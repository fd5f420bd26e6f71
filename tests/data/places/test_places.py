"""Places: archives, Parquet, TFRecord and buckets as sources, read where they are."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftrain import config
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import ImageSource, open_source
from selftrain.data.sources.survey import survey
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import SourceError
from tests.adapters.s3 import S3Server, bucket


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def opened(labeled: Path | str, **roles: Path | str) -> ImageSource:
    return open_source(config.FolderSource(labeled=str(labeled), **{role: str(path) for role, path in roles.items()}))


def columns(listing: Listing, *names: str) -> list[tuple[str | None, ...]]:
    return list(zip(*(listing.table[name].to_pylist() for name in names), strict=True))


def contents(source: ImageSource) -> list[bytes]:
    """What the source reads, once for each listed path, by an instance that has not listed anything."""
    return [source.read(path) for path in source.scan().table["path"].to_pylist()]


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


Pack = Callable[[Path, dict[str, bytes]], Path]
CLASSES = {f"photos/{name}/{k}.png": png(10 * len(name) + k) for name in ("cat", "mouse") for k in range(3)}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_class_folders_in_an_archive_are_read_where_they_are(tmp_path: Path, pack: Pack) -> None:
    archive = tmp_path / ("a.zip" if pack is zipped else "a.tar")
    pack(archive, {**CLASSES, "__MACOSX/photos/cat/._0.png": b"x", "photos/cat/notes.txt": b"x"})
    source = opened(archive)
    listing = source.scan()
    assert columns(listing, "path", "label") == [
        (f"{archive}::photos/{name}/{k}.png", name) for name in ("cat", "mouse") for k in range(3)
    ]
    assert listing.ignored == 2
    assert [opened(archive).read(path) for path in listing.table["path"].to_pylist()] == list(CLASSES.values())
    assert list(tmp_path.iterdir()) == [archive]


def test_splits_in_an_archive_are_named_behind_its_path(tmp_path: Path) -> None:
    files = {f"{split}/{name}/{split}.png": png(hash_of) for split, name, hash_of in
             (("train", "a", 1), ("train", "b", 2), ("test", "a", 3), ("test", "b", 4))}  # fmt: skip
    archive = zipped(tmp_path / "d.zip", files)
    listing = opened(f"{archive}::train", test=f"{archive}::test").scan()
    assert columns(listing, "label", "split") == [("a", "test"), ("b", "test"), ("a", None), ("b", None)]


@pytest.mark.parametrize("name", ["../cat/1.png", "/cat/1.png", "C:\\cat\\1.png", "cat/../../1.png", "..\\1.png"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_whose_paths_leave_its_root_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    archive = pack(tmp_path / ("a.zip" if pack is zipped else "a.tar"), {**CLASSES, name: png(1)})
    with pytest.raises(SourceError, match="paths that leave its root"):
        opened(archive).scan()


def test_a_damaged_an_encrypted_and_a_compressed_archive_are_told(tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(zipped(tmp_path / "whole.zip", CLASSES).read_bytes()[:-30])
    (tmp_path / "b.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "c.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "d.bin").write_bytes(b"x")
    locked = bytearray((tmp_path / "whole.zip").read_bytes())
    at = locked.index(b"PK\x01\x02")
    locked[at + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    said_of = {"cut.zip": "zip archive", "b.tar": "as a tar", "c.tar.gz": "compressed", "d.bin": "give a folder"}
    for name, said in {**said_of, "locked.zip": "encrypted"}.items():
        with pytest.raises(SourceError, match=said):
            opened(tmp_path / name).scan()


def test_a_webdataset_is_cut_at_the_first_dot_of_the_base_name(tmp_path: Path) -> None:
    first = {"v1.0/0.image.png": png(1), "v1.0/0.cls": b"3\n", "v1.0/1.image.png": png(2), "v1.0/1.cls": b"0"}
    second = {"2.png": png(3), "2.json": json.dumps({"label": "7"}).encode(), "2.txt": b"a caption"}
    tarred(tmp_path / "shard-000.tar", first)
    tarred(tmp_path / "shard-001.tar", second)
    tarred(tmp_path / "shard-test-002.tar", {"3.png": png(4), "3.cls": b"3"})
    source = opened(tmp_path)
    listing = source.scan()
    assert columns(listing, "label", "split") == [("3", None), ("0", None), ("7", None), ("3", "test")]
    assert contents(opened(tmp_path)) == [png(1), png(2), png(3), png(4)]
    assert (
        opened(zipped(tmp_path / "l.zip", CLASSES), unlabeled=tmp_path / "shard-000.tar")
        .scan()
        .table["split"]
        .to_pylist()
        .count("unlabeled")
        == 2
    )


def test_numbers_that_a_webdataset_holds_as_bytes_are_refused_as_labels(tmp_path: Path) -> None:
    samples = {
        f"{k}.{part}": data for k in range(4) for part, data in (("png", png(k)), ("cls", bytes([0, 0, 0, k % 2])))
    }
    with pytest.raises(SourceError, match=r"label '.x00.*' holds characters that are not text"):
        opened(tarred(tmp_path / "a.tar", samples)).scan()


def test_an_archive_beside_pictures_takes_no_folder_over(tmp_path: Path) -> None:
    pool, labeled = tmp_path / "pool", zipped(tmp_path / "l.zip", CLASSES)
    pool.mkdir()
    (pool / "0001").write_bytes(png(1))
    tarred(pool / "backup.tar", {"x.png": png(2)})
    listing = opened(labeled, unlabeled=pool).scan()
    assert [path for path, label in columns(listing, "path", "label") if label is None] == [str(pool / "0001")]


def test_several_images_with_one_key_are_told(tmp_path: Path) -> None:
    files = {"0.left.png": png(1), "0.right.png": png(2), "0.cls": b"1"}
    with pytest.raises(SourceError, match="several images with one key"):
        opened(tarred(tmp_path / "a.tar", files)).scan()


def hugging_face(path: Path, labels: list[object], *, names: list[str] | None = None, seed: int = 0) -> Path:
    """A file as `datasets` writes it."""
    images = [{"bytes": png(seed + k), "path": f"{k}.png"} for k in range(len(labels))]
    feature = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "string", "_type": "Value"}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": feature}}}
    table = pa.table({"image": images, "label": labels, "patient": [k // 2 for k in range(len(labels))]})
    table = table.rename_columns(["image", "label", "group"])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), path, row_group_size=2)
    return path


def test_parquet_of_hugging_face_has_its_classes_groups_and_splits(tmp_path: Path) -> None:
    hugging_face(tmp_path / "data/train-00000-of-00001.parquet", [0, 1, 0, 1, -1], names=["cat", "dog"])
    hugging_face(tmp_path / "data/test-00000-of-00001.parquet", [1, 0], names=["cat", "dog"], seed=50)
    source = opened(tmp_path)
    listing = source.scan()
    assert columns(listing, "label", "split", "group") == [
        ("dog", "test", "0"), ("cat", "test", "0"),
        ("cat", None, "0"), ("dog", None, "0"), ("cat", None, "1"), ("dog", None, "1"), (None, None, "2"),
    ]  # fmt: skip
    assert contents(opened(tmp_path)) == [png(50), png(51), *(png(k) for k in range(5))]
    assert "2 of split test" in listing.notes[0]


def test_a_table_with_the_images_in_it_is_read_by_table_too(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "a.parquet", [0, 1, -1], names=["cat", "dog"])
    listing = open_source(config.TableSource(path=str(path))).scan()
    assert columns(listing, "label", "split") == [("cat", None), ("dog", None), (None, None)]
    assert survey(config.TableSource(path=str(path))).unlabeled_images == 1


def test_a_label_outside_the_names_and_a_missing_column_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="outside the 2 classes"):
        opened(hugging_face(tmp_path / "a.parquet", [0, 2], names=["cat", "dog"])).scan()
    pq.write_table(pa.table({"image": [png(1)], "fine": ["a"], "coarse": ["b"]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match="which column holds the labels"):
        opened(tmp_path / "b.parquet").scan()
    assert opened(f"{tmp_path / 'b.parquet'}::coarse").scan().table["label"].to_pylist() == ["b"]
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "c.parquet")
    with pytest.raises(SourceError, match="no column of images"):
        opened(tmp_path / "c.parquet").scan()


def test_an_imagefolder_of_hugging_face_is_read_by_its_list(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for k in range(4):
        (tmp_path / "train" / f"{k}.png").write_bytes(png(k))
    rows = [{"file_name": f"{k}.png", "label": "ab"[k % 2]} for k in range(4)]
    (tmp_path / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    listing = opened(tmp_path / "train", unlabeled=zipped(tmp_path / "p.zip", {"x.png": png(9)})).scan()
    assert columns(listing, "label", "split")[:2] == [(None, "unlabeled"), ("a", None)]


def test_images_that_an_imagefolder_does_not_list_and_folders_that_contradict_it_are_said(tmp_path: Path) -> None:
    for k in range(6):
        (tmp_path / "in" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "ab"[k % 2] / f"{k}.png").write_bytes(png(k))
    rows = [f"{'ab'[k % 2]}/{k}.png,{'ab'[(k + (k > 1)) % 2]}\n" for k in range(5)]
    (tmp_path / "in" / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
    notes = opened(tmp_path / "in").scan().notes
    assert any(note.startswith("1 images beside") and "b/5.png" in note for note in notes)
    assert any(note.startswith("3 images lie in a folder named after another class") for note in notes)
    (tmp_path / "in" / "metadata.csv").write_text(
        "file_name,label\n" + "".join(f"{'ab'[k % 2]}/{k}.png,{'ab'[k % 2]}\n" for k in range(6))
    )
    assert opened(tmp_path / "in").scan().notes == ()


def test_numbers_without_names_beside_named_ones_are_no_further_classes(tmp_path: Path) -> None:
    hugging_face(tmp_path / "data" / "a.parquet", [0, 1], names=["cat", "dog"])
    pq.write_table(pa.table({"label": [0, 1], "image": [png(5), png(6)]}), tmp_path / "data" / "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet' has numbers as labels and no names for them, and .*a\.parquet"):
        opened(tmp_path / "data").scan()
    hugging_face(tmp_path / "data" / "b.parquet", ["dog", "cat"], seed=9)
    assert set(opened(tmp_path / "data").scan().table["label"].to_pylist()) == {"cat", "dog"}


@pytest.fixture(scope="module")
def tensorflow_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as TensorFlow Datasets leaves it, written by TensorFlow itself."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("tfds") / "1.0.0"
    folder.mkdir()
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    for split, count in (("train", 4), ("test", 2)):
        with tf.io.TFRecordWriter(str(folder / f"pets-{split}.tfrecord-00000-of-00001")) as writer:
            for k in range(count):
                feature = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png(k + 10 * count)])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[k % 2])),
                    "score": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return folder


def test_records_that_tensorflow_wrote_are_read_with_their_class_names(tensorflow_records: Path) -> None:
    listing = opened(tensorflow_records).scan()
    expected = [("cat", "test"), ("dog", "test"), ("cat", None), ("dog", None), ("cat", None), ("dog", None)]
    assert columns(listing, "label", "split") == expected
    assert contents(opened(tensorflow_records)) == [png(20), png(21), png(40), png(41), png(42), png(43)]


def test_a_cut_record_file_is_told(tensorflow_records: Path, tmp_path: Path) -> None:
    whole = (tensorflow_records / "pets-train.tfrecord-00000-of-00001").read_bytes()
    for name, data in {
        "a": whole[:-3],
        "b": whole[:5],
        "c": struct.pack("<QI", 3, 0) + b"\xff\xff\xff" + bytes(4),
    }.items():
        path = tmp_path / f"{name}.tfrecord"
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"not a whole TFRecord|not a tf.train.Example"):
            opened(path).scan()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("s3")
    with bucket(folder) as running:
        for name, data in CLASSES.items():
            (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "data" / name).write_bytes(data)
        (folder / "data" / "pool").mkdir()
        for k in range(6):
            (folder / "data" / "pool" / f"{k}.png").write_bytes(png(100 + k))
        (folder / "data" / "pool" / "notes.txt").write_text("x")
        yield running


def test_a_bucket_holds_labelled_images_and_the_pool(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**server.environment(), "AWS_ACCESS_KEY_ID": "camera", "AWS_SECRET_ACCESS_KEY": "film"}.items():
        monkeypatch.setenv(name, value)
    roles = config.FolderSource(labeled="s3://data/photos", unlabeled="s3://data/pool")
    seen = survey(roles)
    assert (dict(seen.classes), seen.unlabeled_images, seen.ignored_files) == ({"cat": 3, "mouse": 3}, 6, 1)
    source, store = open_source(roles), ImageStore(tmp_path / "store")
    splitting = config.Splitting(min_per_class=1)
    done = ingest(source, source.scan(), store, settings=config.Ingest(), splitting=splitting)
    assert (len(done.manifest), done.files_read, done.quarantine.num_rows) == (12, 12, 0)
    assert ingest(source, source.scan(), store, settings=config.Ingest(), splitting=splitting).files_read == 0
    with pytest.raises(SourceError, match=r"without a label directly below"):
        opened("s3://data/pool").scan()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SourceError, match=r"cannot be listed"):
        opened("s3://data/photos").scan()


def test_a_group_of_a_parquet_file_is_on_one_side(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "a.parquet", [str(k % 2) for k in range(24)])
    source = opened(path)
    done = ingest(
        source, source.scan(), ImageStore(tmp_path / "store"), settings=config.Ingest(), splitting=config.Splitting()
    )
    sides: dict[int, set[str]] = {}
    for origin, split in zip(*(done.manifest.table[name].to_pylist() for name in ("origin", "split")), strict=True):
        sides.setdefault(int(origin.partition("::")[2][:9]) // 2, set()).add(split)
    assert len(sides) == 12
    assert all(len(each) == 1 for each in sides.values())


def test_splits_in_an_archive_are_not_taken_for_classes(tmp_path: Path) -> None:
    files = {f"{split}/{name}/0.png": png(1) for split in ("train", "Val") for name in ("a", "b")}
    archive = zipped(tmp_path / "d.zip", files)
    with pytest.raises(
        SourceError, match=rf"are splits, not classes .*--validation {archive}::Val --labeled .*::train"
    ):
        opened(archive).scan()
    assert len(opened(f"{archive}::train", validation=f"{archive}::Val").scan()) == 4


def test_marks_of_no_label_in_samples_are_no_class_and_are_said(tmp_path: Path) -> None:
    marks = {"0": "cat", "1": "-1", "2": "nan", "3": "dog"}
    files = {f"{key}.{part}": png(int(key)) if part == "png" else mark.encode() for key, mark in marks.items()
             for part in ("png", "cls")}  # fmt: skip
    listing = opened(tarred(tmp_path / "a.tar", files)).scan()
    assert listing.table["label"].to_pylist() == ["cat", None, None, "dog"]
    assert listing.notes == (
        f"source.labeled: '{tmp_path}/a.tar': 2 rows have no label: they say '-1', 'nan'; if that is a class, write "
        "source.no_label: [], or give --class to `selftrain init`",
        f"2 images of '{tmp_path}/a.tar' have no label: they join the unlabelled ones",
    )


def test_a_class_that_is_called_none_can_be_one(tmp_path: Path) -> None:
    table = hugging_face(tmp_path / "a.parquet", ["none", "ring", "none", "scratch"])
    files = {f"{key}.{part}": png(key) if part == "png" else name.encode() for key, name in enumerate(("none", "ring"))
             for part in ("png", "cls")}  # fmt: skip
    samples = tarred(tmp_path / "a.tar", files)
    folders = zipped(tmp_path / "a.zip", {f"{name}/0.png": png(1) for name in ("none", "ring")})
    for place, names in ((table, ("none", "ring", "scratch")), (samples, ("none", "ring"))):
        assert "none" not in labels_of(place)
        assert labels_of(place, no_label=[]) == set(names)
    assert labels_of(folders) == {"none", "ring"}, "a folder's name is a class, whatever it says"
    listed = hugging_face(tmp_path / "b.parquet", [0, 1, -1], names=["none", "ring"])
    assert labels_of(listed) == {"none", "ring", None}, "nor is that of a class in the file's own list"
    assert labels_of(folders, no_label=["none"]) == {None, "ring"}
    with pytest.raises(
        SourceError, match=r"source\.test: .*they say 'none', and test images need one; if that is a cl"
    ):
        opened(table, test=f"{table}::label").scan()


def labels_of(labeled: Path, **settings: object) -> set[str | None]:
    source = config.FolderSource.model_validate({"labeled": str(labeled), **settings})
    return set(open_source(source).scan().table["label"].to_pylist())


def test_a_class_folder_can_be_said_to_have_no_label(tmp_path: Path) -> None:
    for name in ("cat", "dog", "unsorted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(len(name)))
    assert labels_of(tmp_path) == {"cat", "dog", "unsorted"}
    assert labels_of(tmp_path, no_label=["unsorted"]) == {"cat", "dog", None}


def test_float_labels_of_a_parquet_file_are_whole_numbers_and_nan_is_none(tmp_path: Path) -> None:
    images = [{"bytes": png(row), "path": f"{row}.png"} for row in range(3)]
    labels = pa.array([1.0, float("nan"), -1.0])
    pq.write_table(pa.table({"image": images, "mask": images, "label": labels}), tmp_path / "a.parquet")
    listing = opened(tmp_path / "a.parquet").scan()
    assert listing.table["label"].to_pylist() == ["1", None, None]
    assert "the images are read from 'image', not from mask" in listing.notes[0]
