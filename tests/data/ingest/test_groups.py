"""Groups: images of one camera, patient or video are never on both sides of a split."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain import config
from selftrain.config import Splitting
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.manifest import Split
from selftrain.data.sources.source import open_source
from selftrain.data.splits.group_split import UserGroups, linked
from selftrain.data.splits.split import SplitAssignment, assign
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import ConfigError, SourceError

LOOSE = config.Ingest(max_quarantine=1.0)


def ids(count: int, first: int = 0) -> list[str]:
    return [hashlib.sha256(str(k).encode()).hexdigest() for k in range(first, first + count)]


def split(
    names: Sequence[str | None],
    labels: Sequence[int],
    *,
    first: int = 0,
    near: Sequence[int] | None = None,
    **changes: object,
) -> SplitAssignment:
    """The split of images with these groups (None: no group) and labels, two classes."""
    distinct = sorted({name for name in names if name is not None})
    code = np.array([-1 if name is None else distinct.index(name) for name in names], dtype=np.int64)
    arguments = {"splitting": Splitting(min_per_class=1), "class_names": ("ant", "bee"), **changes}
    groups = np.arange(len(names)) if near is None else np.array(near)
    return assign(ids(len(names), first), np.array(labels), groups, user_groups=UserGroups(code, distinct), **arguments)


def cut_groups(names: Sequence[str | None], made: SplitAssignment) -> list[str]:
    """The groups whose kept images lie on several sides."""
    sides: dict[str, set[str]] = {}
    for name, side, kept in zip(names, made.splits.tolist(), made.kept.tolist(), strict=True):
        if name is not None and kept:
            sides.setdefault(name, set()).add(side)
    return [name for name, found in sides.items() if len(found) > 1]


@st.composite
def grouped_sets(draw: st.DrawFn) -> tuple[list[str | None], list[int], list[int]]:
    """Groups of mixed classes, images without a group, and near-duplicates across both."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=12, max_size=20))
    names: list[str | None] = [f"camera{k}" for k, size in enumerate(sizes) for _ in range(size)]
    names += [None] * draw(st.integers(10, 30))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(names), max_size=len(names)))
    near = list(range(len(names)))
    for k, other in draw(st.lists(st.tuples(*[st.integers(0, len(names) - 1)] * 2), max_size=4)):
        if labels[k] == labels[other]:
            near = [near[k] if each == near[other] else each for each in near]
    return names, labels, near


@settings(max_examples=60, deadline=None)
@given(grouped_sets(), st.integers(0, 3))
def test_no_group_and_no_near_duplicates_lie_on_two_sides(images, seed):
    names, labels, near = images
    try:
        made = split(names, labels, near=near, splitting=Splitting(seed=seed, min_per_class=1))
    except SourceError:
        return  # a class that is linked as a whole
    assert cut_groups(names, made) == []
    assert made.kept.all()
    for one in set(near):
        assert len({made.splits[k] for k in range(len(near)) if near[k] == one}) == 1


@settings(max_examples=40, deadline=None)
@given(grouped_sets(), st.data())
def test_a_larger_set_moves_no_image_and_cuts_no_group(images, data):
    names, labels, near = images
    try:
        first = split(names, labels, near=near)
    except SourceError:
        return
    before = dict(zip(ids(len(names)), first.splits.tolist(), strict=True))
    n, count = len(names), data.draw(st.integers(1, 25))
    old = [name for name in names if name is not None]
    new = data.draw(st.lists(st.sampled_from([*old, "new1", "new2", None]), min_size=count, max_size=count))
    new_labels = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    grown_near = [*near, *range(n, n + count)]
    for k in range(n, n + count):  # a newcomer may look like old images of several groups
        for other in data.draw(st.lists(st.integers(0, n - 1), max_size=2)):
            if labels[other] == new_labels[k - n]:
                grown_near = [grown_near[other] if each == grown_near[k] else each for each in grown_near]
    grown = split([*names, *new], [*labels, *new_labels], near=grown_near, previous=before)
    assert grown.splits[:n].tolist() == first.splits.tolist()
    assert grown.kept[:n].all()
    assert cut_groups([*names, *new], grown) == []
    sides: dict[int, set[str]] = {}
    for k in np.flatnonzero(grown.kept[n:]) + n:
        sides.setdefault(grown_near[k], set()).add(grown.splits[k])
        sides[grown_near[k]] |= {grown.splits[j] for j in range(n) if grown_near[j] == grown_near[k]}
    assert all(len(found) == 1 for found in sides.values())


