"""The commands on the origin of labels: `labels` lists them, and `recall` withdraws a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from selftrain.adapters.lineage.archive import LabelPage
    from selftrain.adapters.lineage.recall import RecallReport
    from selftrain.selflabel.lineage.rows import LabelRow

MOST_CLASSES = 10
HEADER = ("image", "from", "run", "round", "teacher", "version", "trust", "class", "confidence", "needed", "outcome")
Out = Annotated[Path | None, typer.Option("--out", help="New .parquet or .csv file for all the labels.")]
Image = Annotated[
    str | None, typer.Option("--image", help="An image file, or the first 8 or more characters of its image_id.")
]
Teacher = Annotated[
    str | None,
    typer.Option("--teacher", metavar="VERSION", help="Version, models:/NAME/NUMBER, champion, or a digest."),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="How many labels to print.")]
Version = Annotated[
    str | None,
    typer.Argument(
        help="Version, models:/NAME/NUMBER, champion, or the first 8 or more characters of a teacher's digest."
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; the log keeps it, and later errors quote it.")]
Rollback = Annotated[
    bool, typer.Option("--rollback", help="Also replace each affected champion with an earlier, unaffected one.")
]
Undo = Annotated[bool, typer.Option("--undo", help="Undo the recall of VERSION.")]
ShowLog = Annotated[bool, typer.Option("--list", help="Show the recall log instead.")]


def labels(
    image: Image = None,
    teacher: Teacher = None,
    limit: Limit = 20,
    out: Out = None,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Show the pseudo-labels of all runs, and why each was accepted or not. Filter by image, by teacher, or by both.

    If a later run took a label from the cache, the list has it once, under the run that made it.
    """
    from selftrain.adapters.lineage.archive import find_labels
    from selftrain.adapters.process.console import progress

    with progress("labels") as show:
        page = find_labels(
            image=image,
            teacher=teacher,
            workspace=workspace,
            model_name=model_name,
            limit=limit,
            out=out,
            progress=show,
        )
    _warn_of_missing(page.gone)
    if as_json:
        print_json(page)
    else:
        _show_labels(page)


