"""DVC's objects of a workspace: which files in its cache, and in its own remote, no data set version needs."""

from __future__ import annotations

from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.adapters.snapshots.repository import VERSION_LIST, opened
from selftrain.errors import SnapshotError

if TYPE_CHECKING:
    from selftrain.files.workspace import Workspace


def versions_here(workspace: Workspace) -> frozenset[str]:
    """The data set versions whose file list is in the workspace's cache or in its own remote."""
    if not _has_repository(workspace):
        return frozenset()
    with opened(workspace, None, remember=False) as repo:
        return frozenset(oid for store in _own_stores(repo, workspace) for oid in store.all() if _is_list(oid))


def unneeded_objects(workspace: Workspace, needed: Set[str]) -> list[Path]:
    """The files of DVC's objects that no data set is at now, and that none of the versions `needed` has; lists first.

    Stores outside the workspace, such as a user's own remote, are left alone. Raises SnapshotError where the file list
    of a needed version cannot be read.
    """
    if not _has_repository(workspace):
        return []
    with opened(workspace, None, remember=False) as repo:
        return _unneeded(repo, workspace, needed)


def remove_objects(workspace: Workspace, needed: Set[str]) -> None:
    """Remove `unneeded_objects`. A version whose removal was cut short counts as missing, and can be saved again."""
    if not _has_repository(workspace):
        return
    with opened(workspace, None, remember=False) as repo:  # nobody saves a version meanwhile
        for path in _unneeded(repo, workspace, needed):
            with suppress(FileNotFoundError):
                path.unlink()


def _unneeded(repo: Any, workspace: Workspace, needed: Set[str]) -> list[Path]:
    stores = _own_stores(repo, workspace)
    wanted = {oid for version in needed | _pointed_to(workspace) for oid in _objects_of(stores, version)}
    found = [Path(store.oid_to_path(oid)) for store in stores for oid in store.all() if oid not in wanted]
    return sorted(found, key=lambda path: (not _is_list(path.name), path))


def _pointed_to(workspace: Workspace) -> set[str]:
    """The versions that the data sets are at now."""
    import yaml

    pointers = (path for path in workspace.datasets.glob("*.dvc") if path.is_file())
    return {out["md5"] for path in pointers for out in yaml.safe_load(path.read_text(encoding="utf-8"))["outs"]}


def _objects_of(stores: list[Any], version: str) -> set[str]:
    """The ids of the version's file list and of the files that it names; empty where no store holds the list."""
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo

    for store in stores:
        if store.exists(version):
            try:
                return {version, *(info.value for _, _, info in load(store, HashInfo("md5", version)))}
            except Exception as error:
                raise SnapshotError(
                    f"the file list of {version} in {store.path} cannot be read ({error}); nothing was removed: "
                    "restore that version first"
                ) from error
    return set()


def _own_stores(repo: Any, workspace: Workspace) -> list[Any]:
    """The cache and the workspace's own remote, where they lie in the workspace."""
    from dvc_data.hashfile.db import get_odb
    from dvc_objects.fs.local import localfs

    cache, root = repo.cache.local, workspace.root.resolve()
    remote = workspace.dvc_remote / "files" / "md5"
    stores = [cache] if Path(cache.path).resolve().is_relative_to(root) else []
    return [*stores, get_odb(localfs, str(remote.resolve()), hash_name="md5")] if remote.is_dir() else stores


def _is_list(oid: str) -> bool:
    return oid.endswith(VERSION_LIST)


def _has_repository(workspace: Workspace) -> bool:
    return (workspace.datasets / ".dvc").is_dir()
