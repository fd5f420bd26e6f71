import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from selftrain import config
from selftrain.data.ingest.intake import Batch, TakenIn, mend, take_in
from selftrain.data.intake_table import (
    Answer,
    IntakeRow,
    append_intake,
    held_images,
    intake_path,
    read_intake,
)
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.shards import count_records
from selftrain.errors import ManifestError, SourceError
from selftrain.files.remote import RemoteFile, open_remote

Draw = Callable[..., Path]
NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "datasets" / "shop")


def take(store: ImageStore, inbox: Path, **more: object) -> TakenIn:
    """Everything in the folder is taken in."""
    remote = open_remote(str(inbox), {})
    options = {"run": "night", "now": NOW, "settings": config.Ingest(), **more}
    return take_in(store, remote, Batch(remote.list().files), **options)  # type: ignore[arg-type]


def forked(inbox: Path, *takes: tuple[Path, int]) -> list[int]:
    """How each take ended, whose store and step are given."""
    pairs = [str(each) for pair in takes for each in pair]
    command = [sys.executable, "-m", "tests.data.ingest.forked_takes", str(inbox), *pairs]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return [int(code) for code in done.stdout.split()]


def intake(store: ImageStore) -> pa.Table:
    return read_intake(intake_path(store.root))


def records(store: ImageStore) -> int:
    """Images in all shards together."""
    return sum(count_records(path) for path in store.shards.glob("*.arrayrecord"))


@pytest.mark.parametrize("name", ["a.pgm", "a.jp2"])
def test_new_grey_pictures_are_read_by_the_bits_of_the_set(store: ImageStore, tmp_path: Path, name: str) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 1 << 12, (48, 48), np.uint16)).save(inbox / name)
    take(store, inbox, settings=config.Ingest(bits=12))
    assert intake(store)["reason"].to_pylist() == [None]
    assert records(store) == 1


