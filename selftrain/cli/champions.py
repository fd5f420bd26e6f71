"""The commands that choose the champion: promote, rollback, and the history of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.experiment import place_of, read_if_given
from selftrain.cli.shared.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    ModelNameOption,
    WorkspaceOption,
    print_columns,
    print_json,
)
from selftrain.errors import InputError

if TYPE_CHECKING:
    from selftrain.adapters.registry.references import OpenRegistry, Standing
    from selftrain.config import Event, Experiment

Why = Annotated[str, typer.Option("--why", help="Reason; the log keeps it.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML of the experiment: its model is meant, and its `notify:` is told."),
]


def promote(
    version: Annotated[int | None, typer.Argument(min=1, help="Version. Default: the challenger.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote a version that did not prove better; needs --why.")
    ] = False,
    why: Why = "",
    config: Config = None,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Make a registered version the champion, if its results on the test set allow it."""
    from selftrain.adapters.registry import champions
    from selftrain.adapters.registry.references import open_registry, standing
    from selftrain.adapters.registry.versions import champion_number

    if force and not why.strip():
        raise InputError("--force overrides the test results and needs a reason: add --why '...'")
    experiment = read_if_given(config)
    root, name = place_of(experiment, workspace, model_name)
    opened = open_registry(root, name)
    before = champion_number(opened.tracking, opened.name)
    champions.promote(opened.tracking, opened.name, version, who=champions.current_user(), why=why, force=force)
    _tell(experiment, "promoted", opened, root=root, before=before, why=why)
    _show(standing(opened), as_json=as_json)


def rollback(
    why: Why = "",
    config: Config = None,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Restore the previous champion; repeat the command to go further back.

    It skips champions that are withdrawn (`selftrain recall`) or descend from a withdrawn model.
    """
    from selftrain.adapters.registry import champions
    from selftrain.adapters.registry.references import open_registry, standing
    from selftrain.adapters.registry.versions import champion_number

    experiment = read_if_given(config)
    root, name = place_of(experiment, workspace, model_name)
    opened = open_registry(root, name)
    before = champion_number(opened.tracking, opened.name)
    champions.rollback(opened.tracking, opened.name, who=champions.current_user(), why=why)
    _tell(experiment, "rolled_back", opened, root=root, before=before, why=why)
    _show(standing(opened), as_json=as_json)


def history(
    model_name: ModelNameOption = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: AsJson = False
) -> None:
    """List every change of the champion, oldest first: when, who, what, why.

    The text output also has the recalls that concern the model; `selftrain recall --list --json` prints those as JSON.
    """
    from selftrain.adapters.registry import champions, recall_log
    from selftrain.adapters.registry.references import open_registry_to_read, standing

    opened = open_registry_to_read(workspace, model_name)
    log = champions.history(opened.tracking, opened.name)
    if as_json:
        print_json(log)
        return
    if not log:
        typer.echo(f"{opened.name}: no version has been promoted or refused yet")
    rows = [(each.when, each.who, str(each.action), _move(each.previous, each.to), each.why) for each in log]
    recalls = recall_log.lines_about(opened.tracking, opened.name)
    rows += [(each.when, each.who, each.action, each.called, each.why) for each in recalls]
    print_columns(sorted(rows, key=lambda row: row[0]))
    _warn(standing(opened).concern)


def _tell(
    experiment: Experiment | None, event: Event, opened: OpenRegistry, *, root: Path, before: int | None, why: str
) -> None:
    """Tell people of a champion that changed. A notice that does not arrive is recorded, and the change stands."""
    from selftrain.adapters.notices.sending import notify
    from selftrain.adapters.registry.champions import current_user
    from selftrain.adapters.registry.versions import champion_number

    now = champion_number(opened.tracking, opened.name)
    if experiment is None or now == before:
        return
    facts = {
        "experiment": experiment.name,
        "model": opened.name,
        "version": now,
        "previous": before,
        "who": current_user(),
        "reason": why or None,
    }
    notify(event, facts, settings=experiment.notify, record=root / "notices.jsonl")


def _show(now: Standing, *, as_json: bool) -> None:
    if as_json:
        print_json(now)
        return
    waiting = f", challenger {now.challenger_version}" if now.challenger_version is not None else ""
    typer.echo(f"{now.model_name}: champion {now.champion_version or 'none'}{waiting}")
    _warn(now.concern)


def _warn(concern: str | None) -> None:
    if concern is not None:
        typer.echo(f"WARNING: {concern}", err=True)


def _move(before: int | None, after: int) -> str:
    return f"{before if before is not None else '-'} -> {after}"
