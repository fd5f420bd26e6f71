"""Snapshots: every dataset version of a workspace, addressed by its content in DVC, and restorable from a remote.

The datasets folder is a DVC repository without scm, so a run never touches the user's git tree. DVC replaces the files
of a dataset with read-only links into its cache. To change a dataset, write a new file and rename it over the old one.
Never write into the old one.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from selftrain.errors import SelftrainError, SnapshotError, SourceError
from selftrain.files.locks import locked
from selftrain.files.writing import replace_text

if TYPE_CHECKING:
    from selftrain.files.workspace import Workspace

REMOTE_VARIABLE = "SELFTRAIN_DVC_REMOTE"
CACHE_VARIABLE = "SELFTRAIN_DVC_CACHE"
"""A folder for DVC's cache that several machines share, such as a volume of all pods."""
REMOTE = "selftrain"
VERSION = r"[0-9a-f]{32}\.dir"
VERSION_LIST = ".dir"  # how the id of a file list ends
IGNORED = "*.part\n*.tmp\npending/\n"  # what a killed ingest may leave behind


class DatasetVersion(BaseModel):
    """A dataset's content in DVC: `hash` is the md5 of its file list, ending in '.dir'; size in bytes."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    hash: str
    nfiles: int
    size: int


def snapshot(workspace: Workspace, dataset: str, *, remote: str | None = None) -> DatasetVersion:
    """Add `datasets/<dataset>` to DVC and push it; the same content gives the same version, and costs next to nothing.

    `remote` is a DVC URL (a path, s3://..., ...). None: the variable SELFTRAIN_DVC_REMOTE, else the repository's own
    setting, which is a folder of the workspace at first. It is safe to kill and repeat: what the cache or the remote
    lacks is added again. Raises SourceError for an unknown dataset, and SnapshotError when DVC refuses.
    """
    folder = workspace.datasets / dataset
    if not folder.is_dir() or not any(folder.iterdir()):
        raise SourceError(f"no dataset {dataset!r} in {workspace.datasets} (missing or empty); ingest it first")
    with opened(workspace, remote) as repo:
        [stage] = repo.add(str(folder))
        [out] = stage.outs
        _push(repo, stage.path, out.hash_info.value)
        meta = out.meta
        return DatasetVersion(dataset=dataset, hash=out.hash_info.value, nfiles=meta.nfiles, size=meta.size)


def restore(
    workspace: Workspace, dataset: str, version: str, *, remote: str | None = None, overwrite: bool = False
) -> Path:
    """Make `datasets/<dataset>` exactly the snapshot with the hash `version`, pulling what is missing; returns it.

    Files that no snapshot holds are only lost with `overwrite`. Raises SnapshotError when neither cache nor remote
    holds the version, or when unsaved files are in the way. The dataset then stays as it was.
    """
    if not re.fullmatch(VERSION, version):
        raise SourceError(
            f"{version!r} is not a dataset version; it is 32 hex digits and '.dir', as a run's record has it"
        )
    folder = workspace.datasets / dataset
    pointer = workspace.datasets / f"{dataset}.dvc"
    with opened(workspace, remote) as repo:
        before = pointer.read_text() if pointer.exists() else None
        replace_text(pointer, f"outs:\n- md5: {version}\n  hash: md5\n  path: {dataset}\n")
        try:
            _check_out(repo, pointer, version, overwrite=overwrite)
        except BaseException:
            if before is None:
                pointer.unlink(missing_ok=True)
            else:
                replace_text(pointer, before)
            raise
    return folder


def exists(workspace: Workspace, version: str, *, remote: str | None = None) -> bool:
    """Whether the remote holds the snapshot `version` with all its files, so that it can be restored elsewhere."""
    if not workspace.datasets.is_dir():
        return False
    with opened(workspace, remote, remember=False) as repo:
        return not _missing(repo.cloud.get_remote_odb(), version)


def _check_out(repo: Any, pointer: Path, version: str, *, overwrite: bool) -> None:
    """Fetch, then link. DVC's `pull` does both, but empties the folder when the remote lacks the version."""
    from dvc.exceptions import DvcException

    with suppress(FileNotFoundError):
        repo.fetch(targets=[str(pointer)])
    if _missing(repo.cache.local, version):
        remote = repo.cloud.get_remote_odb().path
        raise SnapshotError(
            f"neither this cache nor the remote {remote} holds {version}; push it from where it was made"
        )
    try:
        repo.checkout(targets=[str(pointer)], force=overwrite)
    except DvcException as error:
        raise SnapshotError(
            f"{pointer.with_suffix('')} was not replaced: {_reason(error)}. Files that no snapshot holds are only "
            "removed with --overwrite (overwrite=True); take a snapshot first to keep them"
        ) from error


def _missing(odb: Any, version: str) -> bool:
    """Whether the object store lacks the file list `version` or a file that it names."""
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo

    if not odb.exists(version):
        return True
    wanted = {info.value for _, _, info in load(odb, HashInfo("md5", version))}
    return wanted != set(odb.oids_exist(wanted))


def _push(repo: Any, pointer: str, version: str) -> None:
    """Push, and push again if files are missing: DVC takes a file list in the remote as proof of its files."""
    repo.push(targets=[pointer])
    odb = repo.cloud.get_remote_odb()
    if not _missing(odb, version):
        return
    with suppress(FileNotFoundError):
        odb.delete(version)
    repo.push(targets=[pointer])
    if _missing(odb, version):
        raise SnapshotError(f"the remote {odb.path} still lacks files of {version} after a push; is it writable?")


@contextmanager
def opened(workspace: Workspace, remote: str | None, *, remember: bool = True) -> Iterator[Any]:
    """The workspace's DVC repository, made on first use, for this process only.

    With `remember`, a remote that worked also becomes the one that `dvc` uses by hand.
    """
    from dvc.repo import Repo

    workspace.ensure()
    url = _absolute(remote or os.environ.get(REMOTE_VARIABLE))
    # DVC's own lock gives up after three seconds if another process holds it.
    with locked(workspace.root / "dvc.lock"), _quiet("dvc", "dvc_data", "dvc_objects"):
        try:
            _prepare(workspace)
            with Repo(str(workspace.datasets), config=_settings(workspace.datasets, url)) as repo:
                yield repo
            if url and remember:
                _point(workspace, url)
        except SelftrainError:
            raise
        except Exception as error:  # each kind of remote raises its own library's errors
            raise SnapshotError(f"DVC could not finish in {workspace.datasets}: {_reason(error)}") from error


def _absolute(url: str | None) -> str | None:
    return url if url is None or "://" in url else str(Path(url).expanduser().resolve())


def _settings(datasets: Path, url: str | None) -> dict[str, Any]:
    """DVC's settings in this process: no scm, hash records in the workspace, links instead of copies, cache and remote.

    Nothing is linked by its path to a cache that is shared: what a data set's folder holds is on this machine's disk.
    """
    site, shared = datasets / ".dvc" / "site", _absolute(os.environ.get(CACHE_VARIABLE))
    core = {"no_scm": True, "analytics": False, "check_update": False, "site_cache_dir": str(site)}
    links = _links(datasets)
    cache = {"type": links.replace("symlink,", ""), "dir": shared} if shared else {"type": links}
    settings: dict[str, Any] = {"core": core, "cache": cache}
    if url:
        settings |= {"core": {**core, "remote": REMOTE}, "remote": {REMOTE: {"url": url}}}
    return settings


def _links(folder: Path) -> str:
    """Cache link types, best first. DVC mistakes a copy for a reflink, so reflink is only named where it works."""
    from dvc_objects.fs.generic import test_links
    from dvc_objects.fs.local import localfs

    reflinks = test_links(["reflink"], localfs, str(folder), localfs, str(folder))
    return "reflink,hardlink,symlink,copy" if reflinks else "hardlink,symlink,copy"


def _prepare(workspace: Workspace) -> None:
    """Make the repository if it is missing, with a folder of the workspace as its remote."""
    from dvc.config import Config

    folder = workspace.datasets / ".dvc"
    folder.mkdir(exist_ok=True)
    ignore = workspace.datasets / ".dvcignore"
    if not ignore.exists():
        replace_text(ignore, IGNORED)
    if not (folder / "config").exists():
        replace_text(folder / "config", "[core]\n    no_scm = True\n    analytics = False\n")
    if not Config(str(folder))["core"].get("remote"):
        _point(workspace, str(workspace.dvc_remote.resolve()))


def _point(workspace: Workspace, url: str) -> None:
    """Write `url` into `.dvc/config` as the default remote; the other settings stay.

    A folder of the workspace is written as a relative path, so that the workspace can be moved.
    """
    from dvc.config import Config

    config = Config(str(workspace.datasets / ".dvc"))
    if config["core"].get("remote") == REMOTE and config["remote"].get(REMOTE, {}).get("url") == url:
        return
    if Path(url).is_relative_to(workspace.root.resolve()):
        url = os.path.relpath(url)  # DVC makes it relative to its own folder
    with config.edit() as changed:
        changed["core"]["remote"] = REMOTE
        changed["remote"].setdefault(REMOTE, {})["url"] = url


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Hide DVC's progress bars and hints, which follow the level of its loggers."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The error and its cause, in one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    cause = error.__cause__
    return f"{message} ({_reason(cause)})" if cause and str(cause) and str(cause) not in message else message
