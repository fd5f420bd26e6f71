"""Arranging: a schedule is added, paused, resumed or removed, here and with whoever starts its runs."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from selftrain.adapters.notices.sending import check_command
from selftrain.adapters.schedule import crontab, systemd, zenml
from selftrain.adapters.schedule.cron import cron, hourly_minutes, local_zone
from selftrain.adapters.schedule.store import Entry, Starter, change, clock, schedule_of, schedules, update
from selftrain.config import Experiment
from selftrain.config.text.file import read_experiment
from selftrain.errors import ScheduleError
from selftrain.files.workspace import Workspace

if TYPE_CHECKING:
    from zenml.pipelines.pipeline_definition import Pipeline

CARRIED = ("ZENML_CONFIG_PATH", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PATH")
"""Variables of the environment that a run gets as they were when its schedule was added: cron and systemd set few."""
MARK = 8

LoadPipeline = Callable[[], "Pipeline"]


def add(
    config: Path | None,
    *,
    expression: str,
    time_zone: str | None,
    workspace: Path,
    starter: Starter,
    load_pipeline: LoadPipeline,
) -> Entry:
    """Let `starter` run `selftrain retrain` with `config` whenever the cron expression says; returns the schedule.

    It has the experiment's name, and replaces a schedule of that name. `time_zone` None is that of this machine.
    Raises InputError for a wrong expression, time zone or configuration, and ScheduleError if `starter` refuses.
    """
    times = cron(expression, time_zone or local_zone())
    experiment = Experiment() if config is None else read_experiment(config)
    check_command(experiment.notify)
    path = str(config.resolve()) if config is not None else None
    made = Entry(
        name=experiment.name,
        cron=times.expression,
        time_zone=times.time_zone,
        config=path,
        command=(*program(), "retrain", *(("--config", path) if path else ())),
        folder=str(Path.cwd()),
        environment=carried(os.environ)[0],
        starter=starter,
        since=clock(),
    )
    Workspace(workspace).ensure()
    others = [entry for entry in schedules(workspace) if entry.name == made.name and entry.starter != starter]
    _put(made, workspace, load_pipeline)
    try:
        for other in others:
            _take(other, workspace)
    except ScheduleError:
        _take(made, workspace)
        raise
    change(workspace, made.name, lambda old: made.model_copy(update={"armed": old is not None and old.armed}))
    return made


def remove(workspace: Path, name: str | None) -> Entry:
    """Remove a schedule (None: the only one). A run of it that goes on is not ended."""
    entry = schedule_of(workspace, name)
    _take(entry, workspace)
    change(workspace, entry.name, lambda _: None)
    return entry


def set_paused(workspace: Path, name: str | None, *, paused: bool) -> Entry:
    """Pause or resume a schedule (None: the only one). What is missed in a pause, or waits, is not made up."""
    entry = schedule_of(workspace, name)
    if entry.starter == "zenml" and entry.paused != paused:
        zenml.set_active(mark_of(entry, workspace), active=not paused)
    return update(workspace, entry.name, paused=paused, armed=False, since=clock()) or entry


def ask_for(workspace: Path, name: str | None) -> Entry:
    """Arm a schedule (None: the only one), whatever the time; `start_armed` runs it."""
    entry = schedule_of(workspace, name)
    return update(workspace, entry.name, armed=True) or entry


def best_starter() -> Starter:
    """Who can start runs here, the most reliable first."""
    if zenml.runs():
        return "zenml"
    if systemd.runs():
        return "systemd"
    return "crontab" if crontab.runs() else "foreground"


def is_held(entry: Entry, workspace: Path) -> bool:
    """Whether the starter of `entry` still has it; one that only ZenML can tell counts as held."""
    match entry.starter:
        case "systemd":
            return systemd.holds(_unit(entry, workspace))
        case "crontab":
            return crontab.holds(mark_of(entry, workspace))
        case "foreground" | "zenml":
            return True
        case _:
            assert_never(entry.starter)


def carried(environment: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Variables that a schedule keeps, and names of those that it does not, as they hold a password."""
    present = {name: environment[name] for name in CARRIED if environment.get(name)}
    secret = tuple(name for name, value in present.items() if "://" in value and urlsplit(value).password)
    return {name: value for name, value in present.items() if name not in secret}, secret


def program() -> tuple[str, ...]:
    """The command `selftrain` of this environment, as a list of words."""
    script = Path(sys.executable).with_name("selftrain")
    return (str(script),) if script.exists() else (sys.executable, "-c", "from selftrain.cli.app import main; main()")


def mark_of(entry: Entry, workspace: Path) -> str:
    """The name of `entry` among those of all workspaces of this machine."""
    place = hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()
    return f"{entry.name}-{place[:MARK]}"


def _put(entry: Entry, workspace: Path, load_pipeline: LoadPipeline) -> None:
    looking = (*program(), "schedule", "look", entry.name, "--workspace", str(workspace.resolve()))
    minutes = hourly_minutes(entry.times, local_zone())
    match entry.starter:
        case "systemd":
            systemd.put(_unit(entry, workspace), looking, minutes)
        case "crontab":
            crontab.put(mark_of(entry, workspace), looking, minutes)
        case "zenml":
            config = Path(entry.config) if entry.config else None
            name = mark_of(entry, workspace)
            zenml.put(load_pipeline, name, cron=entry.cron, time_zone=entry.time_zone, config=config)
        case "foreground":
            pass
        case _:
            assert_never(entry.starter)


def _take(entry: Entry, workspace: Path) -> None:
    match entry.starter:
        case "systemd":
            systemd.take(_unit(entry, workspace))
        case "crontab":
            crontab.take(mark_of(entry, workspace))
        case "zenml":
            zenml.take(mark_of(entry, workspace))
        case "foreground":
            pass
        case _:
            assert_never(entry.starter)


def _unit(entry: Entry, workspace: Path) -> str:
    return f"selftrain-{mark_of(entry, workspace)}"
