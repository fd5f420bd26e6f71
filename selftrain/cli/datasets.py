"""The command for data sets: restore."""

from __future__ import annotations

from typing import Annotated

import typer

from selftrain.cli.options import DEFAULT_WORKSPACE, WorkspaceOption


def restore(
    dataset: Annotated[str, typer.Argument(help="Name of the data set, which is its experiment's name.")],
    version: Annotated[str, typer.Argument(help="Its version, `dataset_version` in `selftrain status --json`.")],
    remote: Annotated[
        str | None, typer.Option("--remote", help="DVC remote (a path, s3://...). Default: the workspace's own.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also replace files that no version holds; they are lost.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Make a data set exactly what it was in a run, from DVC's cache or its remote. On failure nothing changes."""
    from selftrain.adapters.snapshots.repository import restore as restore_version
    from selftrain.files.workspace import Workspace

    folder = restore_version(Workspace(workspace), dataset, version, remote=remote, overwrite=overwrite)
    typer.echo(f"restored: {folder} is {version}")