@settings(max_examples=40, deadline=None)
@given(grouped_sets(), st.data())
def test_given_splits_and_an_earlier_manifest_together_cut_no_group(images, data):
    names, labels, near = images
    distinct = sorted({name for name in names if name is not None})
    sides = st.sampled_from(["train", "validation", "test", None, None, None])
    by_group = {name: data.draw(sides) for name in distinct}
    given_splits = [by_group.get(name) if data.draw(st.booleans()) else None for name in names]
    free = {name: data.draw(st.sampled_from([None, "train", "validation", "test"])) for name in distinct}
    before = {
        image: free[name]
        for image, name in zip(ids(len(names)), names, strict=True)
        if name is not None and by_group[name] is None and free[name] is not None and data.draw(st.booleans())
    }
    try:
        made = split(names, labels, near=near, source_splits=given_splits, previous=before)
    except SourceError:
        return
    assert cut_groups(names, made) == []
    kept = np.flatnonzero(made.kept).tolist()
    known = [image in before for image in ids(len(names))]
    for k, other in [(k, other) for k in kept for other in kept if near[k] == near[other]]:
        assert made.splits[k] == made.splits[other] or (known[k] and known[other])  # two that were apart before stay
    for k, side in enumerate(given_splits):
        assert side is None or made.splits[k] == side


