"""The commands for new images: collect what the inbox has, and retrain if a retraining is due."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.experiment import say_if_apart
from selftrain.cli.shared.options import AsJson, print_columns, print_json
from selftrain.errors import ConfigError

if TYPE_CHECKING:
    from zenml.pipelines.pipeline_definition import Pipeline

    from selftrain.adapters.retraining.looking import RetrainingLook
    from selftrain.config import Experiment
    from selftrain.retraining.collecting import Collected
    from selftrain.retraining.journal import Journal

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML of the experiment. Default: the digits experiment.")
]
Stack = Annotated[str | None, typer.Option("--stack", help="ZenML stack. Default: the active one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do and why; change nothing.")]
Now = Annotated[bool, typer.Option("--now", help="Ask for a retraining by hand, if `manual` is a condition.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after it stopped because of failures.")]


def retrain(
    config: Config = None,
    stack: Stack = None,
    dry_run: DryRun = False,
    now: Now = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Take in new images and retrain if a retraining is due, as `zenml pipeline run retraining_pipeline` does.

    Exit code 0: it trained, whatever the verdict, or nothing was due. Each look leaves one line that says why.
    """
    from selftrain.adapters.runs.launch import on_stack

    experiment = _experiment(config)
    say_if_apart(config)
    with on_stack(stack):  # the look, too, asks the registry and tells people
        _retrain(config, experiment, dry_run=dry_run, now=now, resume=resume, as_json=as_json)


def _retrain(
    config: Path | None, experiment: Experiment, *, dry_run: bool, now: bool, resume: bool, as_json: bool
) -> None:
    from selftrain.adapters.retraining.life import is_busy
    from selftrain.adapters.snapshots.carrying import shared_state
    from selftrain.data.store.dataset import dataset_at, open_dataset
    from selftrain.retraining.journal import journal_of

    if now and not (experiment.retrain.any_of.manual or experiment.retrain.all_of.manual):
        raise ConfigError("--now asks for a retraining by hand, and retrain.any_of.manual is off; set it to true")
    place = experiment.place
    workspace = (dataset_at if dry_run else open_dataset)(place).workspace
    # A run of this machine that makes it busy also keeps what is added to the journal meanwhile.
    busy = not dry_run and is_busy(workspace, experiment.name)
    with nullcontext() if dry_run or busy else shared_state(place, "retrain"):
        journal = journal_of(workspace, experiment.name)
        if resume and not dry_run:
            journal.append("resumed")
        if now and not dry_run:
            journal.append("requested")
        if busy:
            _miss(journal, as_json=as_json)
            return
        look = _look(experiment, dry_run=dry_run)
    typer.echo(f"{'due' if look.due else 'not due'}: {look.reason}", err=as_json)
    if as_json and (dry_run or not look.due):
        print_json(look)
    if look.due and not dry_run:
        _train(config, experiment, as_json=as_json)


def _miss(journal: Journal, *, as_json: bool) -> None:
    from selftrain.adapters.retraining.looking import RetrainingLook

    reason = "another retraining is running; it looks again when it has ended well"
    journal.append("missed", reason=reason)
    typer.echo(reason, err=True)
    if as_json:
        print_json(RetrainingLook(due=False, reason=reason, stopped=False, new=0))


def _look(experiment: Experiment, *, dry_run: bool) -> RetrainingLook:
    """The look; one that fails counts as a failed retraining, and people are told. Dead runs are ended before it."""
    from selftrain.adapters.notices.sending import check_command
    from selftrain.adapters.retraining.life import told
    from selftrain.adapters.retraining.looking import look_at
    from selftrain.adapters.runs.lifecycle import end_dead_runs
    from selftrain.data.store.dataset import open_dataset

    if dry_run:
        check_command(experiment.notify)
        return look_at(experiment, dry_run=True)
    with told(experiment, "look"):
        check_command(experiment.notify)
        end_dead_runs(open_dataset(experiment.place).workspace)
        return look_at(experiment)


def _train(config: Path | None, experiment: Experiment, *, as_json: bool) -> None:
    from rich.console import Console

    from selftrain.adapters.retraining.life import owes_look, told
    from selftrain.adapters.runs.launch import goes_on, launch
    from selftrain.adapters.runs.live import live_view
    from selftrain.adapters.schedule.arranging import program

    with told(experiment, "run"), live_view(Console(stderr=True)):
        record = launch(_retraining_pipeline, config)
    if as_json:
        print_json(record)
    if goes_on(record):
        typer.echo(f"submitted: run {record.run_id} continues without this command", err=True)
        return
    if owes_look(experiment, record.run_id):
        # In a new process; stdout holds only what this one printed.
        sys.stdout.flush()
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        command = [*program(), *(each for each in sys.argv[1:] if each not in ("--now", "--resume", "--json"))]
        os.execv(command[0], command)


def _experiment(config: Path | None) -> Experiment:
    from selftrain.config import Experiment
    from selftrain.config.text.file import read_experiment

    return read_experiment(config) if config else Experiment()


def _retraining_pipeline() -> Pipeline:
    from pipelines.retraining_pipeline import retraining_pipeline

    return retraining_pipeline


def collect(
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML of the experiment, with a section `inbox`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken in, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at the inbox once, and take new images into the data set. Nothing in the inbox is changed."""
    from selftrain.adapters.process import secrets
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.snapshots.carrying import shared_state
    from selftrain.config.text.file import read_experiment
    from selftrain.retraining import collecting

    experiment, now = read_experiment(config), datetime.now(UTC)
    say_if_apart(config)
    with nullcontext() if dry_run else shared_state(experiment.place, "collect"), progress("collect") as show:
        collected = collecting.collect(
            experiment, run="", now=now, resolve=secrets.resolve, dry_run=dry_run, progress=show
        )
    if as_json:
        print_json(collected)
    else:
        print_columns(_lines(collected))


def _lines(collected: Collected) -> list[tuple[str, str]]:
    """What a person reads of a look at the inbox."""
    lines = [
        ("listed", f"{collected.listed} images, {collected.known} taken in before"),
        ("would take" if collected.dry_run else "taken in", str(collected.taken)),
    ]
    if not collected.dry_run:
        lines[-1] = ("taken in", f"{collected.taken}: {collected.new_images} new, {collected.copies} copies")
    lines += [("quarantined", f"{count} {reason}") for reason, count in sorted(collected.quarantined.items())]
    lines += [("waiting", f"{count} {reason}") for reason, count in sorted(collected.waiting.items())]
    lines += [("not read", f"{path}: {why}") for path, why in sorted(collected.unread.items())]
    if collected.not_sampled:
        lines.append(("left out", f"{collected.not_sampled} by inbox.sampling"))
    if collected.ignored:
        lines.append(("ignored", f"{collected.ignored} files without an image's name"))
    if collected.bad_sidecars:
        lines.append(("sidecars", f"{collected.bad_sidecars} cannot be read; their images have no answer"))
    return lines
