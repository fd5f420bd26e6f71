"""The command line: each command parses its options, calls one function, and prints the result."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selftrain.cli import champions, detections, export, lineage, models, report, review, zero_shot
from selftrain.cli.cluster import checking, reaping
from selftrain.cli.cluster.stack import app as stack_app
from selftrain.cli.production import labeling, retraining, schedule, serving, upkeep
from selftrain.cli.shared.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    WorkspaceOption,
    print_columns,
    print_json,
    print_rich,
)
from selftrain.errors import SelftrainError
from selftrain.files.full_disk import full_disk
from selftrain.files.permission import not_permitted
from selftrain.version import __version__

if TYPE_CHECKING:
    from zenml.pipelines.pipeline_definition import Pipeline

    from selftrain.scaffold.choices import Scaffold
    from selftrain.selflabel.rounds.record import RunRecord

app = typer.Typer(
    name="selftrain",
    help="Self-training for images: from a few labelled images and many unlabelled ones to a registered model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

GATE_MISSED = 3

NOT_HEALTHY = 1

STARTING = (["run"], ["retrain"], ["schedule"])
"""Commands that start a run; what a schedule starts inherits the settings of its process."""

WEIGHTS = "'imagenet', or a local weights file without the top layer."
BACKBONE = "Name on a ladder, or a class of keras.applications."
PLACES = "a .zip, .tar, .parquet or .tfrecord, or a URL such as s3://bucket/photos (docs/data.md)."
Labeled = Annotated[
    str | None, typer.Option("--labeled", help=f"Folder with one sub-folder of images per class; {PLACES}")
]
Unlabeled = Annotated[str | None, typer.Option("--unlabeled", help=f"Folder of images without labels; {PLACES}")]
Table = Annotated[
    Path | None,
    typer.Option("--table", help="A list of images instead of folders: CSV, JSON lines or Parquet (docs/data.md)."),
]
Coco = Annotated[
    Path | None,
    typer.Option(
        "--coco",
        help="Boxes instead of classes: a COCO JSON file or Roboflow's folder, and its images (docs/detection.md).",
    ),
]
Voc = Annotated[
    Path | None, typer.Option("--voc", help="Boxes as Pascal VOC: a folder of XML files, and its images or --images.")
]
Yolo = Annotated[
    Path | None, typer.Option("--yolo", help="Boxes as YOLO text: a data.yaml; its val and test are held out.")
]
LabelStudio = Annotated[
    Path | None, typer.Option("--label-studio", help="Boxes from Label Studio: its JSON export, and --images.")
]
Images = Annotated[
    str | None, typer.Option("--images", help="Folder that the names in --coco start from. Default: the file's own.")
]
Splits = Annotated[
    Literal["given", "auto"],
    typer.Option("--splits", help="auto: the folders in --labeled are train, val, test and the like."),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", help="A class although its name says otherwise, such as 'unknown'. May be repeated."),
]
Validation = Annotated[
    str | None,
    typer.Option(
        "--validation", help="Class folders, or a file or folder of boxes, for the gate. Default: split off --labeled."
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        "--test", help="Class folders, or a file or folder of boxes, for the report. Default: split off --labeled."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="YAML to write. Default: NAME.yaml, in configs/ if it exists.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the experiment. Default: that of the folder.")]
TeacherBackbone = Annotated[str | None, typer.Option("--teacher-backbone", help=BACKBONE)]
TeacherWeights = Annotated[str | None, typer.Option("--teacher-weights", help=WEIGHTS)]
StudentBackbone = Annotated[str | None, typer.Option("--student-backbone", help=BACKBONE)]
StudentWeights = Annotated[str | None, typer.Option("--student-weights", help=WEIGHTS)]
Target = Annotated[
    float | None,
    typer.Option(
        "--target", min=0, max=1, help="Validation accuracy that you need, 0.9 if not given; for boxes mAP, 0.3."
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        min=1,
        help="Minutes that a run may train here. Measures the networks' speed for some seconds, says how long a run "
        "will take, and chooses the steps to fit.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing YAML.")]
Control = Annotated[
    bool,
    typer.Option(
        "--control",
        help="Also train the same network on the labels alone for the same number of image-steps, to measure what the "
        "unlabelled images added.",
    ),
]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"selftrain {__version__}")
        raise typer.Exit


@app.callback()
def selftrain(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before any command."""


