import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from selftrain import config
from selftrain.data.ingest.chunks import cut_into_chunks
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import QuarantineError, SourceError

LOOSE = config.Ingest(max_quarantine=1.0)


def run(
    root: Path, *, settings: config.Ingest = LOOSE, store: str = "store", workers: int | None = None, **folders: str
) -> IngestResult:
    named = {"labeled": "labeled", "unlabeled": "unlabeled"} | folders
    source = open_source(config.FolderSource(**{role: str(root / folder) for role, folder in named.items()}))
    kept = ImageStore(root / store)
    return ingest(source, source.scan(), kept, settings=settings, splitting=config.Splitting(), workers=workers)


def reasons(done: IngestResult) -> dict[str, str]:
    return {Path(row["origin"]).name: row["reason"] for row in done.quarantine.to_pylist()}


def splits(manifest: Manifest) -> dict[str, str]:
    table = manifest.table
    return {
        Path(path).name: split for path, split in zip(*(table[n].to_pylist() for n in ("origin", "split")), strict=True)
    }


def test_every_good_file_becomes_a_row_with_its_label_and_bytes(folders: Path) -> None:
    done = run(folders)
    table = done.manifest.table
    assert len(done.manifest) == 34
    assert done.quarantine.num_rows == 0
    stored = ImageStore(folders / "store").read(table["shard"].to_pylist(), table["index"].to_numpy())
    for row, data in zip(table.to_pylist(), stored, strict=True):
        assert Path(row["origin"]).read_bytes() == data
        assert hashlib.sha256(data).hexdigest() == row["image_id"]
        folder = Path(row["origin"]).parent.name
        assert row["label"] == {"cat": 0, "dog": 1, "unlabeled": None}[folder]
        assert (row["split"] == "unlabeled") == (folder == "unlabeled")
    assert Manifest.read(folders / "store" / "manifest.parquet").digest == done.manifest.digest


def test_bad_files_are_quarantined_with_their_reason_and_nothing_else_suffers(folders: Path, draw: Callable) -> None:
    pool = folders / "unlabeled"
    whole = draw(folders / "x.jpg", seed=300).read_bytes()
    (pool / "zero.png").write_bytes(b"")
    (pool / "text.png").write_text("no image")
    (pool / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pool / "misnamed.png").write_bytes(whole)
    (pool / "gone.png").symlink_to(pool / "nowhere.png")
    draw(pool / "tiny.png", seed=301, side=3)
    draw(pool / "huge.png", seed=302, side=1100)
    frames = [Image.new("L", (9, 9), shade) for shade in (0, 255)]
    frames[0].save(pool / "film.gif", save_all=True, append_images=frames[1:])
    (pool / "again.webp").write_bytes((pool / "05.webp").read_bytes())
    done = run(folders, settings=config.Ingest(max_quarantine=1.0, max_megapixels=1.0))
    assert reasons(done) == {
        "zero.png": "zero_byte",
        "text.png": "not_an_image",
        "cut.jpg": "truncated",
        "gone.png": "unreadable",
        "tiny.png": "too_small",
        "huge.png": "too_large",
        "film.gif": "animated",
        "again.webp": "duplicate",
    }
    assert (len(done.manifest), done.misnamed, done.grouped) == (35, 1, False)
    assert done.quarantine_share == pytest.approx(7 / 43)  # a copy is left out, but is nothing wrong


def test_the_same_bytes_with_two_labels_are_quarantined_wherever_they_lie(folders: Path) -> None:
    data = (folders / "labeled/cat/00.png").read_bytes()
    (folders / "labeled/dog/copy.png").write_bytes(data)
    (folders / "unlabeled/copy.png").write_bytes(data)
    done = run(folders)
    assert done.quarantine["reason"].to_pylist() == ["conflicting_label"] * 3
    assert len(done.manifest) == 33


