from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain import config
from selftrain.files.remote import FoundFiles, RemoteFile
from selftrain.retraining.inbox import (
    Sightings,
    Sorting,
    in_control_slice,
    is_settled,
    marker_of,
    sample,
    sort_files,
)

SECOND = 1_000_000_000
NOON = 1_800_000_000.0


def file(path: str, *, size: int = 9, mtime: float = 0, version: str = "", changed: float = 0) -> RemoteFile:
    """A listed file; times in seconds since 1970, `changed` 0: the listing does not say."""
    return RemoteFile(path, size, int(mtime * SECOND), version, int(changed * SECOND))


def sorted_at(
    now: float, *files: RemoteFile, seen: Sightings | None = None, uploads: int = 0, **inbox: object
) -> Sorting:
    settings = config.Inbox.model_validate({"url": "in", "settle_s": 60, **inbox})
    return sort_files(FoundFiles(files, uploads), known=set(), seen=seen or {}, now=now, settings=settings)


def paths(files: Sequence[RemoteFile]) -> list[str]:
    return [each.path for each in files]


def test_a_file_that_two_looks_saw_alike_is_ready() -> None:
    first = sorted_at(NOON, file("in/a.jpg"))
    assert (paths(first.ready), dict(first.waiting)) == ([], {"unsettled": 1})
    early = sorted_at(NOON + 59, file("in/a.jpg"), seen=first.sightings)
    assert paths(early.ready) == []
    assert paths(sorted_at(NOON + 60, file("in/a.jpg"), seen=early.sightings).ready) == ["in/a.jpg"]


@pytest.mark.parametrize("changed", [{"size": 10}, {"mtime": 1}, {"version": "other"}])
def test_a_file_that_changed_between_two_looks_waits_as_if_it_were_new(changed: dict[str, int]) -> None:
    first = sorted_at(NOON, file("in/a.jpg"))
    second = sorted_at(NOON + 100, file("in/a.jpg", **changed), seen=first.sightings)
    assert dict(second.waiting) == {"unsettled": 1}
    assert paths(sorted_at(NOON + 160, file("in/a.jpg", **changed), seen=second.sightings).ready) == ["in/a.jpg"]


def test_a_file_that_nobody_has_written_to_for_long_enough_is_ready_at_the_first_look() -> None:
    assert paths(sorted_at(NOON, file("in/a.jpg", changed=NOON - 60)).ready) == ["in/a.jpg"]


def test_a_copy_with_an_old_time_that_still_grows_waits() -> None:
    growing = file("in/a.jpg", mtime=NOON - 1e8, changed=NOON - 1)
    assert dict(sorted_at(NOON, growing).waiting) == {"unsettled": 1}


def test_a_late_file_with_an_old_time_is_as_new_as_any() -> None:
    late = file("in/late.jpg", mtime=NOON - 1e8, changed=NOON - 70)
    assert paths(sorted_at(NOON, late).ready) == ["in/late.jpg"]