def test_other_bits_lose_no_image_whose_file_has_left_the_inbox(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    inbox = tmp_path / "inbox"
    draw(inbox / "a.png", seed=1)
    deep = np.random.default_rng(0).integers(0, 1 << 12, (48, 48), np.uint16)
    Image.fromarray(deep).save(inbox / "b.png")
    take(store, inbox, settings=config.Ingest(bits=12))
    before = store.index()
    for path in inbox.iterdir():
        path.unlink()

    def mended(bits: int | None) -> pa.Table:
        settings = config.Ingest.model_validate({"bits": bits})
        assert mend(store, lambda: open_remote(str(inbox), {}), settings=settings) == 0
        return store.index()

    for refused, said in ((10, "too_deep|largest is"), (None, "Set ingest.bits")):
        with pytest.raises(SourceError, match=rf"1 images .* from the inbox cannot be read .*({said})"):
            mended(refused)
        assert store.index().equals(before, check_metadata=True), "nothing was changed"
    deeper = mended(14)
    assert deeper["image_id"].equals(before["image_id"])
    draw(inbox / "c.png", seed=2)
    take(store, inbox, settings=config.Ingest(bits=12))
    assert mended(12)["image_id"].null_count == 0
    assert mended(12).num_rows == 3


def test_each_file_becomes_a_row_that_says_from_where_and_when_and_what_became_of_it(
    store: ImageStore, tmp_path: Path, draw: Draw
) -> None:
    inbox = tmp_path / "inbox"
    draw(inbox / "a.png", seed=1)
    (inbox / "b.jpg").write_bytes(b"not an image")
    remote = open_remote(str(inbox), {})
    answers = {str(inbox / "a.png"): Answer("cat", 0.75, "3")}
    batch = Batch(remote.list().files, (), answers)

    taken = take_in(store, remote, batch, run="night", now=NOW, settings=config.Ingest())

    good, bad = intake(store).to_pylist()
    status = (inbox / "a.png").stat()
    assert good == {
        "path": str(inbox / "a.png"),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "version": "",
        "image_id": hashlib.sha256((inbox / "a.png").read_bytes()).hexdigest(),
        "reason": None,
        "taken_at": NOW,
        "run": "night",
        "answer": "cat",
        "confidence": 0.75,
        "answered_by": "3",
    }
    assert (bad["image_id"], bad["reason"], bad["answer"]) == (None, "not_an_image", None)
    assert (taken.new_images, taken.copies, taken.quarantined) == (1, 0, {"not_an_image": 1})


def test_personal_metadata_are_not_stored_unless_they_are_asked_for(store: ImageStore, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    exif = Image.Exif()
    exif[0x013B] = "Erika-Mustermann"
    Image.new("RGB", (16, 16), "red").save(inbox / "a.jpg", exif=exif)
    assert take(store, inbox).new_images == 1
    assert not any(b"Erika" in path.read_bytes() for path in store.shards.iterdir())

    other = ImageStore(tmp_path / "datasets" / "with")
    take(other, inbox, keep_metadata=True)
    assert any(b"Erika" in path.read_bytes() for path in other.shards.iterdir())


def test_a_second_collect_of_the_same_files_takes_nothing(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    inbox = tmp_path / "inbox"
    draw(inbox / "a.png", seed=1)
    take(store, inbox)
    assert take(store, inbox).rows == ()
    assert (intake(store).num_rows, records(store)) == (1, 1)


def test_the_same_bytes_are_stored_once_and_count_as_copies(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    inbox = tmp_path / "inbox"
    data = draw(inbox / "a.png", seed=1).read_bytes()
    (inbox / "b.png").write_bytes(data)
    first = take(store, inbox)
    (inbox / "c.png").write_bytes(data)
    second = take(store, inbox)
    assert [(each.new_images, each.copies) for each in (first, second)] == [(1, 1), (0, 1)]
    assert intake(store)["reason"].to_pylist() == [None, "duplicate", "duplicate"]
    assert intake(store)["image_id"].value_counts().to_pylist()[0]["counts"] == 3
    assert records(store) == 1


def test_a_changed_file_is_a_new_one_and_the_earlier_image_stays(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    inbox = tmp_path / "inbox"
    draw(inbox / "a.png", seed=1)
    take(store, inbox)
    draw(inbox / "a.png", seed=2, side=50)
    assert take(store, inbox).new_images == 1
    images = held_images(intake(store))
    assert len(set(images["image_id"].to_pylist())) == 2
    assert images["name"][0].as_py() == str(inbox / "a.png")
    index = dict(zip(store.index()["path"].to_pylist(), store.index()["image_id"].to_pylist(), strict=True))
    assert [index[name] for name in images["name"].to_pylist()] == images["image_id"].to_pylist()


def test_a_file_that_cannot_be_read_waits_and_is_taken_once_it_can(
    store: ImageStore, tmp_path: Path, draw: Draw
) -> None:
    inbox = tmp_path / "inbox"
    draw(inbox / "a.png", seed=1)
    draw(inbox / "b.png", seed=2)
    remote = open_remote(str(inbox), {})
    listed = remote.list().files
    (inbox / "b.png").rename(tmp_path / "away.png")
    options = {"run": "", "now": NOW, "settings": config.Ingest()}

    first = take_in(store, remote, Batch(listed), **options)  # type: ignore[arg-type]
    assert list(first.waiting) == [str(inbox / "b.png")]
    assert (first.new_images, first.quarantined) == (1, {})

    (tmp_path / "away.png").rename(inbox / "b.png")
    second = take_in(store, remote, Batch(listed), **options)  # type: ignore[arg-type]
    assert (second.new_images, dict(second.waiting)) == (1, {})


def test_a_file_that_grows_while_it_is_read_waits(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    inbox = tmp_path / "inbox"
    whole = draw(inbox / "a.png", seed=1).read_bytes()
    (inbox / "a.png").write_bytes(whole[:100])
    remote = open_remote(str(inbox), {})
    listed = remote.list().files
    (inbox / "a.png").write_bytes(whole)
    taken = take_in(store, remote, Batch(listed), run="", now=NOW, settings=config.Ingest())
    assert taken.rows == ()
    assert "changed after it was listed" in taken.waiting[str(inbox / "a.png")]
    assert take(store, inbox).new_images == 1


def test_two_collects_that_saw_the_same_files_take_them_once(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    for number in range(5):
        draw(tmp_path / "inbox" / f"{number}.png", seed=number)
    assert forked(tmp_path / "inbox", (store.root, -1), (store.root, -1)) == [0, 0]
    assert (intake(store).num_rows, records(store)) == (5, 5)


def test_what_the_sampling_left_out_is_written_down_and_not_read(store: ImageStore, tmp_path: Path) -> None:
    left_out = RemoteFile(str(tmp_path / "never-there.jpg"), 9, 1, "", 0)
    remote = open_remote(str(tmp_path), {})
    taken = take_in(store, remote, Batch((), (left_out,)), run="", now=NOW, settings=config.Ingest())
    assert intake(store)["reason"].to_pylist() == ["not_sampled"]
    assert (taken.new_images, taken.quarantined) == (0, {})


def test_a_collect_that_is_killed_at_any_point_is_finished_by_the_next(tmp_path: Path, draw: Draw) -> None:
    for number in range(12):
        draw(tmp_path / "inbox" / f"{number:02d}.png", seed=number % 10)
    (tmp_path / "inbox" / "bad.png").write_bytes(b"broken")
    whole = ImageStore(tmp_path / "whole")
    take(whole, tmp_path / "inbox", run="")
    wanted = intake(whole).drop_columns(["taken_at"]).to_pylist()
    killed = [(tmp_path / f"killed-{step}", step) for step in range(16)]

    ends = forked(tmp_path / "inbox", *killed)

    assert set(ends) == {0, -signal.SIGKILL}, "the last of the steps comes after the end"
    for root, _ in killed:
        store = ImageStore(root)
        take(store, tmp_path / "inbox", run="")
        assert intake(store).drop_columns(["taken_at"]).to_pylist() == wanted
        assert not list(root.rglob("*.part"))
        assert not store.pending.exists()
        assert store.index()["image_id"].to_pylist() == whole.index()["image_id"].to_pylist()


def test_a_wiped_store_is_not_taken_for_the_one_before(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "inbox" / "a.png", seed=1)
    take(store, tmp_path / "inbox")
    first = store.id()
    assert store.id() == first
    for path in store.shards.iterdir():
        path.unlink()
    draw(tmp_path / "inbox" / "b.png", seed=2)
    take(store, tmp_path / "inbox")
    assert store.id() != first


def test_a_lost_shard_is_read_again_from_the_inbox(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "inbox" / "a.png", seed=1)
    take(store, tmp_path / "inbox")
    remote = open_remote(str(tmp_path / "inbox"), {})

    def never() -> None:
        raise AssertionError("nothing is lost")

    assert mend(store, never, settings=config.Ingest()) == 0  # type: ignore[arg-type]
    for path in store.shards.iterdir():
        path.unlink()
    assert mend(store, lambda: remote, settings=config.Ingest()) == 1
    assert records(store) == 1
    assert intake(store).num_rows == 1


def test_a_lost_shard_whose_files_are_gone_stops_with_the_remedy(store: ImageStore, tmp_path: Path, draw: Draw) -> None:
    path = draw(tmp_path / "inbox" / "a.png", seed=1)
    take(store, tmp_path / "inbox")
    for shard in store.shards.iterdir():
        shard.unlink()
    draw(path, seed=2)
    remote = open_remote(str(tmp_path / "inbox"), {})
    with pytest.raises(ManifestError, match=r"1 images taken in .*a\.png'; restore the data set"):
        mend(store, lambda: remote, settings=config.Ingest())


def test_a_damaged_intake_stops_and_is_not_taken_for_an_empty_one(store: ImageStore, tmp_path: Path) -> None:
    store.root.mkdir(parents=True)
    intake_path(store.root).write_bytes(b"PAR1 and no more")
    (tmp_path / "inbox").mkdir()
    with pytest.raises(ManifestError, match=r"is damaged .*restore the data set"):
        take(store, tmp_path / "inbox")


Rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.sampled_from([None, "x", "y", "z"])), max_size=12
)


@settings(max_examples=40)
@given(rows=Rows)
def test_every_image_of_the_intake_is_held_once_under_a_name_of_its_own(
    rows: list[tuple[str, int, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("intake") / "intake.parquet"
    unique = list(dict.fromkeys(rows))
    append_intake(path, [IntakeRow(name, size, 0, "", image_id, None, NOW, "") for name, size, image_id in unique])
    images = held_images(read_intake(path))
    assert sorted(images["image_id"].to_pylist()) == sorted({row[2] for row in rows if row[2]})
    by_version: dict[str, tuple[str, int]] = {}
    for row in images.to_pylist():
        assert by_version.setdefault(row["name"], (row["path"], row["size"])) == (row["path"], row["size"])
