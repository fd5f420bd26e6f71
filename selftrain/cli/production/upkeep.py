"""The commands that keep a workspace: clean it, and restore a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.options import DEFAULT_WORKSPACE, AsJson, WorkspaceOption, print_columns, print_json

if TYPE_CHECKING:
    from selftrain.adapters.upkeep.clean import CleanReport

KeepRuns = Annotated[
    int, typer.Option("--keep-runs", min=1, help="Newest finished runs of each experiment that stay whole.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")]


def clean(
    keep_runs: KeepRuns,
    dry_run: DryRun = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Free disk space: remove what neither you nor the newest runs need, and say how many bytes that frees.

    It never removes a model that has an alias, was ever champion, or belongs to a kept run. It never removes a data set
    version that a kept run or a registered model names, nor anything outside the workspace and ZenML's own store. It
    does nothing while a run is alive.
    """
    from selftrain.adapters.upkeep.clean import clean as clean_workspace

    report = clean_workspace(workspace, keep_runs=keep_runs, dry_run=dry_run)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _show(report: CleanReport) -> None:
    print_columns([(each.kind, f"{each.files:,} files", f"{each.size:,} bytes") for each in report.freed])
    done = "would be freed; nothing was removed" if report.dry_run else "freed"
    typer.echo(f"{report.size:,} bytes {done}; runs kept: {report.kept_runs}")


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