def test_a_clock_that_jumped_back_delays_a_file_and_does_not_lose_it() -> None:
    before = sorted_at(NOON, file("in/a.jpg", changed=NOON))
    back = NOON - 1e6
    after = sorted_at(back, file("in/a.jpg", changed=NOON), seen=before.sightings)
    assert dict(after.waiting) == {"unsettled": 1}
    assert paths(sorted_at(back + 60, file("in/a.jpg", changed=NOON), seen=after.sightings).ready) == ["in/a.jpg"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_whatever_the_clock_does_a_file_is_ready_once_it_runs_for_as_long_as_files_settle(jumps: list[float]) -> None:
    seen: Sightings = {}
    for jump in jumps:
        seen = sorted_at(NOON + jump, file("in/a.jpg", changed=NOON), seen=seen).sightings
    assert paths(sorted_at(NOON + jumps[-1] + 61, file("in/a.jpg", changed=NOON), seen=seen).ready) == ["in/a.jpg"]


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_who_waits_longer_settles_no_later(
    since: float, changed: float, now: float, settle: float, more: float
) -> None:
    one = file("in/a.jpg", changed=changed)
    if is_settled(one, since, now=now, settle_s=settle + more):
        assert is_settled(one, since, now=now, settle_s=settle)
        assert is_settled(one, since, now=now + more, settle_s=settle)


def test_an_empty_file_waits_however_old_it_is() -> None:
    assert dict(sorted_at(NOON, file("in/a.jpg", size=0, changed=1)).waiting) == {"empty": 1}


def test_uploads_and_unfinished_names_are_counted_as_uploading() -> None:
    sorting = sorted_at(NOON, file("in/a.jpg.part"), file("in/b.tmp"), uploads=3)
    assert dict(sorting.waiting) == {"uploading": 5}
    assert sorting.ignored == 0


def test_files_that_the_intake_holds_are_known_and_a_changed_one_is_new() -> None:
    old, changed = file("in/a.jpg", changed=1), file("in/b.jpg", version="2", changed=1)
    settings = config.Inbox(url="in")
    known = {old.identity, file("in/b.jpg", version="1").identity}
    sorting = sort_files(FoundFiles((old, changed)), known=known, seen={}, now=NOON, settings=settings)
    assert (sorting.known, paths(sorting.ready)) == (1, ["in/b.jpg"])


def test_the_oldest_come_first() -> None:
    files = [
        file("in/b.jpg", mtime=2, changed=3),
        file("in/c.jpg", mtime=1, changed=3),
        file("in/a.jpg", mtime=2, changed=3),
    ]
    assert paths(sorted_at(NOON, *files).ready) == ["in/c.jpg", "in/a.jpg", "in/b.jpg"]


def test_sidecars_belong_to_their_image_and_other_files_are_ignored() -> None:
    sorting = sorted_at(
        NOON, *(file(f"in/{name}", changed=1) for name in ("a.jpg", "a.jpg.json", "b.json", "read.me", "_X"))
    )
    assert paths(sorting.ready) == ["in/a.jpg"]
    assert sorting.ignored == 3
    assert "in/a.jpg.json" in sorting.others


def test_with_a_marker_a_file_is_ready_when_its_marker_is_there_and_never_before() -> None:
    old, new = file("in/a.jpg", changed=1), file("in/b.jpg", changed=NOON)
    sorting = sorted_at(NOON, old, new, file("in/b.jpg.done"), marker="{name}.done")
    assert (paths(sorting.ready), dict(sorting.waiting)) == (["in/b.jpg"], {"unmarked": 1})


@pytest.mark.parametrize("name", ["_SUCCESS", "complete"])
def test_a_marker_for_a_folder_marks_all_files_in_it_and_is_no_image_itself(name: str) -> None:
    files = (file("in/1/a.jpg"), file("in/1/b.jpg"), file("in/2/c.jpg"), file(f"in/1/{name}"))
    sorting = sorted_at(NOON, *files, marker=f"{{folder}}/{name}")
    assert (paths(sorting.ready), dict(sorting.waiting)) == (["in/1/a.jpg", "in/1/b.jpg"], {"unmarked": 1})


def test_a_marker_is_named_by_the_file_its_stem_or_its_folder() -> None:
    assert marker_of("s3://b/day/a.jpg", "{stem}.ok") == "s3://b/day/a.ok"
    assert marker_of("s3://b/day/a.jpg", "done/{name}") == "s3://b/day/done/a.jpg"
    assert marker_of("a.jpg", "{name}.done") == "a.jpg.done"


def test_all_files_are_kept_unless_a_rule_says_otherwise() -> None:
    files = [file(f"in/{n}.jpg") for n in range(5)]
    assert sample(files, {}, config.Sampling()) == (files, [])


def test_low_confidence_keeps_the_unsure_the_unanswered_and_a_control_slice() -> None:
    files = [file(f"in/{n}.jpg") for n in range(4000)]
    sure = {each.path: 0.95 for each in files[200:]} | {each.path: 0.2 for each in files[:100]}
    sampling = config.Sampling(rule="low_confidence", below=0.9, control=0.1)
    kept, left_out = sample(files, sure, sampling)
    assert paths(kept[:200]) == paths(files[:200])
    assert 0.08 < len(kept[200:]) / 3800 < 0.12
    assert sorted(kept + left_out) == sorted(files)
    assert all(in_control_slice(path, sampling) for path in paths(kept[200:]))


def test_the_control_slice_grows_with_its_share_and_changes_with_the_seed() -> None:
    names = [f"in/{n}.jpg" for n in range(500)]

    def slice_of(share: float, seed: int = 0) -> set[str]:
        return {name for name in names if in_control_slice(name, config.Sampling(control=share, seed=seed))}

    assert slice_of(0.1) < slice_of(0.3) < slice_of(1.0) == set(names)
    assert slice_of(0.3) != slice_of(0.3, seed=1)
    assert slice_of(0.0) == set()
