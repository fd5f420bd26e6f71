"""Snapshots on a real DVC repository in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selftrain.adapters.snapshots.repository import REMOTE_VARIABLE, exists, restore, snapshot
from selftrain.errors import SnapshotError, SourceError
from selftrain.files.workspace import Workspace

pytestmark = [
    # pygtrie warns at a use of it that DVC makes; DVC leaves its SQLite state to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "ws").ensure()
    write(made, "shards/a.arrayrecord", os.urandom(100_000))
    write(made, "shards/b.arrayrecord", os.urandom(50_000))
    write(made, "manifest.parquet", b"one")
    return made


def write(workspace: Workspace, name: str, content: bytes) -> Path:
    """Put a file into dataset 'digits' as ingest does: a new file, renamed into place."""
    path = workspace.dataset("digits") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
    return path


def contents(workspace: Workspace) -> dict[str, bytes]:
    root = workspace.dataset("digits")
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_content_has_the_same_version_and_another_content_another(workspace: Workspace) -> None:
    first = snapshot(workspace, "digits")
    again = snapshot(workspace, "digits")
    write(workspace, "manifest.parquet", b"two")
    changed = snapshot(workspace, "digits")
    assert first == again
    assert first.hash.endswith(".dir")
    assert (first.nfiles, first.size) == (3, 150_003)
    assert changed.hash != first.hash


def test_a_version_is_restored_elsewhere_by_its_hash_alone(workspace: Workspace, tmp_path: Path) -> None:
    version = snapshot(workspace, "digits")
    elsewhere = Workspace(tmp_path / "elsewhere")
    restore(elsewhere, "digits", version.hash, remote=str(workspace.dvc_remote))
    assert contents(elsewhere) == contents(workspace)


def test_a_moved_workspace_finds_its_own_remote(workspace: Workspace, tmp_path: Path) -> None:
    version = snapshot(workspace, "digits")
    moved = Workspace(workspace.root.rename(tmp_path / "moved"))
    before = contents(moved)
    shutil.rmtree(moved.datasets / ".dvc" / "cache")
    shutil.rmtree(moved.dataset("digits"))
    assert exists(moved, version.hash)
    restore(moved, "digits", version.hash)
    assert contents(moved) == before
    assert not workspace.root.exists()


def test_an_earlier_version_comes_back_exactly_and_later_files_go(workspace: Workspace) -> None:
    before = contents(workspace)
    first = snapshot(workspace, "digits")
    write(workspace, "shards/c.arrayrecord", b"new")
    write(workspace, "manifest.parquet", b"two")
    second = snapshot(workspace, "digits")
    after = contents(workspace)
    restore(workspace, "digits", first.hash)
    assert contents(workspace) == before
    restore(workspace, "digits", second.hash)
    assert contents(workspace) == after


def test_restoring_refuses_to_lose_files_that_no_snapshot_holds(workspace: Workspace) -> None:
    first = snapshot(workspace, "digits")
    write(workspace, "manifest.parquet", b"unsaved")
    with pytest.raises(SnapshotError, match="overwrite"):
        restore(workspace, "digits", first.hash)
    assert contents(workspace)["manifest.parquet"] == b"unsaved"
    restore(workspace, "digits", first.hash, overwrite=True)
    assert contents(workspace)["manifest.parquet"] == b"one"


def test_a_failed_restore_leaves_the_version_that_was_there(workspace: Workspace) -> None:
    version = snapshot(workspace, "digits")
    with pytest.raises(SnapshotError):
        restore(workspace, "digits", "0" * 32 + ".dir")
    assert snapshot(workspace, "digits") == version


def test_files_are_linked_to_the_cache_not_copied_and_the_originals_stay_replaceable(workspace: Workspace) -> None:
    snapshot(workspace, "digits")
    shard = workspace.dataset("digits") / "shards" / "a.arrayrecord"
    copies = shard.stat().st_nlink == 1 and not shard.is_symlink()
    assert not copies or not hardlinks_work(workspace.root)
    cached = [path for path in (workspace.datasets / ".dvc" / "cache").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in cached}
    write(workspace, "shards/a.arrayrecord", b"replaced")
    assert {path: path.read_bytes() for path in cached} == before


def hardlinks_work(folder: Path) -> bool:
    """False where reflinks make them needless, too: then files look like copies and cost nothing."""
    source = folder / "probe"
    source.write_bytes(b"x")
    os.link(source, folder / "probe2")
    return subprocess.run(["cp", "--reflink=always", source, folder / "probe3"], capture_output=True).returncode != 0


def test_exists_tells_a_wiped_remote_and_a_snapshot_fills_it_again(workspace: Workspace) -> None:
    version = snapshot(workspace, "digits")
    assert exists(workspace, version.hash)
    shutil.rmtree(workspace.dvc_remote)
    assert not exists(workspace, version.hash)
    assert snapshot(workspace, "digits") == version
    assert exists(workspace, version.hash)


def test_a_file_lost_from_the_remote_is_pushed_again(workspace: Workspace) -> None:
    version = snapshot(workspace, "digits")
    lost = next(path for path in workspace.dvc_remote.rglob("*") if path.is_file() and path.suffix != ".dir")
    lost.unlink()
    assert not exists(workspace, version.hash)
    snapshot(workspace, "digits")
    assert exists(workspace, version.hash)


def test_a_wiped_cache_is_filled_again(workspace: Workspace) -> None:
    version = snapshot(workspace, "digits")
    before = contents(workspace)
    shutil.rmtree(workspace.datasets / ".dvc")
    shutil.rmtree(workspace.dvc_remote)
    assert snapshot(workspace, "digits") == version
    assert contents(workspace) == before
    assert exists(workspace, version.hash)


def test_nothing_exists_in_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    assert not exists(Workspace(tmp_path / "none"), "0" * 32 + ".dir")
    assert not (tmp_path / "none").exists()


def test_unfinished_files_of_a_killed_ingest_are_left_out(workspace: Workspace) -> None:
    version = snapshot(workspace, "digits")
    (workspace.dataset("digits") / "shards" / "c.arrayrecord.part").write_bytes(b"half")
    assert snapshot(workspace, "digits") == version


def test_a_remote_is_taken_from_the_argument_then_the_environment_then_what_is_configured(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, str(tmp_path / "variable"))
    snapshot(workspace, "digits")
    assert any((tmp_path / "variable").rglob("*.dir"))
    snapshot(workspace, "digits", remote=str(tmp_path / "argument"))
    assert any((tmp_path / "argument").rglob("*.dir"))
    monkeypatch.delenv(REMOTE_VARIABLE)
    version = snapshot(workspace, "digits")
    shutil.rmtree(tmp_path / "variable")
    assert exists(workspace, version.hash)  # the last one configured, kept in .dvc/config
    assert not any(workspace.dvc_remote.iterdir())


def test_a_remote_the_user_added_with_dvc_itself_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    snapshot(workspace, "digits")
    mine = tmp_path / "mine"
    command = [sys.executable, "-m", "dvc", "remote", "add", "--default", "mine", str(mine)]
    subprocess.run(command, cwd=workspace.datasets, check=True, capture_output=True)
    snapshot(workspace, "digits")
    assert any(mine.rglob("*.dir"))


def test_dvc_itself_finds_the_dataset_clean(workspace: Workspace) -> None:
    snapshot(workspace, "digits")
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=workspace.datasets, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "{}"


def test_the_git_tree_around_stays_clean(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    inside = Workspace(tmp_path / ".selftrain").ensure()
    write(inside, "manifest.parquet", b"one")
    snapshot(inside, "digits")
    status = ["git", "-C", str(tmp_path), "status", "--porcelain"]
    assert subprocess.run(status, check=True, capture_output=True, text=True).stdout == ""


def test_a_missing_or_empty_dataset_is_named(workspace: Workspace) -> None:
    with pytest.raises(SourceError, match="no dataset 'flowers'"):
        snapshot(workspace, "flowers")


@pytest.mark.parametrize("remote", ["nosuch://bucket/path", "/dev/null/no-folder"])
def test_a_remote_that_cannot_be_used_is_one_line_and_not_remembered(workspace: Workspace, remote: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        snapshot(workspace, "digits", remote=remote)
    assert remote.split("/")[-2] in str(caught.value) or "nosuch" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert exists(workspace, snapshot(workspace, "digits").hash)


def test_asking_another_remote_does_not_move_there(workspace: Workspace, tmp_path: Path) -> None:
    version = snapshot(workspace, "digits")
    assert not exists(workspace, version.hash, remote=str(tmp_path / "other"))
    assert exists(workspace, version.hash)


def test_what_is_no_version_is_refused_before_anything_is_written(workspace: Workspace) -> None:
    with pytest.raises(SourceError, match="not a dataset version"):
        restore(workspace, "digits", "latest\n  wdir: /")
    assert not (workspace.datasets / ".dvc").exists()


SNAPSHOT = """
import sys
from pathlib import Path
from selftrain.adapters.snapshots.repository import snapshot
from selftrain.files.workspace import Workspace
print(snapshot(Workspace(Path(sys.argv[1])), "digits").hash)
"""


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.95])
def test_a_snapshot_killed_half_way_is_finished_by_the_next(workspace: Workspace, share: float) -> None:
    for number in range(20):
        write(workspace, f"shards/{number}.arrayrecord", os.urandom(2_000_000))
    before = contents(workspace)
    command = [sys.executable, "-c", SNAPSHOT, str(workspace.root)]
    started = time.monotonic()
    whole = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    took = time.monotonic() - started
    shutil.rmtree(workspace.datasets / ".dvc")
    shutil.rmtree(workspace.dvc_remote)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(took * share)
    process.send_signal(signal.SIGKILL)
    process.wait()
    version = snapshot(workspace, "digits")
    assert version.hash == whole
    assert contents(workspace) == before
    assert exists(workspace, version.hash)


def test_two_processes_at_once_both_finish(workspace: Workspace) -> None:
    command = [sys.executable, "-c", SNAPSHOT, str(workspace.root)]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].strip() for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert said[0] == said[1] != ""