@settings(max_examples=30, deadline=None)
@given(grouped_sets(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(images, random):
    names, labels, near = images
    order = list(range(len(names)))
    random.shuffle(order)
    try:
        made = split(names, labels, near=near)
    except SourceError:
        return
    distinct = sorted({name for name in names if name is not None})
    code = np.array([-1 if name is None else distinct.index(name) for name in names], dtype=np.int64)
    shuffled = assign(
        [ids(len(names))[k] for k in order],
        np.array(labels)[order],
        np.array(near)[order],
        splitting=Splitting(min_per_class=1),
        class_names=("ant", "bee"),
        user_groups=UserGroups(code[order], distinct),
    )
    assert shuffled.splits.tolist() == made.splits[order].tolist()


def test_groups_come_near_to_the_shares_of_each_class() -> None:
    names = [f"video{k // 5}" for k in range(1000)]
    labels = [int(k % 5 > 2) for k in range(1000)]
    made = split(names, labels)
    for label in (0, 1):
        of_class = made.splits[np.array(labels) == label]
        assert np.mean(of_class == "test") == pytest.approx(0.2, abs=0.01)
        assert np.mean(of_class == "validation") == pytest.approx(0.2, abs=0.01)


def test_a_new_group_falls_by_its_name_whichever_of_its_images_come_first() -> None:
    names = [f"old{k}" for k in range(40)]
    labels = [k % 2 for k in range(40)]
    before = dict(zip(ids(40), split(names, labels).splits.tolist(), strict=True))
    fallen = set()
    for number in range(20):
        sides = {
            split([*names, f"new{number}"], [*labels, 0], previous={**before}, first=0).splits[40],
            assign(
                [*ids(40), *ids(3, 5000 + number)],
                np.array([*labels, 1, 0, 1]),
                np.arange(43),
                splitting=Splitting(min_per_class=1),
                class_names=("ant", "bee"),
                previous=before,
                user_groups=UserGroups(np.array([*[-1] * 40, 0, 0, 0]), [f"new{number}"]),
            ).splits[41],
        }
        assert len(sides) == 1
        fallen |= sides
    assert fallen == {"train", "validation", "test"}


def test_given_splits_that_cut_a_group_are_an_error_that_names_it() -> None:
    names = ["left", "left", "right", "right"] * 5
    given_splits = [None] * 18 + ["test", "train"]
    with pytest.raises(SourceError, match=r"cut groups: 'right' \(1 in train, 1 in test\); give all images of a group"):
        split(names, [0, 1] * 10, source_splits=given_splits)


def test_a_group_that_was_split_before_it_was_known_is_an_error_that_names_the_way_out() -> None:
    before = dict(zip(ids(4), ["train", "test", "train", "validation"], strict=True))
    with pytest.raises(SourceError, match=r"before their groups were known: 'one' .*another `name`"):
        split(["one", "one", "two", "three"], [0, 1, 0, 1], previous=before)


def test_an_image_enters_no_set_that_the_source_holds_out_by_its_group_alone() -> None:
    names = ["held", "held", *[f"other{k}" for k in range(18)]]
    made = split(names, [0, 1] * 10, source_splits=["test", None, "test", "test", *[None] * 16])
    assert np.flatnonzero(~made.kept).tolist() == [1]
    assert made.barred_by[1] == 0


def test_an_image_that_models_learned_from_makes_its_whole_new_group_training_images() -> None:
    names = [f"old{k}" for k in range(40)]
    labels = [k % 2 for k in range(40)]
    before = dict(zip(ids(40), split(names, labels).splits.tolist(), strict=True))
    new = [f"new{k // 2}" for k in range(60)]
    seen = np.array([False] * 40 + [k % 2 == 0 for k in range(60)])
    grown = split([*names, *new], [*labels, *[0, 1] * 30], previous=before, seen=seen)
    assert set(grown.splits[40:].tolist()) == {"train"}


def test_too_few_groups_for_three_splits_name_class_and_groups() -> None:
    with pytest.raises(SourceError, match=r"'ant' has 0 in \w+ \(of 10 labelled images, .*, in 2 groups\)"):
        split(["a", "b"] * 10, [0, 0, 1, 1] * 5)


def test_images_are_linked_through_groups_and_looks() -> None:
    assert linked(np.array([0, 1, 1, 2]), np.array([5, 5, -1, -1])).tolist() == [0, 0, 0, 1]


@pytest.fixture
def cameras(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """Eight cameras with three cats, three dogs and four unlabelled images each."""
    for camera in range(8):
        for number in range(3):
            for kind, label in enumerate(("cat", "dog")):
                draw(tmp_path / f"labeled/{label}/cam{camera}-{number}.png", seed=1000 * kind + 10 * camera + number)
        for number in range(4):
            draw(tmp_path / f"pool/cam{camera}-{number}.png", seed=5000 + 10 * camera + number)
    return tmp_path


def run(root: Path, **splitting: object) -> IngestResult:
    source = open_source(config.FolderSource(labeled=str(root / "labeled"), unlabeled=str(root / "pool")))
    made = config.Splitting(**splitting)
    return ingest(source, source.scan(), ImageStore(root / "store"), settings=LOOSE, splitting=made, workers=1)


def sides(done: IngestResult) -> dict[str, set[str]]:
    """The splits of each camera's images."""
    found: dict[str, set[str]] = {}
    for origin, side in zip(*(done.manifest.table[n].to_pylist() for n in ("origin", "split")), strict=True):
        found.setdefault(Path(origin).name.split("-")[0], set()).add(side)
    return found


def test_a_camera_is_on_one_side_and_its_pool_images_are_left_out_if_it_is_held_out(cameras: Path) -> None:
    done = run(cameras, group_from=r"(cam\d+)-")
    found = sides(done)
    held = {camera for camera, splits in found.items() if splits & {"validation", "test"}}
    assert {frozenset(found[camera]) for camera in held} == {frozenset({"validation"}), frozenset({"test"})}
    assert all(splits <= {"train", "unlabeled"} for camera, splits in found.items() if camera not in held)
    assert done.held_out_groups == 4 * len(held) > 0
    assert done.grouped
    assert set(done.quarantine["reason"].to_pylist()) == {"held_out_group"}
    assert done.quarantine_share == 0
    assert f"group '{min(held)}' has images in validation or test" in done.quarantine["detail"].to_pylist()


def test_the_cameras_of_yesterday_stay_where_they_are_and_take_their_new_images_along(
    cameras: Path, draw: Callable[..., Path]
) -> None:
    before = run(cameras, group_from=r"(cam\d+)-").manifest
    for camera in range(12):
        draw(cameras / f"labeled/cat/cam{camera}-new.png", seed=9000 + camera)
        draw(cameras / f"pool/cam{camera}-new.png", seed=9100 + camera)
    after = run(cameras, group_from=r"(cam\d+)-")
    old = dict(zip(*(before.table[n].to_pylist() for n in ("image_id", "split")), strict=True))
    new = dict(zip(*(after.manifest.table[n].to_pylist() for n in ("image_id", "split")), strict=True))
    assert {image: new[image] for image in old} == old
    assert all(len(splits & {"train", "validation", "test"}) == 1 for splits in sides(after).values())


def test_a_pattern_that_matches_no_path_is_an_error_with_an_example(cameras: Path) -> None:
    with pytest.raises(SourceError, match=r"'patient_\(.*\)' matches none of the 80 paths, such as '.*cam0-0.png'"):
        run(cameras, group_from=r"patient_(\d+)")


def test_a_pattern_that_is_not_regular_is_refused_with_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"splitting.group_from: 'cam\(' is not a regular expression"):
        config.parse({"splitting": {"group_from": "cam("}})


def test_groups_of_a_table_come_from_its_column_and_its_pattern(cameras: Path) -> None:
    lines = ["path,label,group"]
    for path in sorted((cameras / "labeled").rglob("*.png")):
        camera = path.name[3]
        lines.append(f"{path.relative_to(cameras)},{path.parent.name},{'' if camera in '01' else f'cam{camera}'}")
    (cameras / "list.csv").write_text("\n".join(lines))
    source = open_source(config.TableSource(path=str(cameras / "list.csv")))
    listing = source.scan()
    assert listing.table["group"].null_count == 12
    for splitting in (config.Splitting(), config.Splitting(group_from=r"cam\d")):
        done = ingest(
            source, listing, ImageStore(cameras / f"s{splitting.group_from}"), settings=LOOSE, splitting=splitting
        )
        grouped = sides(done) if splitting.group_from else {c: s for c, s in sides(done).items() if c > "cam1"}
        assert all(len(splits) == 1 for splits in grouped.values())
        assert len(done.manifest.rows(Split.TEST)) >= 4


def test_the_folder_of_an_image_can_be_its_group(tmp_path: Path, draw: Callable[..., Path]) -> None:
    for video in range(6):
        for number in range(3):
            for kind, label in enumerate(("cat", "dog")):
                draw(tmp_path / f"labeled/{label}/video{video}/{number}.png", seed=1000 * kind + 10 * video + number)
        draw(tmp_path / f"pool/{video}.png", seed=5000 + video)
    table = run(tmp_path, group_from="parent").manifest.table
    folders: dict[str, set[str]] = {}
    for origin, side in zip(*(table[n].to_pylist() for n in ("origin", "split")), strict=True):
        folders.setdefault(str(Path(origin).parent), set()).add(side)
    assert len(folders) == 13
    assert all(len(found) == 1 for found in folders.values())
