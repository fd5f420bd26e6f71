"""`selftrain schedule`: retraining at set times, started by ZenML, systemd, cron or a process that you keep running."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.experiment import read_if_given
from selftrain.cli.shared.options import DEFAULT_WORKSPACE, AsJson, WorkspaceOption, print_columns, print_json
from selftrain.errors import InputError, ScheduleError

if TYPE_CHECKING:
    from zenml.pipelines.pipeline_definition import Pipeline

    from selftrain.adapters.schedule.overview import Overview
    from selftrain.adapters.schedule.store import Entry

RUN_FAILED = 1
STARTED_BY = {
    "zenml": "a schedule of ZenML",
    "systemd": "a systemd timer",
    "crontab": "a crontab entry",
    "foreground": "`selftrain schedule --foreground`",
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Cron = Annotated[
    str | None, typer.Option("--cron", metavar="EXPRESSION", help="When: minute hour day month weekday, as in cron.")
]
TimeZone = Annotated[
    str | None, typer.Option("--time-zone", metavar="NAME", help="Time zone of --cron. Default: this machine's.")
]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML of the experiment to retrain. Default: the digits.")
]
Foreground = Annotated[
    bool, typer.Option("--foreground", help="Start the runs in this process, for as long as you keep it running.")
]
Name = Annotated[str | None, typer.Argument(help="Name of the schedule. Default: the only one.")]


@app.callback(invoke_without_command=True)
def schedule(
    context: typer.Context,
    cron: Cron = None,
    time_zone: TimeZone = None,
    config: Config = None,
    foreground: Foreground = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Run `selftrain retrain` at set times: `selftrain schedule --cron "0 3 * * *" --config pets.yaml`.

    The runs are started by a schedule of ZenML where the stack's orchestrator has schedules; else by a systemd timer;
    else by a crontab entry. Where there is none of them, keep `selftrain schedule --foreground` running. It starts all
    schedules of the workspace that nothing else starts.

    Each run is a process of its own, one at a time. A run that comes due during another follows it, once. Times that
    were missed are made up once.
    """
    given = cron is not None or time_zone is not None or config is not None or foreground
    if context.invoked_subcommand is not None:
        if given:
            raise InputError(f"--cron and what belongs to it do not go with `schedule {context.invoked_subcommand}`")
        return
    if cron is not None:
        _add(cron, time_zone, config, foreground=foreground, workspace=workspace)
    elif time_zone is not None or config is not None or not foreground:
        raise InputError("say when: selftrain schedule --cron '0 3 * * *'; selftrain schedule list shows what there is")
    if foreground:
        _keep(workspace)


@app.command("list")
def show(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: AsJson = False) -> None:
    """List the schedules: when each is due next, what starts it, and how its last run ended."""
    from selftrain.adapters.schedule.overview import overview
    from selftrain.adapters.schedule.store import clock

    found = overview(workspace, clock())
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("no schedule; add one with: selftrain schedule --cron '0 3 * * *' --config FILE")
        return
    print_columns([("name", "cron", "time zone", "started by", "state", "next", "last run"), *map(_row, found)])
    for each in found:
        if each.advice is not None:
            typer.echo(each.advice)


