"""The commands that ask who said what, and take it back: labels, recall."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.options import DEFAULT_WORKSPACE, AsJson, ModelNameOption, WorkspaceOption, print_columns, print_json
from selftrain.errors import InputError

if TYPE_CHECKING:
    from selftrain.adapters.lineage.recall import RecallReport
    from selftrain.selflabel.lineage.descent import Recall
    from selftrain.selflabel.lineage.rows import LabelRow

MOST_CLASSES = 10
HEADER = ("image", "from", "run", "round", "teacher", "version", "trust", "class", "confidence", "needed", "outcome")
Out = Annotated[Path | None, typer.Option("--out", help="New .parquet or .csv file for all of the labels.")]


def labels(
    image: Annotated[
        str | None, typer.Option("--image", help="An image file, or its image_id (8 characters or more).")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="VERSION", help="Version, models:/NAME/NUMBER, champion, or a digest."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many to print.")] = 20,
    out: Out = None,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Show the pseudo-labels of all runs: of one image, by one teacher, or both; why each was accepted or not.

    A label that a later run took from the cache is listed once, under the run that made it.
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
    _warn_of_gone(page.gone)
    if as_json:
        print_json(page)
        return
    if page.labels:
        print_columns([(*HEADER, "probabilities"), *(_row(each) for each in page.labels)])
    more = page.total - len(page.labels)
    rest = f", {more:,} more are not shown (--limit, --out)" if more else ""
    typer.echo(f"{page.total:,} pseudo-labels{rest}")
    if page.written is not None:
        typer.echo(f"written: {page.written}")


def recall(
    version: Annotated[
        str | None,
        typer.Argument(help="Version, models:/NAME/NUMBER, champion, or a teacher's digest (8 characters or more)."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log, quoted by later errors.")] = "",
    out: Out = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Roll a champion that this concerns back to one that it does not.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the recall of VERSION back.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show the recall log instead.")] = False,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Withdraw a teacher: list all it said and all who learnt from it, and use none of it again. Nothing is deleted.

    From then on no run starts from it, labels with it or takes its labels from the cache, and no version that it
    taught, at whatever remove, is promoted or rolled back to.

    A model given as a folder or file is recognised: it is no teacher.start, and nothing is labelled with it by
    `selftrain pseudo-label` or distilled from it by `selftrain.distill`. `selftrain.autolabel` and `selftrain.ensemble`
    know no workspace and do not ask; `selftrain.fit` asks about the teacher it is given, not about models it trains.
    """
    from selftrain.adapters.lineage import recall as recalling
    from selftrain.adapters.process.console import progress

    if listed:
        if version is not None or undo or rollback or out is not None:
            raise InputError("--list shows the recall log and does nothing else: give it alone")
        _show_log(workspace, as_json=as_json)
        return
    if undo and (rollback or out is not None):
        raise InputError(
            "--undo takes a recall back; it writes no labels and moves no champion: leave out --out, --rollback"
        )
    if version is None:
        raise InputError("say which teacher: selftrain recall VERSION --reason '...'; --list shows what is withdrawn")
    if undo:
        line = recalling.take_back(version, reason=reason, workspace=workspace, model_name=model_name)
        _show_line(line, as_json=as_json)
        return
    with progress("recall") as show:
        report = recalling.withdraw(
            version, reason=reason, workspace=workspace, model_name=model_name, out=out, progress=show
        )
    _warn_of_gone(report.gone)
    if as_json:
        print_json(report)
    else:
        _show_report(report)
    if not rollback:
        _warn_of_champions(report)
        return
    for now in recalling.roll_back(report, workspace=workspace):
        typer.echo(f"rolled back: {now.uri} is champion", err=as_json)


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
    said = "withdrawn" if report.new else "was withdrawn already"
    line = report.recall
    typer.echo(f"{said}: {line.called} ({line.identity}), {line.when} by {line.who}: {line.why}")
    total, accepted = (sum(getattr(each, name) for each in report.rounds) for name in ("given", "accepted"))
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
        typer.echo("no registered version is concerned")
    if report.written is not None:
        typer.echo(f"written: {report.written}")


def _show_line(line: Recall, *, as_json: bool) -> None:
    if as_json:
        print_json(line)
    else:
        typer.echo(f"restored: {line.called} ({line.identity}); it and those it taught are trusted again")


def _warn_of_champions(report: RecallReport) -> None:
    for each in report.champions:
        typer.echo(
            f"WARNING: {each.uri}, the champion, is {each.trust.value}: it goes on answering until you "
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
        typer.echo("no teacher was ever withdrawn")
    print_columns([(each.when, each.who, each.action, each.identity[:12], each.called, each.why) for each in log])


def _warn_of_gone(gone: tuple[str, ...]) -> None:
    for address in gone:
        typer.echo(f"warning: pseudo-labels are missing here, their file is gone: {address}", err=True)