def test_an_unlabelled_copy_of_a_labelled_image_is_left_out_but_is_nothing_wrong(folders: Path) -> None:
    for path in sorted((folders / "labeled/cat").iterdir()):
        (folders / "unlabeled" / f"copy-{path.name}").write_bytes(path.read_bytes())
    done = run(folders, settings=config.Ingest(max_quarantine=0.0))
    held = sum(split != "train" for name, split in splits(done.manifest).items() if name.endswith(".png"))
    assert held > 0
    assert (done.held_out_copies, done.unlabeled_copies, done.quarantine_share) == (held, 12 - held, 0)
    assert len(done.manifest.rows(Split.UNLABELED)) == 10


def test_copies_within_the_pool_and_within_a_class_stop_nothing(folders: Path) -> None:
    for place in ("unlabeled", "labeled/cat"):
        for path in sorted((folders / place).iterdir()):
            path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    done = run(folders, settings=config.Ingest(max_quarantine=0.0))
    assert set(done.quarantine["reason"].to_pylist()) == {"duplicate"}
    assert (len(done.manifest), done.quarantine_share) == (34, 0)


def near_copy(path: Path, to: Path) -> None:
    """The same picture, stored otherwise: other bytes, other size."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as image:
        image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC).save(to, quality=90)


def test_an_unlabelled_near_copy_of_a_held_out_image_is_left_out_and_counted(folders: Path) -> None:
    first = splits(run(folders).manifest)
    for name, split in first.items():
        if name.endswith(".png"):
            near_copy(folders / "labeled/cat" / name, folders / "unlabeled" / f"{split}-{name}.jpg")
    done = run(folders)
    held = {f"{split}-{name}.jpg" for name, split in first.items() if name.endswith(".png") and split != "train"}
    assert reasons(done) == dict.fromkeys(held, "held_out_copy")
    assert (done.held_out_copies, done.quarantine_share) == (len(held), 0)


def test_a_training_copy_of_a_given_test_image_gives_way(folders: Path) -> None:
    for name in ("cat/00.png", "cat/01.png", "dog/00.jpg", "dog/01.jpg"):
        (folders / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        (folders / "labeled" / name).rename(folders / "test" / name)
    near_copy(folders / "test/cat/00.png", folders / "labeled/cat/near.jpg")
    (folders / "labeled/dog/exact.jpg").write_bytes((folders / "test/dog/01.jpg").read_bytes())
    done = run(folders, test="test")
    assert reasons(done) == {"near.jpg": "held_out_copy", "exact.jpg": "held_out_copy"}
    assert len(done.manifest.rows(Split.TEST)) == 4
    assert done.held_out_copies == 2


def test_labelled_near_duplicates_land_on_the_same_side(folders: Path) -> None:
    for number in range(12):
        near_copy(folders / f"labeled/cat/{number:02d}.png", folders / f"labeled/cat/{number:02d}-near.jpg")
    found = splits(run(folders).manifest)
    assert all(found[f"{number:02d}.png"] == found[f"{number:02d}-near.jpg"] for number in range(12))


def test_a_crowd_of_nearly_blank_images_is_told_apart_by_brightness(folders: Path) -> None:
    """300 grey pages share one hash; the page that looks like a held-out one is found among them."""
    for number in range(300):
        Image.new("L", (40 + number // 250, 40), number % 250).save(folders / f"unlabeled/page{number:03d}.png")
    (folders / "test/cat").mkdir(parents=True)
    (folders / "test/dog").mkdir()
    for name in ("cat/00.png", "dog/00.jpg", "dog/01.jpg"):
        (folders / "labeled" / name).rename(folders / "test" / name)
    Image.new("L", (44, 44), 120).save(folders / "test/cat/page.png")
    found = reasons(run(folders, test="test"))
    assert {name for name, reason in found.items() if reason == "held_out_copy"} >= {"page119.png", "page120.png"}
    assert "page200.png" not in found


def test_too_many_bad_files_stop_and_name_the_table(folders: Path) -> None:
    for number in range(3):
        (folders / "unlabeled" / f"bad{number}.png").write_bytes(b"")
    with pytest.raises(QuarantineError, match=r"3 of 37 .*3 zero_byte.*5\.0%.*quarantine\.csv"):
        run(folders, settings=config.Ingest())
    table = pa.csv.read_csv(folders / "store" / "quarantine.csv")
    assert [Path(origin).name for origin in table["origin"].to_pylist()] == [f"bad{number}.png" for number in range(3)]
    assert not (folders / "store" / "manifest.parquet").exists()


def test_a_class_with_too_few_images_is_named(folders: Path, draw: Callable) -> None:
    draw(folders / "labeled/bird/only.png", seed=400)
    with pytest.raises(SourceError, match="bird"):
        run(folders)


def test_only_new_and_changed_files_are_read_and_no_image_changes_its_split(folders: Path, draw: Callable) -> None:
    first = run(folders)
    assert (first.files_read, run(folders).files_read) == (34, 0)
    assert run(folders).manifest.digest == first.manifest.digest
    for number in range(20):
        draw(folders / f"labeled/cat/new{number}.png", seed=500 + number)
    draw(folders / "unlabeled/03.webp", seed=600)
    second = run(folders)
    assert second.files_read == 21
    before, after = splits(first.manifest), splits(second.manifest)
    assert {name: after[name] for name in before} == before
    assert len(after) == 54


def test_a_file_that_is_gone_leaves_the_manifest(folders: Path) -> None:
    run(folders)
    (folders / "unlabeled/03.webp").unlink()
    done = run(folders)
    assert (done.files_read, len(done.manifest)) == (0, 33)
    assert "03.webp" not in splits(done.manifest)


def test_a_mended_file_comes_back(folders: Path, draw: Callable) -> None:
    path = folders / "unlabeled/03.webp"
    good = path.read_bytes()
    path.write_bytes(good[:50])
    assert reasons(run(folders)) == {"03.webp": "truncated"}
    path.write_bytes(good)
    done = run(folders)
    assert (done.files_read, done.quarantine.num_rows, len(done.manifest)) == (1, 0, 34)


def test_a_changed_label_reads_no_file(folders: Path) -> None:
    source_file = folders / "list.csv"
    paths = [path.relative_to(folders).as_posix() for path in sorted((folders / "labeled").rglob("*.*"))]
    lines = [f"{path},{Path(path).parent.name}" for path in paths]
    settings = config.TableSource(path=str(source_file))

    def again() -> IngestResult:
        source_file.write_text("\n".join(["path,label", *lines]))
        source = open_source(settings)
        return ingest(source, source.scan(), ImageStore(folders / "s"), settings=LOOSE, splitting=config.Splitting())

    first = again()
    lines[0] = f"{paths[0]},dog"
    second = again()
    assert (second.files_read, second.manifest.digest != first.manifest.digest) == (0, True)
    assert splits(second.manifest) == splits(first.manifest)


def test_other_limits_apply_to_files_that_were_read_before(folders: Path, draw: Callable) -> None:
    draw(folders / "unlabeled/small.png", seed=700, side=20)
    assert run(folders).quarantine.num_rows == 0
    strict = run(folders, settings=config.Ingest(max_quarantine=1.0, min_side=30))
    assert (reasons(strict), strict.files_read) == ({"small.png": "too_small"}, 0)
    fresh = run(folders, settings=config.Ingest(max_quarantine=1.0, min_side=30), store="other")
    assert reasons(fresh) == {"small.png": "too_small"}
    assert run(folders, store="other").quarantine.num_rows == 0


def test_source_files_are_left_as_they_are(folders: Path) -> None:
    def state() -> list[tuple[str, int, bytes]]:
        files = (path for name in ("labeled", "unlabeled") for path in sorted((folders / name).rglob("*.*")))
        return [(str(path), path.stat().st_mtime_ns, path.read_bytes()) for path in files]

    before = state()
    run(folders)
    assert state() == before


def test_a_finished_store_holds_nothing_but_the_dataset(folders: Path) -> None:
    run(folders)
    store = folders / "store"
    assert sorted(path.name for path in store.iterdir()) == [
        "index.parquet",
        "manifest.parquet",
        "quarantine.csv",
        "shards",
    ]
    assert sorted(path.suffix for path in (store / "shards").iterdir()) == [".arrayrecord", ".npy"]


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 uncompressed images, 8 MB: several chunks."""
    root = tmp_path_factory.mktemp("heavy")
    rng = np.random.default_rng(1)
    for number in range(72):
        folder = root / (f"labeled/{'ab'[number % 2]}" if number < 24 else "unlabeled")
        folder.mkdir(parents=True, exist_ok=True)
        cells = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        cells.resize((192, 192), Image.Resampling.BICUBIC).save(folder / f"{number}.bmp")
    (root / "unlabeled" / "bad.bmp").write_bytes(b"BM")
    return root


