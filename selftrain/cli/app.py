"""The command line: each command parses, calls one function, and prints what came of it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli import lineage, models
from selftrain.cli.options import DEFAULT_WORKSPACE, AsJson, WorkspaceOption, print_columns, print_json, print_rich
from selftrain.errors import SelftrainError

if TYPE_CHECKING:
    from zenml.pipelines.pipeline_definition import Pipeline

app = typer.Typer(
    name="selftrain",
    help="Self-training for images: a small labelled set, a large unlabelled one, a registered model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

GATE_MISSED = 3

NOT_HEALTHY = 1

Weights = "'imagenet' or a local weights file (without top)."
Backbone = "Ladder name or keras.applications class."


@app.command()
def init(
    labeled: Annotated[Path, typer.Option("--labeled", help="Folder with a sub-folder of images a class.")],
    unlabeled: Annotated[Path, typer.Option("--unlabeled", help="Folder of images without labels.")],
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Class folders for the gate; none: split off.")
    ] = None,
    test: Annotated[Path | None, typer.Option("--test", help="Class folders for the report; none: split off.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="YAML to write; none: NAME.yaml, in configs/ if any.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the experiment; none: the folder's.")] = None,
    teacher_backbone: Annotated[str | None, typer.Option("--teacher-backbone", help=Backbone)] = None,
    teacher_weights: Annotated[str | None, typer.Option("--teacher-weights", help=Weights)] = None,
    student_backbone: Annotated[str | None, typer.Option("--student-backbone", help=Backbone)] = None,
    student_weights: Annotated[str | None, typer.Option("--student-weights", help=Weights)] = None,
    target: Annotated[float, typer.Option("--target", min=0, max=1, help="Validation accuracy you need.")] = 0.9,
    force: Annotated[bool, typer.Option("--force", help="Replace the YAML that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at your folders and write a commented configuration for `selftrain run --config`."""
    from selftrain.config import FolderSource
    from selftrain.scaffold.choices import Wishes, describe_choices, has_gpu, scaffold

    source = FolderSource(
        labeled=str(labeled),
        unlabeled=str(unlabeled),
        validation=str(validation) if validation else None,
        test=str(test) if test else None,
    )
    wishes = Wishes(
        name=name,
        teacher_backbone=teacher_backbone,
        teacher_weights=teacher_weights,
        student_backbone=student_backbone,
        student_weights=student_weights,
        target=target,
        gpu=has_gpu(),
    )
    made = scaffold(source, wishes, out, command=f"selftrain {shlex.join(sys.argv[1:])}", force=force)
    if as_json:
        print_json(made)
    else:
        typer.echo(describe_choices(made))
        typer.echo(f"written: {made.path}   next: selftrain run --config {shlex.quote(str(made.path))}")


@app.command()
def doctor(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: AsJson = False) -> None:
    """Check what a run needs from this machine, and say how to mend what is wrong. Exit code 1: something is."""
    from selftrain.adapters.doctor.diagnose import diagnose
    from selftrain.adapters.process.settings import prepare_process

    prepare_process()
    findings = diagnose(workspace)
    if as_json:
        print_json(findings)
    else:
        print_columns([("ok" if each.ok else "WRONG", each.name, each.found) for each in findings])
        for each in findings:
            if not each.ok:
                typer.echo(f"{each.name}: {each.advice}")
    if not all(each.ok for each in findings):
        raise typer.Exit(NOT_HEALTHY)


@app.command()
def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Experiment YAML; none: the digits.")] = None,
    stack: Annotated[str | None, typer.Option("--stack", help="ZenML stack; none: the active one.")] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Also train the same network on labels alone, as long: did the rest help?")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop, as `zenml pipeline run ssl_pipeline` does, with a live view. Exit code 3: gate missed.

    A stack that runs elsewhere may only take the run: then this says how to follow it, and the exit code is 0.
    """
    from rich.console import Console

    from selftrain.adapters.runs.launch import goes_on, launch
    from selftrain.adapters.runs.live import live_view
    from selftrain.selflabel.rounds.history import Verdict

    with live_view(Console(stderr=True)):
        record = launch(_ssl_pipeline, config, stack=stack, control=control)
    if as_json:
        print_json(record)
    if goes_on(record):
        typer.echo(f"submitted: run {record.run_id} goes on without this command", err=True)
        typer.echo(f"follow it: selftrain status {record.run_id}", err=True)
    elif record.verdict is not Verdict.PASSED:
        raise typer.Exit(GATE_MISSED)


def _ssl_pipeline() -> Pipeline:
    from pipelines.ssl_pipeline import ssl_pipeline

    return ssl_pipeline


@app.command()
def status(
    run_id: Annotated[str | None, typer.Argument(help="Run id; none: the latest.")] = None, as_json: AsJson = False
) -> None:
    """Show a run: its rounds, its numbers on test, what became of the model."""
    from selftrain.adapters.lineage.recall import concern_of
    from selftrain.adapters.runs.records import find_record, workspace_of
    from selftrain.report.summary import summary

    record = find_record(run_id)
    if as_json:
        print_json(record)
        return
    print_rich(summary(record))
    concern = concern_of(record.model_uri, workspace_of(record.run_id))
    if concern is not None:
        typer.echo(f"WARNING: {concern}")


@app.command()
def runs(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 20, as_json: AsJson = False
) -> None:
    """List the runs, newest first."""
    from selftrain.adapters.runs.records import latest_runs

    records = latest_runs(count)
    if as_json:
        print_json(records)
        return
    rows = [("run", "experiment", "status", "verdict", "rounds", "test", "version")]
    for each in records:
        test = f"{each.test_accuracy * 100:.1f} %" if each.test_accuracy is not None else "-"
        students = str(max(0, len(each.rounds) - 1))
        verdict = each.verdict.value if each.verdict else "-"
        version = str(each.registered_version or "-")
        rows.append((each.run_id, each.name, each.status, verdict, students, test, version))
    print_columns(rows)


app.command("predict")(models.predict)
app.command("pseudo-label")(models.pseudo_label)
app.command("promote")(models.promote)
app.command("rollback")(models.rollback)
app.command("history")(models.history)
app.command("labels")(lineage.labels)
app.command("recall")(lineage.recall)


def main() -> None:
    """The `selftrain` command: expected errors are one line and their own exit code, never a traceback."""
    if "run" not in sys.argv[1:2]:
        # The live view of a run reads ZenML's lines; elsewhere they would mix with the answer.
        os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "ERROR")
        # A run waits for a registry that is down, four minutes by MLflow's default of 7; who asks wants to know now.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        app()
    except SelftrainError as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues where it was")
