"""Fetching single files of a data set version, from a folder and from a real S3 server whose key changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain.adapters.snapshots.fetching import fetch
from selftrain.adapters.snapshots.repository import CACHE_VARIABLE, REMOTE_VARIABLE, restore, snapshot
from selftrain.errors import SnapshotError
from selftrain.files.workspace import Workspace
from tests.adapters.s3 import S3Server

pytestmark = [
    # pygtrie warns at a use of it that DVC makes; DVC leaves its SQLite state, and aiobotocore its sessions, to the
    # garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]
FILES = {"shards/a.arrayrecord": 100_000, "shards/b.arrayrecord": 50_000, "test_sets/0001-x.parquet": 10}
A, B = "shards/a.arrayrecord", "shards/b.arrayrecord"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "here").ensure()
    for name, size in FILES.items():
        path = made.dataset("digits") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Workspace:
    """The workspace of another machine: empty."""
    return Workspace(tmp_path / "elsewhere")


def files_of(workspace: Workspace) -> list[str]:
    root = workspace.dataset("digits")
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def cached_bytes(workspace: Workspace) -> int:
    return sum(path.stat().st_size for path in (workspace.datasets / ".dvc" / "cache").rglob("*") if path.is_file())


def test_only_what_was_asked_for_and_is_missing_comes_from_the_remote(
    workspace: Workspace, elsewhere: Workspace
) -> None:
    version, remote = snapshot(workspace, "digits").hash, str(workspace.dvc_remote)
    assert fetch(elsewhere, "digits", version, [A], remote=remote) == 1
    assert files_of(elsewhere) == [A]
    assert (elsewhere.dataset("digits") / A).read_bytes() == (workspace.dataset("digits") / A).read_bytes()
    assert cached_bytes(elsewhere) == FILES[A]
    assert fetch(elsewhere, "digits", version, [A, B], remote=remote) == 1
    assert files_of(elsewhere) == [A, B]


def test_where_nothing_is_missing_dvc_is_not_opened_and_no_version_is_asked_for(workspace: Workspace) -> None:
    assert fetch(workspace, "digits", "never made", list(FILES)) == 0
    assert not (workspace.datasets / ".dvc").exists()


def test_a_file_that_the_version_lacks_is_named(workspace: Workspace, elsewhere: Workspace) -> None:
    version = snapshot(workspace, "digits").hash
    with pytest.raises(SnapshotError, match=r"no 'shards/c.arrayrecord' \(1 such files\).*run ingest again"):
        fetch(elsewhere, "digits", version, [A, "shards/c.arrayrecord"], remote=str(workspace.dvc_remote))
    assert files_of(elsewhere) == []


def test_a_version_that_was_never_pushed_is_named_with_the_remote(workspace: Workspace, elsewhere: Workspace) -> None:
    with pytest.raises(SnapshotError, match=r"dvc-remote.* holds the data set version 0{32}\.dir; push it"):
        fetch(elsewhere, "digits", f"{'0' * 32}.dir", [A], remote=str(workspace.dvc_remote))


def test_a_file_damaged_in_the_remote_is_refused(workspace: Workspace, elsewhere: Workspace) -> None:
    version = snapshot(workspace, "digits").hash
    (stored,) = (path for path in workspace.dvc_remote.rglob("*") if path.is_file() and path.stat().st_size == 100_000)
    stored.chmod(0o644)
    stored.write_bytes(b"\0" * 100_000)
    with pytest.raises(SnapshotError, match=r"1 files of the data set version .* push the version again"):
        fetch(elsewhere, "digits", version, [A], remote=str(workspace.dvc_remote))
    assert files_of(elsewhere) == []


def test_machines_that_share_a_cache_fetch_a_file_once_and_keep_their_own_copy(
    workspace: Workspace, elsewhere: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, remote = snapshot(workspace, "digits").hash, workspace.dvc_remote
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "shared"))
    fetch(elsewhere, "digits", version, [A], remote=str(remote))
    assert cached_bytes(elsewhere) == 0
    for path in remote.rglob("*"):
        if path.is_file() and path.stat().st_size == FILES[A]:
            path.unlink()
    third = Workspace(tmp_path / "third")
    assert fetch(third, "digits", version, [A], remote=str(remote)) == 1
    assert not (third.dataset("digits") / A).is_symlink()
    shutil.rmtree(tmp_path / "shared")
    assert len((third.dataset("digits") / A).read_bytes()) == FILES[A]


def test_a_data_set_that_is_kept_or_brought_with_a_shared_cache_lies_on_the_machines_own_disk(
    workspace: Workspace, elsewhere: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "shared"))
    monkeypatch.setenv(REMOTE_VARIABLE, str(tmp_path / "remote"))
    version = snapshot(workspace, "digits").hash
    restore(elsewhere, "digits", version)
    for each in (workspace, elsewhere):
        assert files_of(each) == sorted(FILES)
        assert not [path for path in each.dataset("digits").rglob("*") if path.is_symlink()]
    assert cached_bytes(workspace) + cached_bytes(elsewhere) == 0
    (tmp_path / "shared").rename(tmp_path / "gone")
    assert fetch(elsewhere, "digits", version, list(FILES)) == 0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server with a bucket `data`; the key is in a credentials file, which can be replaced at any time."""
    (tmp_path / "s3" / "data").mkdir(parents=True)
    made = S3Server(tmp_path / "s3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv(REMOTE_VARIABLE, "s3://data/dvc")
    try:
        yield made
    finally:
        made.stop()


def renew_key(server: S3Server, tmp_path: Path, key: str) -> None:
    """Let the server refuse the key before, and write the new one where clients read it."""
    server.start(key, f"{key}-secret")
    text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {key}-secret\n"
    (tmp_path / "credentials").write_text(text)


@pytest.mark.slow
def test_a_key_that_expires_between_two_transfers_of_one_process_is_read_again(
    server: S3Server, workspace: Workspace, elsewhere: Workspace, tmp_path: Path
) -> None:
    renew_key(server, tmp_path, "first")
    version = snapshot(workspace, "digits").hash
    assert fetch(elsewhere, "digits", version, [A]) == 1
    renew_key(server, tmp_path, "second")
    assert fetch(elsewhere, "digits", version, [A, B]) == 1
    assert (elsewhere.dataset("digits") / B).read_bytes() == (workspace.dataset("digits") / B).read_bytes()
    renew_key(server, tmp_path, "third")
    (workspace.dataset("digits") / "shards" / "c.arrayrecord").write_bytes(b"new")
    assert snapshot(workspace, "digits").hash != version


@pytest.mark.slow
def test_a_refused_key_is_one_error_that_names_it_and_leaves_nothing_half_fetched(
    server: S3Server, workspace: Workspace, elsewhere: Workspace, tmp_path: Path
) -> None:
    renew_key(server, tmp_path, "first")
    version = snapshot(workspace, "digits").hash
    server.start("another", "key")
    with pytest.raises(SnapshotError, match=r"DVC could not finish in .*(?i:access|forbidden|denied|key)"):
        fetch(elsewhere, "digits", version, [A])
    assert files_of(elsewhere) == []