@app.command()
def pause(name: Name = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Start nothing until `resume`. What is missed meanwhile is not made up; a run that goes on is not ended."""
    from selftrain.adapters.schedule.arranging import set_paused

    typer.echo(f"paused: {set_paused(workspace, name, paused=True).name}")


@app.command()
def resume(name: Name = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Start runs again, from the next time on."""
    from selftrain.adapters.schedule.arranging import set_paused

    entry = set_paused(workspace, name, paused=False)
    typer.echo(f"resumed: {entry.name}; {_next(entry)}")


@app.command()
def remove(name: Name = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Remove a schedule. A run that goes on is not ended, and no log is removed."""
    from selftrain.adapters.schedule.arranging import remove as take_away

    typer.echo(f"removed: {take_away(workspace, name).name}")


@app.command("run-now")
def run_now(name: Name = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Run a schedule's retraining now, and wait for it. If another run goes on, one more follows it.

    Exit code 1: the run failed; its log says why.
    """
    from selftrain.adapters.schedule.arranging import ask_for

    entry = ask_for(workspace, name)
    typer.echo(f"{entry.name}: {shlex.join(entry.command)}", err=True)
    if not _start(workspace):
        typer.echo(f"another run goes on; one more run of {entry.name} follows it")


@app.command(hidden=True)
def look(name: Name = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """What a timer calls: run the schedule if it is due."""
    from selftrain.adapters.schedule.store import clock, schedule_of
    from selftrain.adapters.schedule.store import look as look_at

    with _writing(workspace):
        look_at(workspace, (schedule_of(workspace, name).name,), clock())
    _start(workspace, quiet=True)  # cron mails whatever is printed


def _add(cron: str, time_zone: str | None, config: Path | None, *, foreground: bool, workspace: Path) -> None:
    from selftrain.adapters.notices.sending import check_command
    from selftrain.adapters.schedule.arranging import add, best_starter

    experiment = read_if_given(config)
    if experiment is not None:
        check_command(experiment.notify)  # before ZenML is asked, which takes seconds
    starter = "foreground" if foreground else best_starter()
    entry = add(
        config,
        expression=cron,
        time_zone=time_zone,
        workspace=workspace,
        starter=starter,
        load_pipeline=_retraining_pipeline,
    )
    typer.echo(f"{entry.name}: {entry.cron} {entry.time_zone}; {_next(entry)}")
    typer.echo(f"runs: {shlex.join(entry.command)}")
    typer.echo(f"started by: {STARTED_BY[entry.starter]}")
    for hint in _hints(entry, foreground=foreground):
        typer.echo(hint, err=True)


def _hints(entry: Entry, *, foreground: bool) -> list[str]:
    import os

    from selftrain.adapters.schedule.hints import hints, secrets_of_environment
    from selftrain.adapters.schedule.systemd import lingers

    return hints(
        entry.starter,
        wanted=foreground,
        lingers=entry.starter != "systemd" or lingers(),
        references=secrets_of_environment(Path(entry.config) if entry.config else None),
        environment=os.environ,
    )


def _keep(workspace: Path) -> None:
    from selftrain.adapters.schedule.foreground import keep

    typer.echo("keeping the schedules; Ctrl-C ends this, and the run that goes on", err=True)
    keep(workspace, say=lambda line: typer.echo(line, err=True))


def _start(workspace: Path, *, quiet: bool = False) -> bool:
    """Run what is armed, and say how it ended (`quiet`: if not well). False: another process runs it.

    Raises Exit if a run failed.
    """
    from selftrain.adapters.schedule.foreground import ending
    from selftrain.adapters.schedule.starting import goes_on, start_armed

    with _writing(workspace):
        runs = start_armed(workspace)
    for run in runs:
        if run.failed or not quiet:
            typer.echo(ending(run), err=True)
    if any(run.failed for run in runs):
        raise typer.Exit(RUN_FAILED)
    return bool(runs) or not goes_on(workspace)


@contextmanager
def _writing(workspace: Path) -> Iterator[None]:
    """Say in one line that the workspace cannot be written to."""
    try:
        yield
    except OSError as error:
        raise ScheduleError(f"{workspace} cannot be written to: {error.strerror}; free space, or mend it") from error


def _next(entry: Entry) -> str:
    from selftrain.adapters.schedule.overview import local
    from selftrain.adapters.schedule.store import clock

    return f"next at {local(entry.times.after(clock()), entry.time_zone)}"


def _row(each: Overview) -> tuple[str, ...]:
    from selftrain.adapters.schedule.overview import local

    last = "-"
    if each.last is not None:
        well = each.last.ended is not None and not each.last.failed
        how = "goes on" if each.running else "ended well" if well else "failed"
        last = f"{local(each.last.started, each.time_zone)}, {how}"
    next_time = local(each.next, each.time_zone) if each.next is not None else "-"
    return (each.name, each.cron, each.time_zone, each.starter, each.state, next_time, last)


def _retraining_pipeline() -> Pipeline:
    from importlib import import_module

    pipeline: Pipeline = import_module("pipelines.retraining_pipeline").retraining_pipeline
    return pipeline
