"""Fetching: the files of a data set that this machine lacks, by the hash of their version, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.adapters.snapshots.repository import opened
from selftrain.data.store.shards import SHARDS
from selftrain.data.store.test_sets import FOLDER as TEST_SETS
from selftrain.errors import SnapshotError
from selftrain.files.writing import replace

if TYPE_CHECKING:
    from selftrain.data.manifest import Manifest
    from selftrain.data.store.dataset import Dataset
    from selftrain.files.workspace import Workspace


def with_shards(dataset: Dataset, manifest: Manifest, version: str, *, test_set: str | None = None) -> Dataset:
    """`dataset` with the shards of `manifest` on this machine's disk, and the earlier test set named `test_set`.

    Where all of them are there, as on the machine that ingested them, this costs one look at each file, and DVC is not
    opened. What is missing is fetched from the data set's `version` in the DVC remote. Raises SnapshotError where the
    remote cannot be reached, or lacks a file.
    """
    names = [f"{SHARDS}/{name}" for name in manifest.table["shard"].unique().cast("string").to_pylist()]
    fetch(dataset.workspace, dataset.name, version, [*names, *([f"{TEST_SETS}/{test_set}"] if test_set else [])])
    return dataset


def fetch(workspace: Workspace, dataset: str, version: str, names: Iterable[str], *, remote: str | None = None) -> int:
    """Bring the files `names` (paths in the data set's folder) that are missing here; returns how many these were.

    Each comes whole, through DVC's cache, which may be a volume that several machines share; the copy in the data set's
    folder is on this machine's disk. The remote is opened again at each call, so that a key that was replaced since is
    read again. A file that is there stays as it is.
    """
    folder = workspace.dataset(dataset)
    if not _missing(folder, names):
        return 0
    with opened(workspace, remote, remember=False) as repo:
        missing = _missing(folder, names)  # another process may have brought them meanwhile
        objects = _objects(repo, version, missing)
        _fill_cache(repo, objects.values(), version)
        for name, oid in objects.items():
            _copy_from(repo.cache.local, oid, folder / name)
    return len(missing)


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return sorted(name for name in set(names) if not (folder / name).exists())


def _objects(repo: Any, version: str, names: Iterable[str]) -> dict[str, str]:
    """The object id of each of `names` in the file list of `version`. Raises SnapshotError for one that it lacks."""
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo

    cache, remote = repo.cache.local, repo.cloud.get_remote_odb()
    store = cache if cache.exists(version) else remote
    try:  # the remote is not asked whether it has the list: to S3's clients, a refused key looks like a missing file
        listed = {"/".join(key): str(info.value) for key, _, info in load(store, HashInfo("md5", version))}
    except FileNotFoundError as error:
        raise SnapshotError(
            f"neither this cache nor the remote {remote.path} holds the data set version {version}; push it from where "
            "it was made, or check SELFTRAIN_DVC_REMOTE"
        ) from error
    if unknown := [name for name in names if name not in listed]:
        raise SnapshotError(
            f"the data set version {version} has no {unknown[0]!r} ({len(unknown)} such files); it is of another "
            "manifest: run ingest again"
        )
    return {name: listed[name] for name in names}


def _fill_cache(repo: Any, oids: Iterable[str], version: str) -> None:
    """Transfer the objects that the cache lacks; each is checked by its md5. Raises SnapshotError if one stays out."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.transfer import transfer

    cache, remote = repo.cache.local, repo.cloud.get_remote_odb()
    wanted = {oid for oid in oids if not cache.exists(oid)}
    transfer(remote, cache, {HashInfo("md5", oid) for oid in wanted}, verify=True)
    if lost := sorted(oid for oid in wanted if not cache.exists(oid)):
        raise SnapshotError(
            f"{len(lost)} files of the data set version {version} did not come from {remote.path}, the first is "
            f"{lost[0]}; they are missing there or damaged: push the version again from where it was made"
        )


def _copy_from(cache: Any, oid: str, path: Path) -> None:
    """Put an object of the cache at `path`; a link to another disk would make each read go there."""
    from dvc_objects.fs.generic import transfer
    from dvc_objects.fs.local import localfs

    links = [kind for kind in cache.cache_types if kind != "symlink"]
    replace(path, lambda part: transfer(cache.fs, cache.oid_to_path(oid), localfs, str(part), links=links))
