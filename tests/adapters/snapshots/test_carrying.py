"""A data set whose machine begins empty each night: it goes on from what the night before left in a store."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from selftrain.adapters.cluster.contenders import STATE_VARIABLE
from selftrain.adapters.snapshots.carrying import Carrier, carried_over, keep_state
from selftrain.adapters.snapshots.repository import REMOTE_VARIABLE
from selftrain.config import Place
from selftrain.errors import MirrorError, SnapshotError
from selftrain.files.workspace import Workspace
from selftrain.retraining.journal import journal_of

pytestmark = [
    # pygtrie warns at a use of it that DVC makes; DVC leaves its SQLite state to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The variables of a cluster, over folders; returns the folder of the state."""
    monkeypatch.setenv(REMOTE_VARIABLE, str(tmp_path / "remote"))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


def place(tmp_path: Path, night: int) -> Place:
    """The place of the data set on the machine of one night."""
    return Place(workspace=str(tmp_path / f"night{night}"), dataset="cats")


def workspace_of(place: Place) -> Workspace:
    return Workspace(Path(place.workspace)).ensure()


def work(place: Place, name: str) -> None:
    """What a night does: a shard, a line in the journal, the memory of the inbox, a window of drift."""
    workspace = workspace_of(place)
    shard = workspace.dataset("cats") / "shards" / f"{name}.arrayrecord"
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_bytes(name.encode() * 1000)
    journal_of(workspace, "cats").append("look", reason=name)
    (workspace.datasets / "cats.inbox.json").write_text(name)
    (workspace.datasets / "cats.drift").mkdir(exist_ok=True)
    (workspace.datasets / "cats.drift" / "windows.jsonl").write_text(name)


def state(place: Place) -> tuple[list[str], list[str], str, str]:
    """The shards, the reasons in the journal, the inbox's memory and the drift."""
    workspace = workspace_of(place)
    shards = sorted(path.stem for path in workspace.dataset("cats").glob("shards/*"))
    reasons = [line.facts["reason"] for line in journal_of(workspace, "cats").lines()]
    inbox, drift = workspace.datasets / "cats.inbox.json", workspace.datasets / "cats.drift" / "windows.jsonl"
    return shards, reasons, inbox.read_text(), drift.read_text()


def test_each_night_goes_on_from_the_one_before_on_a_machine_that_begins_empty(tmp_path: Path) -> None:
    for night, name in enumerate(("one", "two", "three")):
        with carried_over(place(tmp_path, night)):
            work(place(tmp_path, night), name)
        shutil.rmtree(tmp_path / f"night{night - 1}", ignore_errors=True)
    assert state(place(tmp_path, 2)) == (["one", "three", "two"], ["one", "two", "three"], "three", "three")


def test_a_failed_night_is_kept_and_a_killed_one_begins_again_where_it_was_last_kept(tmp_path: Path) -> None:
    with contextlib.suppress(RuntimeError), carried_over(place(tmp_path, 0)):
        work(place(tmp_path, 0), "failed")
        raise RuntimeError("the night failed")
    killed = carried_over(place(tmp_path, 1))
    killed.__enter__()
    work(place(tmp_path, 1), "kept")
    keep_state(place(tmp_path, 1))
    work(place(tmp_path, 1), "lost")  # and nothing after this: the machine is gone
    with carried_over(place(tmp_path, 2)):
        assert state(place(tmp_path, 2)) == (["failed", "kept"], ["failed", "kept"], "kept", "kept")


def test_a_machine_that_keeps_its_disk_goes_on_from_its_own_files(tmp_path: Path) -> None:
    here = place(tmp_path, 0)
    with carried_over(here):
        work(here, "one")
    work(here, "by hand")
    with carried_over(here):
        assert state(here)[1] == ["one", "by hand"]


def test_without_the_variable_nothing_is_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STATE_VARIABLE)
    with carried_over(place(tmp_path, 0)):
        pass
    assert not (tmp_path / "night0").exists()


def test_a_state_whose_newest_objects_are_damaged_gives_way_to_the_one_before(tmp_path: Path, stores: Path) -> None:
    with carried_over(place(tmp_path, 0)):
        work(place(tmp_path, 0), "one")
    before = set(stores.rglob("*"))
    with carried_over(place(tmp_path, 0)):
        work(place(tmp_path, 0), "two")
    for path in set(stores.rglob("*")) - before:
        path.write_bytes(b"damaged")
    with carried_over(place(tmp_path, 1)):
        assert state(place(tmp_path, 1)) == (["one"], ["one"], "one", "one")


def test_what_another_run_has_kept_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    late = carried_over(place(tmp_path, 0))
    late.__enter__()
    work(place(tmp_path, 0), "late")
    with carried_over(place(tmp_path, 1)):
        work(place(tmp_path, 1), "first")
    with pytest.raises(MirrorError, match="another run has kept the state of cats"):
        late.__exit__(None, None, None)
    with carried_over(place(tmp_path, 2)):
        assert state(place(tmp_path, 2)) == (["first"], ["first"], "first", "first")


def test_a_restore_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    with carried_over(place(tmp_path, 0)):
        work(place(tmp_path, 0), "one")
    (tmp_path / "remote").rename(tmp_path / "away")
    with pytest.raises(SnapshotError), carried_over(place(tmp_path, 1)):
        raise AssertionError("the block began without its data set")
    shutil.rmtree(tmp_path / "remote", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "remote")
    with carried_over(place(tmp_path, 1)):
        assert state(place(tmp_path, 1))[:2] == (["one"], ["one"])


def test_files_that_no_version_holds_are_never_replaced(tmp_path: Path) -> None:
    with carried_over(place(tmp_path, 0)):
        work(place(tmp_path, 0), "one")
    work(place(tmp_path, 1), "of the user")
    with pytest.raises(SnapshotError, match="Files that no snapshot holds"), carried_over(place(tmp_path, 1)):
        pass
    assert state(place(tmp_path, 1))[:2] == (["of the user"], ["of the user"])


def test_a_store_that_cannot_be_written_fails_a_night_that_went_well_and_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "file" / "state"))
    carrier = Carrier(workspace_of(place(tmp_path, 0)), "cats", os.environ[STATE_VARIABLE])
    work(place(tmp_path, 0), "one")
    with pytest.raises(MirrorError, match=STATE_VARIABLE):
        carrier.keep()
