import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from benchmarks.bucket import SECRET, BucketServer, served
from selftrain import config
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import ConfigError, InboxError, SourceError
from selftrain.files.remote import Bucket, Folder, RemoteFile
from selftrain.retraining import collecting
from selftrain.retraining.apart import check_apart
from selftrain.retraining.collecting import Collected, collect, memory_path, open_source_with_inbox

NOW = datetime(2030, 12, 1, 3, tzinfo=UTC)  # later than any file that a test writes


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, Any]:
    """Values of an experiment on the digits, with an inbox in `inbox/`."""
    (tmp_path / "inbox").mkdir()
    return {
        "name": "shop",
        "workspace": str(tmp_path / "workspace"),
        "inbox": {"url": str(tmp_path / "inbox")},
        "source": {"kind": "digits", "labeled": 100, "validation": 50, "test": 50},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    server = served(tmp_path_factory.mktemp("buckets"))
    yield server
    server.stop()


def photo(path: Path, seed: int) -> Path:
    """A small image of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def resolve(reference: str) -> str:
    return {"env:SECRET": SECRET}[reference]


def gather(shop: dict[str, Any], *, now: datetime = NOW, dry_run: bool = False, **inbox: object) -> Collected:
    """One look, with further keys of the inbox."""
    experiment = config.parse({**shop, "inbox": {**shop["inbox"], **inbox}})
    return collect(experiment, run="night", now=now, resolve=resolve, dry_run=dry_run)


def rows(shop: dict[str, Any]) -> list[dict[str, Any]]:
    store = open_dataset(config.parse(shop).place).store
    found: list[dict[str, Any]] = read_intake(intake_path(store.root)).to_pylist()
    return found


def ingested(shop: dict[str, Any]) -> IngestResult:
    e = config.parse(shop)
    source = open_source_with_inbox(e.source, e.place, e.ingest, e.inbox, resolve=resolve)
    store = open_dataset(e.place).store
    return ingest(source, source.scan(), store, settings=e.ingest, splitting=e.splitting, workers=1)


def test_of_a_thousand_files_of_which_thirty_are_broken_the_others_are_taken(
    shop: dict[str, Any], tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    for number in range(1000):
        path = photo(inbox / f"{number % 7}" / f"{number:04d}.bmp", seed=number)
        if number % 100 in (3, 50, 97):
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] if number % 2 else b"<html>" + data)
    collected = gather(shop)
    assert (collected.listed, collected.taken, collected.new_images) == (1000, 1000, 970)
    assert collected.quarantined == {"truncated": 20, "not_an_image": 10}
    assert collected.waiting == {}
    again = gather(shop)
    assert (again.known, again.taken, again.intake_rows) == (1000, 0, 1000)


def test_an_inbox_with_only_copies_brings_nothing_new(shop: dict[str, Any], tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    for number in range(5):
        photo(inbox / f"{number}.png", seed=number)
    gather(shop)
    for number in range(5):
        shutil.copy(inbox / f"{number}.png", inbox / f"again{number}.png")
    collected = gather(shop)
    assert (collected.taken, collected.new_images, collected.copies) == (5, 0, 5)
    assert len(ingested(shop).manifest) == 1797 + 5


def test_what_was_taken_in_joins_the_unlabelled_pool_without_being_read_again(
    shop: dict[str, Any], tmp_path: Path
) -> None:
    before = ingested(shop)
    for number in range(6):
        photo(tmp_path / "inbox" / f"{number}.png", seed=number)
    gather(shop)
    after = ingested(shop)
    assert after.files_read == 0
    assert len(after.manifest) == len(before.manifest) + 6
    origins = after.manifest.table.filter(pc.starts_with(after.manifest.table["origin"], str(tmp_path)))
    assert origins.num_rows == 6
    assert set(origins["split"].cast("string").to_pylist()) == {"unlabeled"}
    assert after.quarantine_share == before.quarantine_share == 0


def test_copies_and_near_copies_of_held_out_images_are_left_out_as_in_ingest(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(12):
            seed = number + 100 * (name == "dog")
            cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
            for split in ("labeled", "test") if number < 10 else ("labeled",):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                side = 48
                shift = np.uint8(40) if split == "test" else np.uint8(0)
                Image.fromarray(cells ^ shift).resize((side, side), Image.Resampling.BICUBIC).save(path)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    shutil.copy(tmp_path / "test" / "cat" / "1.png", inbox / "same.png")
    with Image.open(tmp_path / "test" / "dog" / "2.png") as image:
        image.save(inbox / "alike.jpg", quality=92)
    photo(inbox / "other.png", seed=7)
    shop = {
        "name": "pets",
        "workspace": str(tmp_path / "workspace"),
        "inbox": {"url": str(inbox)},
        "source": {"kind": "folder", "labeled": str(tmp_path / "labeled"), "test": str(tmp_path / "test")},
    }
    assert gather(shop).taken == 3
    result = ingested(shop)
    assert result.held_out_copies == 2
    left_out = dict(zip(result.quarantine["origin"].to_pylist(), result.quarantine["reason"].to_pylist(), strict=True))
    assert left_out[str(inbox / "same.png")] == left_out[str(inbox / "alike.jpg")] == "held_out_copy"
    assert str(inbox / "other.png") in result.manifest.table["origin"].to_pylist()


def test_a_late_file_with_an_old_time_is_taken(shop: dict[str, Any], tmp_path: Path) -> None:
    photo(tmp_path / "inbox" / "today.png", seed=1)
    gather(shop)
    late = photo(tmp_path / "inbox" / "late.png", seed=2)
    os.utime(late, (1_000_000_000, 1_000_000_000))
    assert gather(shop, now=NOW + timedelta(hours=1)).new_images == 1


def test_empty_and_growing_files_wait_until_they_are_whole(shop: dict[str, Any], tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "empty.png").touch()
    whole = photo(tmp_path / "whole.png", seed=1).read_bytes()
    now = datetime.now(UTC)
    (inbox / "growing.png").write_bytes(whole[:100])
    assert gather(shop, now=now).waiting == {"empty": 1, "unsettled": 1}
    (inbox / "growing.png").write_bytes(whole)
    os.utime(inbox / "growing.png", (1_000_000_000, 1_000_000_000))
    assert gather(shop, now=now + timedelta(seconds=50)).waiting == {"empty": 1, "unsettled": 1}
    last = gather(shop, now=now + timedelta(seconds=200))
    assert (last.new_images, last.quarantined, last.waiting) == (1, {}, {"empty": 1})


def test_the_inbox_is_left_as_it_was(shop: dict[str, Any], tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    photo(inbox / "day" / "a.png", seed=1)
    (inbox / "b.jpg").write_bytes(b"broken")

    def state() -> list[tuple[str, int, int, int]]:
        paths = sorted([inbox, *inbox.rglob("*")])
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths]

    before = state()
    assert gather(shop).taken == 2
    ingested(shop)
    assert state() == before


def test_a_dry_run_says_what_would_be_taken_and_writes_nothing(shop: dict[str, Any], tmp_path: Path) -> None:
    photo(tmp_path / "inbox" / "a.png", seed=1)
    assert gather(shop, dry_run=True).taken == 1
    assert rows(shop) == []
    assert not memory_path(open_dataset(config.parse(shop).place).store).exists()


def test_a_day_takes_no_more_than_its_cap_and_the_next_goes_on(shop: dict[str, Any], tmp_path: Path) -> None:
    for number in range(7):
        photo(tmp_path / "inbox" / f"{number}.png", seed=number)
    first = gather(shop, max_per_day=5)
    assert (first.new_images, first.waiting) == (5, {"over_cap": 2})
    assert gather(shop, max_per_day=5, now=NOW + timedelta(hours=20)).waiting == {"over_cap": 2}
    assert gather(shop, max_per_day=5, now=NOW + timedelta(hours=21)).new_images == 2


def test_what_was_answered_is_kept_with_the_image(shop: dict[str, Any], tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    said = {"label": "3", "confidence": 0.4, "model_version": "7", "when": "2026-12-01T03:00:00Z"}
    photo(inbox / "served.png", seed=1)
    (inbox / "served.png.json").write_text(json.dumps(said))
    photo(inbox / "broken.png", seed=2)
    (inbox / "broken.png.json").write_text("{half of it")
    photo(inbox / "camera.png", seed=3)
    collected = gather(shop)
    assert (collected.new_images, collected.bad_sidecars, collected.ignored) == (3, 1, 0)
    answers = {Path(row["path"]).name: (row["answer"], row["confidence"], row["answered_by"]) for row in rows(shop)}
    assert answers == {"served.png": ("3", 0.4, "7"), "broken.png": (None,) * 3, "camera.png": (None,) * 3}


def test_a_rule_on_confidence_reads_the_answers_and_leaves_the_sure_ones_out_for_good(
    shop: dict[str, Any], tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    for number in range(10):
        photo(inbox / f"{number}.png", seed=number)
        said = {"label": "3", "confidence": number / 10, "model_version": "7"}
        (inbox / f"{number}.png.json").write_text(json.dumps(said))
    rule = {"rule": "low_confidence", "below": 0.55, "control": 0.0}
    collected = gather(shop, sampling=rule)
    assert (collected.new_images, collected.not_sampled, collected.quarantined) == (6, 4, {})
    again = gather(shop, sampling=rule)
    assert (again.known, again.taken, again.not_sampled) == (10, 0, 0)


def test_a_damaged_memory_of_the_last_look_only_lets_files_wait_once_more(shop: dict[str, Any], tmp_path: Path) -> None:
    photo(tmp_path / "inbox" / "a.png", seed=1)
    now = datetime.now(UTC)
    assert gather(shop, now=now).waiting == {"unsettled": 1}
    memory_path(open_dataset(config.parse(shop).place).store).write_text('{"url":')
    assert gather(shop, now=now + timedelta(seconds=30)).waiting == {"unsettled": 1}
    assert gather(shop, now=now + timedelta(seconds=100)).new_images == 1


def test_an_experiment_without_an_inbox_is_told_to_add_one(shop: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'shop' has no section `inbox`; add one"):
        collect(config.parse({**shop, "inbox": None}), run="", now=NOW, resolve=resolve)


def test_an_inbox_inside_the_source_is_refused_before_anything_is_taken(shop: dict[str, Any], tmp_path: Path) -> None:
    source = {"kind": "folder", "labeled": str(tmp_path / "labeled"), "unlabeled": str(tmp_path / "inbox" / "..")}
    shop["inbox"]["url"] = f"file://{tmp_path}/inbox"
    with pytest.raises(ConfigError, match=r"which lie in each other; give the inbox a folder of its own"):
        gather({**shop, "source": source})


def test_a_table_that_lists_files_of_the_inbox_is_refused(shop: dict[str, Any], tmp_path: Path) -> None:
    path = photo(tmp_path / "inbox" / "a.png", seed=1)
    gather(shop)
    labels = [f"{photo(tmp_path / 'own' / f'{n}.png', seed=10 + n)},{'ab'[n % 2]}" for n in range(20)]
    (tmp_path / "table.csv").write_text("path,label\n" + "\n".join([*labels, f"{path},"]))
    with pytest.raises(SourceError, match=r"1 files are in the source and in the inbox, such as '.*a\.png'"):
        ingested({**shop, "source": {"kind": "table", "path": str(tmp_path / "table.csv"), "root": "/"}})


def in_bucket(shop: dict[str, Any], server: BucketServer, name: str, **options: str) -> dict[str, Any]:
    """The experiment with its inbox in a bucket of the server."""
    storage = {key: value for key, value in {**server.options, **options}.items() if key != "secret"}
    inbox = {"url": f"s3://{name}/new", "storage": storage, "secrets": {"secret": "env:SECRET"}}
    return {**shop, "inbox": inbox}


def test_images_of_a_bucket_are_taken_by_their_etags_and_trained_on(shop: dict[str, Any], server: BucketServer) -> None:
    folder = server.folder / "cameras" / "new"
    for number in range(20):
        photo(folder / f"{number}.png", seed=number)
    shop = in_bucket(shop, server, "cameras")
    collected = gather(shop)
    assert (collected.new_images, collected.waiting) == (20, {})
    assert rows(shop)[0]["path"].startswith("s3://cameras/new/")
    assert all(len(row["version"]) == 32 for row in rows(shop))
    kept = folder / "3.png"
    times = kept.stat().st_mtime_ns
    photo(kept, seed=99)
    os.utime(kept, ns=(times, times))
    assert gather(shop).new_images == 1, "the etag alone says that it is another image"
    assert len(ingested(shop).manifest) == 1797 + 21


def test_a_bucket_that_refuses_the_key_changes_nothing(shop: dict[str, Any], server: BucketServer) -> None:
    (server.folder / "locked" / "new").mkdir(parents=True)
    with pytest.raises(InboxError, match=r"check the key \(inbox.secrets\)") as caught:
        gather(in_bucket(shop, server, "locked", key="nobody"))
    assert SECRET not in caught.value.message
    assert rows(shop) == []


def test_a_bucket_that_vanishes_half_way_stops_the_collect_and_the_next_one_takes_the_rest(
    shop: dict[str, Any], server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = server.folder / "vanishing"
    for number in range(60):
        photo(bucket / "new" / f"{number:02d}.png", seed=number)
    shop = in_bucket(shop, server, "vanishing")
    listed = collecting.look_at_inbox

    def then_gone(*args: Any, **kwargs: Any) -> collecting.InboxLook:
        seen = listed(*args, **kwargs)
        for number in range(20, 60):
            (bucket / "new" / f"{number:02d}.png").unlink()
        return seen

    def then_all_gone(*args: Any, **kwargs: Any) -> collecting.InboxLook:
        seen = listed(*args, **kwargs)
        bucket.rename(server.folder / "away")
        return seen

    with monkeypatch.context() as patched:
        patched.setattr(collecting, "look_at_inbox", then_all_gone)
        with pytest.raises(InboxError, match=r"is not there .*The specified bucket does not exist"):
            gather(shop)
    assert rows(shop) == []
    (server.folder / "away").rename(bucket)
    with monkeypatch.context() as patched:
        patched.setattr(collecting, "look_at_inbox", then_gone)
        part = gather(shop)
    assert (part.new_images, part.waiting) == (20, {"unreadable": 40})
    assert len(part.unread) == 5
    for number in range(60):
        photo(bucket / "new" / f"{number:02d}.png", seed=number)
    assert gather(shop).new_images == 40


class Dying(Folder):
    """A folder whose disk goes after the tenth file, and which then cannot be listed."""

    def read(self, file: RemoteFile) -> bytes:
        if Path(file.path).name >= "10.png":
            raise OSError("Input/output error")
        return super().read(file)

    def check(self) -> None:
        raise InboxError("the inbox is gone")


class Expiring:
    """A bucket's file system whose key expires after ten reads, as S3 says it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reads = folder, 0

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
        files = sorted(self.folder.iterdir())
        return {f"{path}/{file.name}": {"size": file.stat().st_size, "mtime": file.stat().st_mtime} for file in files}

    def cat_file(self, path: str) -> bytes:
        self.reads += 1
        if self.reads > 10:
            raise PermissionError("The provided token has expired.")
        return (self.folder / Path(path).name).read_bytes()

    def info(self, path: str) -> dict[str, object]:
        raise PermissionError("The provided token has expired.")


def test_a_key_that_expires_half_way_says_so_and_loses_nothing(
    shop: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = tmp_path / "inbox"
    for number in range(30):
        photo(inbox / f"{number:02d}.png", seed=number)
    key = Expiring(inbox)
    monkeypatch.setattr(collecting, "open_inbox", lambda *_: Bucket(key, "cameras", "s3://cameras"))
    with pytest.raises(InboxError, match="refuses the key, which has expired; renew it"):
        gather(shop)
    assert rows(shop) == []
    key.reads = -100
    assert gather(shop).new_images == 30


def test_what_was_finished_before_an_inbox_died_is_not_read_again(
    shop: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selftrain.data.ingest import chunks

    monkeypatch.setattr(chunks, "_SMALLEST_SHARD_BYTES", 5_000)
    inbox = tmp_path / "inbox"
    for number in range(30):
        photo(inbox / f"{number:02d}.png", seed=number)
    with monkeypatch.context() as patched:
        patched.setattr(collecting, "open_inbox", lambda *_: Dying(str(inbox)))
        with pytest.raises(InboxError, match="the inbox is gone"):
            gather(shop)
    store = open_dataset(config.parse(shop).place).store
    finished = list(store.pending.glob("[!.]*.json"))
    assert finished
    next_one = gather(shop)
    assert (next_one.new_images, next_one.waiting) == (28, {"unreadable": 2}), "two failed before it was known why"
    assert gather(shop).new_images == 2
    assert len(rows(shop)) == 30


def test_an_inbox_inside_the_bucket_of_the_pool_is_refused() -> None:
    source = config.FolderSource(labeled="photos", unlabeled="s3://data/pool")
    inbox = Bucket(LocalFileSystem(), "data/pool/new", "s3://data/pool/new")
    with pytest.raises(ConfigError, match="lie in each other"):
        check_apart(source, inbox)
    check_apart(source, Bucket(LocalFileSystem(), "data/pool-2", "s3://data/pool-2"))