def test_the_number_of_processes_changes_nothing(heavy: Path) -> None:
    one = run(heavy, store="one", settings=config.Ingest(max_quarantine=1.0), workers=1)
    three = run(heavy, store="three", settings=config.Ingest(max_quarantine=1.0), workers=3)
    assert len(list((heavy / "one" / "shards").glob("*.arrayrecord"))) > 3
    assert three.manifest.digest == one.manifest.digest
    assert three.quarantine.equals(one.quarantine)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_ingest import *
source = open_source(config.FolderSource(labeled={labeled!r}, unlabeled={unlabeled!r}))
def die(done, total, note=""):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)
settings, store = config.Ingest(max_quarantine=1.0), ImageStore(Path({store!r}))
ingest(source, source.scan(), store, settings=settings, splitting=config.Splitting(), workers={workers}, progress=die)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_run_again_it_goes_on_after_the_last_finished_chunk(heavy: Path, workers: int) -> None:
    store = f"killed{workers}"
    paths = {"labeled": str(heavy / "labeled"), "unlabeled": str(heavy / "unlabeled"), "store": str(heavy / store)}
    script = KILLED.format(tests=str(Path(__file__).parent), workers=workers, **paths)
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == -9
    again = run(heavy, store=store)
    assert 0 < again.files_read < 73
    assert again.manifest.digest == run(heavy, store=f"whole{workers}").manifest.digest
    assert not (heavy / store / "pending").exists()