@app.command()
def init(
    labeled: Labeled = None,
    unlabeled: Unlabeled = None,
    validation: Validation = None,
    test: Test = None,
    table: Table = None,
    coco: Coco = None,
    voc: Voc = None,
    yolo: Yolo = None,
    label_studio: LabelStudio = None,
    images: Images = None,
    splits: Splits = "given",
    classes: Classes = None,
    out: Out = None,
    name: Name = None,
    teacher_backbone: TeacherBackbone = None,
    teacher_weights: TeacherWeights = None,
    student_backbone: StudentBackbone = None,
    student_weights: StudentWeights = None,
    target: Target = None,
    minutes: Minutes = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Look at your folders or your list, and write a commented configuration for `selftrain run --config`."""
    from selftrain.scaffold.choices import has_gpu, scaffold
    from selftrain.scaffold.draft import Wishes
    from selftrain.scaffold.images import source_of

    folders = {"labeled": labeled, "unlabeled": unlabeled, "validation": validation, "test": test}
    wishes = Wishes(
        name=name,
        teacher_backbone=teacher_backbone,
        teacher_weights=teacher_weights,
        student_backbone=student_backbone,
        student_weights=student_weights,
        target=target,
        gpu=has_gpu(),
        classes=tuple(classes or ()),
        minutes=minutes,
    )
    command = f"selftrain {shlex.join(sys.argv[1:])}"
    if any(each is not None for each in (coco, voc, yolo, label_studio, images)):
        unused = {"--labeled": labeled, "--table": table, "--splits": splits if splits != "given" else None}
        unused |= {"--student-backbone": student_backbone, "--student-weights": student_weights}
        unused |= {"--minutes": None if minutes is None else f"{minutes:g}"}
        told = detections.drawn_in(coco, voc, images, yolo=yolo, label_studio=label_studio)
        folders = detections.held_out_in(yolo, folders, coco=coco)
        detections.choose(told, folders, unused, wishes, out, command=command, force=force, as_json=as_json)
        return
    source = source_of(folders, table=table, find_splits=splits == "auto", classes=classes or ())
    choices = scaffold(source, wishes, out, command=command, force=force)
    _show_choices(choices, as_json=as_json)


def _show_choices(choices: Scaffold, *, as_json: bool) -> None:
    from selftrain.scaffold.choices import describe_choices

    if as_json:
        print_json(choices)
        return
    typer.echo(describe_choices(choices))
    typer.echo(f"written: {choices.path}   next: selftrain run --config {shlex.quote(str(choices.path))}")


@app.command()
def doctor(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    stack: Annotated[str | None, typer.Option("--stack", help="Check this stack and its cluster instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check what a run needs from this machine, and say how to fix what is wrong. Exit code 1: something is wrong."""
    if stack is not None:
        checking.check(stack, as_json=as_json)
        return
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
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML of the experiment. Default: the digits experiment.")
    ] = None,
    stack: Annotated[str | None, typer.Option("--stack", help="ZenML stack. Default: the active one.")] = None,
    control: Control = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop, as `zenml pipeline run ssl_pipeline` does, with a live view. Exit code 3: gate missed.

    A remote stack may accept the run and continue it without this command. Then the command says how to follow the run,
    and its exit code is 0.
    On a stack whose orchestrator needs a fixed graph, such as Kubeflow's, the rounds are unrolled.
    """
    from rich.console import Console

    from selftrain.adapters.runs.launch import goes_on, launch
    from selftrain.adapters.runs.live import live_view
    from selftrain.selflabel.rounds.history import Verdict

    with live_view(Console(stderr=True)):
        record = launch(_loop, config, stack=stack, control=control)
    if as_json:
        print_json(record)
    if goes_on(record):
        typer.echo(f"submitted: run {record.run_id} continues without this command", err=True)
        typer.echo(f"follow it: selftrain status {record.run_id}", err=True)
    elif record.verdict is not Verdict.PASSED:
        raise typer.Exit(GATE_MISSED)


def _loop() -> Pipeline:
    """The pipeline of the active stack: on one that knows only fixed graphs, as on Kubeflow, the loop is unrolled."""
    from selftrain.adapters.runs.launch import knows_loops

    if knows_loops():
        from pipelines.ssl_pipeline import ssl_pipeline

        return ssl_pipeline
    from pipelines.unrolled_pipeline import unrolled_pipeline

    return unrolled_pipeline


@app.command()
def status(
    run_id: Annotated[str | None, typer.Argument(help="Id of the run. Default: the latest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run: its rounds, its results on the test set, and whether its model was registered."""
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


runs_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many runs.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the runs, newest first. `selftrain runs reap` ends those that died in a cluster."""
    if context.invoked_subcommand is not None:
        return
    from selftrain.adapters.runs.records import latest_runs

    records = latest_runs(count)
    if as_json:
        print_json(records)
        return
    header = ("run", "experiment", "status", "verdict", "rounds", "test", "version")
    print_columns([header, *(run_row(each) for each in records)])


def run_row(record: RunRecord) -> tuple[str, ...]:
    """One line of `selftrain runs`."""
    from selftrain.adapters.runs.records import EARLIER
    from selftrain.report.summary import number

    if record.error == EARLIER:
        return (record.run_id, record.name, record.status, "-", "-", "-", EARLIER)
    test = number(record.test_accuracy, record.metric) if record.test_accuracy is not None else "-"
    students = str(max(0, len(record.rounds) - 1))
    verdict = record.verdict.value if record.verdict else "-"
    version = str(record.registered_version or "-")
    return (record.run_id, record.name, record.status, verdict, students, test, version)


runs_app.command("reap")(reaping.reap)
app.add_typer(runs_app, name="runs")
app.command("report")(report.report)
app.command("verify")(report.verify)
app.command("review")(review.review)
app.command("predict")(models.predict)
app.command("pseudo-label")(models.pseudo_label)
app.command("zero-shot")(zero_shot.zero_shot)
app.command("serve")(serving.serve)
app.command("promote")(champions.promote)
app.command("rollback")(champions.rollback)
app.command("history")(champions.history)
app.command("compare")(export.compare)
app.command("export")(export.export)
app.command("label")(labeling.label)
app.command("labels")(lineage.labels)
app.command("recall")(lineage.recall)
app.command("restore")(upkeep.restore)
app.command("retrain")(retraining.retrain)
app.add_typer(schedule.app, name="schedule")
app.add_typer(stack_app, name="stack")
app.command("collect")(retraining.collect)
app.command("clean")(upkeep.clean)


def main() -> None:
    """The `selftrain` command: an expected error is one line with an exit code of its own, never a traceback."""
    from selftrain.adapters.process.settings import prepare_command, zenml_folder

    prepare_command(runs=sys.argv[1:2] in STARTING)
    try:
        app()
    except SelftrainError as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        told = full_disk(error, [DEFAULT_WORKSPACE, zenml_folder()]) or not_permitted(error)
        if told is None:
            raise
        told.show()
        sys.exit(told.exit_code)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues where it stopped")