def recall(
    version: Version = None,
    reason: Reason = "",
    out: Out = None,
    rollback: Rollback = False,
    undo: Undo = False,
    listed: ShowLog = False,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Withdraw a teacher: list its pseudo-labels and every version that descends from it. Nothing is deleted.

    From then on, no run starts from the teacher, labels with it or takes its labels from the cache. No version that
    descends from it can be promoted or restored.

    A model given as a folder or file is recognised: it is rejected as `teacher.start`, by `selftrain pseudo-label` and
    by `selftrain.distill`. `selftrain.autolabel` and `selftrain.ensemble` have no workspace and do not check.
    `selftrain.fit` checks the teacher that it is given, but not the models that it trains.
    """
    if listed:
        if version is not None or undo or rollback or out is not None:
            raise InputError("--list only shows the recall log; use it alone")
        _show_log(workspace, as_json=as_json)
        return
    if undo and (rollback or out is not None):
        raise InputError("--undo writes no labels and changes no champion; leave out --out and --rollback")
    if version is None:
        raise InputError("say which teacher: selftrain recall VERSION --reason '...'; --list shows what is withdrawn")
    if undo:
        _undo(version, reason, workspace=workspace, model_name=model_name, as_json=as_json)
        return
    report = _withdraw(version, reason, workspace=workspace, model_name=model_name, out=out, as_json=as_json)
    if rollback:
        _roll_back(report, workspace, as_json=as_json)
    else:
        _warn_of_champions(report)


def _undo(version: str, reason: str, *, workspace: Path, model_name: str | None, as_json: bool) -> None:
    from selftrain.adapters.lineage.recall import take_back

    line = take_back(version, reason=reason, workspace=workspace, model_name=model_name)
    if as_json:
        print_json(line)
    else:
        typer.echo(f"restored: {line.called} ({line.identity}); it and the models trained from it are trusted again")


def _withdraw(
    version: str, reason: str, *, workspace: Path, model_name: str | None, out: Path | None, as_json: bool
) -> RecallReport:
    from selftrain.adapters.lineage.recall import withdraw
    from selftrain.adapters.process.console import progress

    with progress("recall") as show:
        report = withdraw(version, reason=reason, workspace=workspace, model_name=model_name, out=out, progress=show)
    _warn_of_missing(report.gone)
    if as_json:
        print_json(report)
    else:
        _show_report(report)
    return report


def _roll_back(report: RecallReport, workspace: Path, *, as_json: bool) -> None:
    from selftrain.adapters.lineage.recall import roll_back

    for now in roll_back(report, workspace=workspace):
        typer.echo(f"rolled back: {now.uri} is champion", err=as_json)


def _show_labels(page: LabelPage) -> None:
    if page.labels:
        print_columns([(*HEADER, "probabilities"), *(_row(each) for each in page.labels)])
    more = page.total - len(page.labels)
    rest = f"; {more:,} more are not shown (--limit, --out)" if more else ""
    typer.echo(f"{page.total:,} pseudo-labels{rest}")
    if page.written is not None:
        typer.echo(f"written: {page.written}")


def _row(label: LabelRow) -> tuple[str, ...]:
    from selftrain.selflabel.lineage.descent import SHOWN

    surest = sorted(label.probabilities.items(), key=lambda each: -each[1])
    rest = f", {len(surest) - MOST_CLASSES} more" if len(surest) > MOST_CLASSES else ""
    return (
        label.image_id[:SHOWN],
        label.origin or "-",
        label.run[:8],
        str(label.round),
        label.teacher[:SHOWN],
        label.version or "-",
        label.trust.value,
        label.predicted,
        f"{100 * label.confidence:.1f} %",
        f"{label.cutoff:.3g} ({label.threshold})",
        label.reason,
        ", ".join(f"{name} {share:.3f}" for name, share in surest[:MOST_CLASSES]) + rest,
    )


def _show_report(report: RecallReport) -> None:
    state = "withdrawn" if report.new else "already withdrawn"
    line = report.recall
    typer.echo(f"{state}: {line.called} ({line.identity}), {line.when} by {line.who}: {line.why}")
    total, accepted = sum(each.given for each in report.rounds), sum(each.accepted for each in report.rounds)
    typer.echo(f"not used again: {total:,} pseudo-labels, {accepted:,} of them accepted; rounds: {len(report.rounds)}")
    rows = [("run", "round", "teacher", "trust", "given", "accepted", "accepted of given, by class")]
    for each in report.rounds:
        classes = ", ".join(f"{name} {n.accepted}/{n.given}" for name, n in each.classes.items() if n.given)
        numbers = (f"{each.given:,}", f"{each.accepted:,}")
        rows.append((each.run[:8], str(each.round), each.teacher[:12], each.trust.value, *numbers, classes))
    print_columns(rows if report.rounds else [])
    for version in report.versions:
        typer.echo("  ".join((version.uri, version.trust.value, *version.aliases)))
    if not report.versions:
        typer.echo("no registered version is affected")
    if report.written is not None:
        typer.echo(f"written: {report.written}")


def _warn_of_champions(report: RecallReport) -> None:
    for each in report.champions:
        typer.echo(
            f"WARNING: the champion {each.uri} is {each.trust.value} and stays in use until you replace it: "
            f"`selftrain rollback --model-name {each.name}` (or add --rollback), or promote another version",
            err=True,
        )


def _show_log(workspace: Path, *, as_json: bool) -> None:
    from selftrain.adapters.lineage.recall import recall_history

    log = recall_history(workspace)
    if as_json:
        print_json(log)
        return
    if not log:
        typer.echo("no teacher has been withdrawn yet")
    print_columns([(each.when, each.who, each.action, each.identity[:12], each.called, each.why) for each in log])


def _warn_of_missing(files: tuple[str, ...]) -> None:
    for address in files:
        typer.echo(f"warning: some pseudo-labels are missing because their file is gone: {address}", err=True)