def test_chunks_of_an_abandoned_listing_are_not_read_again(heavy: Path, tmp_path: Path) -> None:
    """Killed, then a file is added before the next run: what was finished still counts."""
    store = "moved-on"
    paths = {"labeled": str(heavy / "labeled"), "unlabeled": str(heavy / "unlabeled"), "store": str(heavy / store)}
    script = KILLED.format(tests=str(Path(__file__).parent), workers=1, **paths)
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": os.getcwd()}, check=False)
    added = heavy / "labeled/a/0-added.bmp"
    Image.effect_noise((64, 64), 90).save(added)
    try:
        again = run(heavy, store=store)
    finally:
        added.unlink()
    assert 0 < again.files_read < 73
    assert len(again.manifest) == 73


@given(st.lists(st.integers(-1, 3_000_000), max_size=60), st.integers(1_000_000, 5_000_000))
def test_chunks_hold_every_file_once_in_order_and_stay_small(sizes: list[int], limit: int) -> None:
    names = [f"{number:03d}" for number in range(len(sizes))]
    table = pa.table(
        {"path": names, "size": pa.array(sizes, pa.int64()), "mtime_ns": pa.array([0] * len(sizes), pa.int64())}
    )
    chunks = cut_into_chunks(table, limit)
    assert [path for chunk in chunks for path in chunk.paths] == names
    for chunk in chunks:
        assert len(chunk.paths) == 1 or sum(max(size, 0) for size in chunk.sizes) <= limit


def test_an_empty_source_is_an_error(folders: Path) -> None:
    source = open_source(config.FolderSource(labeled=str(folders / "labeled")))
    listing = source.scan()
    empty = dataclasses.replace(listing, table=listing.table.slice(0, 0))
    with pytest.raises(SourceError, match="no image"):
        ingest(source, empty, ImageStore(folders / "s"), settings=LOOSE, splitting=config.Splitting())


def test_progress_counts_the_files(folders: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = open_source(config.FolderSource(labeled=str(folders / "labeled")))
    ingest(
        source,
        source.scan(),
        ImageStore(folders / "s"),
        settings=LOOSE,
        splitting=config.Splitting(),
        progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert seen == [(0, 24), (24, 24)]
