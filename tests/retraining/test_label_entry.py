"""Labels that arrive late, from a label file to the manifest of the next ingest."""

import resource
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftrain import config
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.label_log import LABEL_LOG, read_log
from selftrain.data.manifest import Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.test_sets import TestSets
from selftrain.errors import LabelLogError, SourceError
from selftrain.retraining.label_entry import LabelledSet, LabelReport, labelled_listing
from selftrain.retraining.label_file import LabelledBy, Purpose
from selftrain.selflabel.teaching.scoring import in_both

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def draw(path: Path, seed: int) -> None:
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(cells).resize((24, 24), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Fifteen cats, fifteen dogs and thirty unlabelled images, in PNG files."""
    for number in range(15):
        draw(tmp_path / f"labeled/cat/{number}.png", number)
        draw(tmp_path / f"labeled/dog/{number}.png", 100 + number)
    for number in range(30):
        draw(tmp_path / f"pool/{number:02d}.png", 200 + number)
    return tmp_path


@pytest.fixture
def run(images: Path) -> Callable[..., IngestResult]:
    """`run(reserve=...)` ingests the images with the labels of the log."""
    source = open_source(config.FolderSource(labeled=str(images / "labeled"), unlabeled=str(images / "pool")))
    store = ImageStore(images / "store")

    def ingested(**splitting: float) -> IngestResult:
        listing = labelled_listing(source.scan(), store)
        return ingest(
            source, listing, store, settings=config.Ingest(), splitting=config.Splitting(**splitting), workers=1
        )

    return ingested


def splits(done: IngestResult) -> dict[str, tuple[str, int | None]]:
    table = done.manifest.table
    names = [Path(path).relative_to(Path(path).parents[1]).as_posix() for path in table["origin"].to_pylist()]
    return dict(zip(names, zip(table["split"].to_pylist(), table["label"].to_pylist(), strict=True), strict=True))


def take(
    images: Path, *lines: str, head: str = "path,label", purpose: Purpose = "add", who: str = "anna"
) -> LabelReport:
    file = images / "labels.csv"
    file.write_text("\n".join([head, *lines]) + "\n")
    store = LabelledSet(ImageStore(images / "store"), "pets")
    return store.take(file, default=LabelledBy(who, NOON), purpose=purpose)


def pool(images: Path, number: int) -> str:
    return str(images / f"pool/{number:02d}.png")


def test_a_label_of_a_pool_image_makes_it_a_training_image(images: Path, run: Callable[..., IngestResult]) -> None:
    """All models of the first night learned from the pool: none of it is fit to test them."""
    first = splits(run())
    report = take(images, *(f"{pool(images, number)},cat" for number in range(30)))
    assert (report.added, report.labelled, report.conflicts) == (30, 30, ())
    later = splits(run())
    assert {later[f"pool/{number:02d}.png"] for number in range(30)} == {("train", 0)}
    assert {name: split for name, split in later.items() if name.startswith(("cat", "dog"))} == {
        name: split for name, split in first.items() if name.startswith(("cat", "dog"))
    }


def test_reserved_images_are_kept_out_of_the_pool_and_grow_the_test_set(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    first = run(reserve=1.0)
    assert 0 < first.reserved < 30
    assert set(first.quarantine["reason"].to_pylist()) == {"reserved"}
    assert first.quarantine_share == 0
    waiting = {Path(path).name for path in first.quarantine["origin"].to_pylist()}
    take(images, *(f"{pool(images, number)},cat" for number in range(30)))
    later = splits(run(reserve=1.0))
    held = {name for name, (split, _) in later.items() if name.startswith("pool") and split in ("validation", "test")}
    assert {f"pool/{name}" for name in waiting} == held
    assert {split for split, _ in later.values()} >= {"test"}


def test_the_test_set_of_yesterday_stays_beside_a_grown_one(images: Path, run: Callable[..., IngestResult]) -> None:
    first = run(reserve=1.0)
    assert first.earlier_test is None
    take(images, *(f"{pool(images, number)},cat" for number in range(30)))
    second, third = run(reserve=1.0), run(reserve=1.0)
    assert second.earlier_test == third.earlier_test == f"0001-{first.manifest.split_digest(Split.TEST)[:16]}.parquet"
    kept = TestSets(images / "store").read(second.earlier_test)
    assert kept is not None
    assert kept.split_digest(Split.TEST) == first.manifest.split_digest(Split.TEST)
    known = in_both(second.manifest, kept)
    assert np.count_nonzero(known) == len(first.manifest.rows(Split.TEST)) < len(known)


def test_a_test_image_whose_label_was_corrected_is_not_in_both_versions(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    first = run().manifest
    row = first.rows(Split.TEST)[0]
    path, label = first.table["origin"][int(row)].as_py(), first.labels()[row]
    take(images, f"{path},{('dog', 'cat')[label]}", purpose="settle")
    second = run()
    kept = TestSets(images / "store").read(second.earlier_test)
    assert kept is not None
    known = in_both(second.manifest, kept)
    assert (len(known), np.count_nonzero(~known)) == (len(first.rows(Split.TEST)), 1)


def test_a_new_image_that_looks_like_one_of_the_pool_becomes_a_training_image(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    """The champion learned from its near-copy."""
    run()
    for number in range(30):
        with Image.open(images / f"pool/{number:02d}.png") as image:
            image.resize((40, 40), Image.Resampling.BICUBIC).save(images / f"labeled/cat/like{number}.png")
    later = splits(run())
    assert {later[f"cat/like{number}.png"] for number in range(30)} == {("train", 0)}


def test_a_pool_of_an_earlier_night_is_not_reserved_afterwards(images: Path, run: Callable[..., IngestResult]) -> None:
    run()
    assert run(reserve=1.0).reserved == 0


def test_a_conflict_is_listed_and_the_image_is_used_for_nothing_until_it_is_settled(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    before = splits(run())
    path = str(images / "labeled/cat/3.png")
    report = take(images, f"{path},dog", who="bob")
    assert [(each.path, each.labels) for each in report.conflicts] == [(path, ("cat", "dog"))]
    assert [(said.label, said.who) for said in report.conflicts[0].said] == [("cat", "source"), ("dog", "bob")]
    disputed = run()
    assert (disputed.disputed, disputed.quarantine["reason"].to_pylist()) == (1, ["conflicting_label"])
    assert "cat/3.png" not in splits(disputed)
    settled = take(images, f"{path},dog", purpose="settle")
    assert (settled.added, settled.conflicts) == (1, ())
    assert splits(run())["cat/3.png"] == (before["cat/3.png"][0], 1)


@pytest.mark.parametrize("name", ["cat/3.png", "dog/5.png", "cat/0.png", "cat/1.png", "dog/2.png"])
def test_an_image_that_leaves_and_comes_back_goes_where_it_was(
    images: Path, run: Callable[..., IngestResult], name: str
) -> None:
    before = splits(run())[name]
    path, away = images / "labeled" / name, images / "away.png"
    path.rename(away)
    run()
    away.rename(path)
    assert splits(run())[name] == before


def test_the_same_file_twice_adds_nothing(images: Path, run: Callable[..., IngestResult]) -> None:
    run()
    lines = [f"{pool(images, number)},cat" for number in (1, 2, 2)]
    first, second = take(images, *lines), take(images, *lines)
    assert (first.added, first.known) == (2, 1)
    assert (second.added, second.known, second.lines) == (0, 3, 2)


def test_a_row_may_name_its_image_by_the_whole_id_and_say_who_when_and_what_was_shown(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    image = run().manifest.table["image_id"][0].as_py()
    head = "image_id,label,who,when,shown"
    report = take(images, f"{image},cat,carl,2026-11-30T10:00:00+02:00,dog", head=head)
    assert report.added == 1
    line = read_log(images / "store").to_pylist()[-1]
    assert (line["image_id"], line["who"], line["shown"]) == (image, "carl", "dog")
    assert line["when"] == datetime(2026, 11, 30, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("head", "line", "message"),
    [
        ("path,label", "{pool},lion", r"unknown class \('lion'\): row 2 .*classes of the data set are cat, dog"),
        ("path,label", "elsewhere.png,cat", r"not in the data set: row 2 \('elsewhere.png'\)"),
        ("path,label", "{pool},", "row without a label: row 2"),
        ("path,label", ",cat", "row without an image: row 2"),
        ("path,image_id,label", ",0123abcd,cat", r"image_id that is not whole: row 2 \('0123abcd'\).*64"),
        ("path,image_id,label", "{pool}," + "0" * 64 + ",cat", "not in the data set: row 2"),
        ("path,label,when", "{pool},cat,yesterday", "not ISO 8601: row 2"),
        ("path,label,score", "{pool},cat,1", "unknown column 'score'.*did you mean"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(
    images: Path, run: Callable[..., IngestResult], head: str, line: str, message: str
) -> None:
    run()
    columns = len(head.split(","))
    good = ",".join({"path": pool(images, 1), "label": "cat"}.get(name, "") for name in head.split(","))
    assert len(good.split(",")) == columns
    with pytest.raises(LabelLogError, match=message):
        take(images, good, line.format(pool=pool(images, 2)), head=head)
    assert read_log(images / "store").num_rows == 0


def test_a_class_that_lacks_just_the_images_in_dispute_is_an_error_that_says_so(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    test_cats = [name for name, where in splits(run()).items() if where == ("test", 0)]
    take(images, *(f"{images / 'labeled' / name},dog" for name in test_cats))
    with pytest.raises(SourceError, match=r"'cat' has 0 in test.* 3 images are left out because people disagree"):
        run()


def test_labels_that_come_at_once_from_several_places_are_all_added(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    run()
    store = LabelledSet(ImageStore(images / "store"), "pets")

    def add(number: int) -> LabelReport:
        file = images / f"{number}.csv"
        file.write_text(f"path,label\n{pool(images, number)},cat\n")
        return store.take(file, default=LabelledBy(f"reviewer {number}", NOON))

    with ThreadPoolExecutor(8) as several:
        assert [report.added for report in several.map(add, range(16))] == [1] * 16
    assert store.report().labelled == 16


def test_a_full_disk_is_one_line_and_leaves_the_log_as_it_was(images: Path, run: Callable[..., IngestResult]) -> None:
    run()
    take(images, f"{pool(images, 1)},cat")
    before = (images / "store" / LABEL_LOG).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))  # no file can grow beyond that
        with pytest.raises(LabelLogError, match=r"cannot be written.*nothing was added"):
            LabelledSet(ImageStore(images / "store"), "pets").take(
                images / "labels.csv", default=LabelledBy("bob", NOON)
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert (images / "store" / LABEL_LOG).read_bytes() == before
    assert not list((images / "store").glob(".*.part"))


def test_a_file_that_came_twice_labels_the_image_that_holds_its_bytes(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    run()
    store = ImageStore(images / "store")
    index = store.index()
    image = next(row["image_id"] for row in index.to_pylist() if row["path"] == pool(images, 3))
    again = {field.name: [None] for field in index.schema} | {
        "path": ["inbox/again.png"], "size": [1], "mtime_ns": [1], "reason": ["duplicate"], "detail": [image]
    }  # fmt: skip
    pq.write_table(pa.concat_tables([index, pa.table(again, schema=index.schema)]), store.index_path)
    take(images, "inbox/again.png,cat")
    assert read_log(store.root)["image_id"].to_pylist() == [image]


def test_an_image_in_quarantine_cannot_be_labelled(images: Path, run: Callable[..., IngestResult]) -> None:
    (images / "pool/00.png").write_bytes(b"")
    run()
    with pytest.raises(LabelLogError, match=r"image in quarantine: row 1"):
        take(images, f"{pool(images, 0)},cat")


def test_a_file_that_settles_an_image_in_two_ways_is_refused(images: Path, run: Callable[..., IngestResult]) -> None:
    run()
    with pytest.raises(LabelLogError, match="second label for an image that the file settles: row 2"):
        take(images, f"{pool(images, 1)},cat", f"{pool(images, 1)},dog", purpose="settle")


def test_labels_before_the_first_run_are_refused(images: Path) -> None:
    with pytest.raises(LabelLogError, match="'pets' holds no image yet; run or collect once"):
        take(images, f"{pool(images, 1)},cat")


def test_a_label_that_is_taken_back_no_longer_counts_and_can_be_given_again(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    run()
    take(images, f"{pool(images, 1)},cat", f"{pool(images, 2)},cat")
    assert splits(run())["pool/01.png"] == ("train", 0)
    back = take(images, f"{pool(images, 1)},", purpose="retract")
    assert (back.added, back.labelled, back.retracted) == (1, 1, 1)
    done = run()
    assert "pool/01.png" not in splits(done)
    assert splits(done)["pool/02.png"] == ("train", 0)
    (row,) = (each for each in done.quarantine.to_pylist() if each["detail"] == "its label was taken back")
    assert (row["origin"], done.disputed) == (pool(images, 1), 1)
    assert take(images, f"{pool(images, 1)},", purpose="retract").added == 0
    again = take(images, f"{pool(images, 1)},cat")
    assert (again.added, again.known, again.retracted) == (1, 0, 0)
    assert splits(run())["pool/01.png"] == ("train", 0)


def test_a_conflict_with_the_source_ends_when_the_late_label_is_taken_back(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    before = splits(run())["cat/3.png"]
    path = str(images / "labeled/cat/3.png")
    assert len(take(images, f"{path},dog").conflicts) == 1
    assert "cat/3.png" not in splits(run())
    assert take(images, f"{path},dog", purpose="retract").conflicts == ()
    assert splits(run())["cat/3.png"] == before
    assert len(take(images, f"{path},dog").conflicts) == 1


def test_an_image_of_test_whose_label_is_taken_back_does_not_come_into_the_pool(
    images: Path, run: Callable[..., IngestResult]
) -> None:
    reserved = [each["origin"] for each in run(reserve=1.0).quarantine.to_pylist() if each["reason"] == "reserved"]
    take(images, *(f"{path},cat" for path in reserved))
    held = {name for name, (split, _) in splits(run(reserve=1.0)).items() if split == "test" and "pool" in name}
    assert held
    take(images, *(f"{path}," for path in reserved), purpose="retract")
    assert not held & splits(run()).keys()


@pytest.mark.parametrize(("label", "said"), [("", "a label"), ("dog", "the label 'dog'")])
def test_a_label_that_nobody_gave_cannot_be_taken_back(
    images: Path, run: Callable[..., IngestResult], label: str, said: str
) -> None:
    run()
    given = pool(images, 1 if label else 2)
    take(images, f"{pool(images, 1)},cat")
    with pytest.raises(LabelLogError, match=f"row 1: .* has not got {said}"):
        take(images, f"{given},{label}", purpose="retract")
    assert read_log(images / "store").num_rows == 1


def test_a_row_settles_where_its_own_column_says_so(images: Path, run: Callable[..., IngestResult]) -> None:
    run()
    corrected, other = str(images / "labeled/cat/0.png"), str(images / "labeled/cat/1.png")
    report = take(images, f"{corrected},dog,yes", f"{other},dog,", head="path,label,settles")
    assert [each.path for each in report.conflicts] == [other]
    assert splits(run())["cat/0.png"][1] == 1
    with pytest.raises(LabelLogError, match=r"unknown word in `settles`.*write yes"):
        take(images, f"{other},dog,no", head="path,label,settles")
    with pytest.raises(LabelLogError, match="second label for an image that the file settles"):
        take(images, f"{other},dog,yes", f"{other},cat,yes", head="path,label,settles")
    assert take(images, f"{corrected},dog,yes", head="path,label,settles", purpose="retract").added == 1
    assert splits(run())["cat/0.png"][1] == 0
