"""The command with which people label the images that matter: review."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selftrain.errors import InputError

if TYPE_CHECKING:
    from selftrain.adapters.review.gathering import RunToReview
    from selftrain.reviewing.questions import Question

Queue = Literal["uncertain", "disagree", "mislabelled", "new", "duplicates", "quarantine", "random", "mixed"]


def review(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Id of the run. Default: the latest.")] = None,
    queue: Annotated[Queue, typer.Option("--queue", help="By what images are chosen.")] = "uncertain",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Images in the queue, at most.")] = 100,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Take the most urgent images, even if they look alike.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="For what is drawn at random.")] = 0,
    who: Annotated[str | None, typer.Option("--who", help="Who answers. Default: you. The page can change it.")] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the page; 0: any free one.")] = 0,
    show: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the queue to this CSV file instead; it must not exist yet.")
    ] = None,
    to_label_studio: Annotated[
        Path | None, typer.Option("--to-label-studio", help="Write the queue as Label Studio's tasks (JSON) instead.")
    ] = None,
    from_label_studio: Annotated[
        Path | None,
        typer.Option("--from-label-studio", help="Take the labels of Label Studio's export (JSON), then stop."),
    ] = None,
) -> None:
    """Serve a local page on which people label the images that matter most, with the keyboard.

    Each answer goes to the label log at once, as with `selftrain label`; the next run uses it. Labelled images are not
    asked about again. With --out, fill in the column label, then: selftrain label --from FILE.
    """
    from selftrain.adapters.review.gathering import gather
    from selftrain.reviewing.label_studio import as_tasks
    from selftrain.reviewing.questions import as_csv
    from selftrain.reviewing.queues import QueueName, order_of

    files = [each for each in (out, to_label_studio, from_label_studio) if each is not None]
    if len(files) > 1:
        raise InputError("--out, --to-label-studio and --from-label-studio exclude each other; give one of them")
    if from_label_studio is not None:
        _take(gather(run_id), from_label_studio, who)
        return
    if files and files[0].exists():
        raise InputError(f"{files[0]} exists and may hold labels; give another file")
    run = gather(run_id)
    found = run.queue(QueueName(queue), limit=limit, seed=seed, spread_out=not ordered)
    if not files:
        order = order_of(run.material, QueueName(queue), count=len(found), limit=limit, spread_out=not ordered)
        _serve(run, found, queue=queue, who=who, port=port, show=show, order=order)
    elif out is not None:
        _write(out, as_csv(found))
        typer.echo(
            f"{out}: {len(found)} images of the queue {queue}; fill in label, then: selftrain label --from {out}"
        )
    else:
        _write(files[0], as_tasks(found))
        typer.echo(
            f"{files[0]}: {len(found)} tasks of the queue {queue}; export what was annotated as JSON, then: selftrain "
            "review --from-label-studio FILE"
        )


def _serve(
    run: RunToReview,
    found: Sequence[Question],
    *,
    queue: str,
    who: str | None,
    port: int,
    show: bool,
    order: str,
) -> None:
    from selftrain.adapters.registry.champions import current_user
    from selftrain.adapters.review.app import Review
    from selftrain.adapters.review.server import serve
    from selftrain.adapters.snapshots.carrying import shared_state
    from selftrain.config import Place
    from selftrain.reviewing.desk import Desk
    from selftrain.reviewing.questions import Neighbours

    about = f"{len(found)} images of the queue {queue}, run {run.record.run_id[:8]}"
    review = Review(
        title=f"Review of {run.record.name}",
        about=f"{about}, {order}",
        desk=Desk(run.dataset.store.root, run.classes, found),
        neighbours=Neighbours(run.material),
        who=who or current_user(),
        read=run.read,
        bits=run.bits,
    )

    def started(address: str) -> None:
        typer.echo(f"{about}: {address}\nonly this machine can open it; Ctrl+C ends it, and nothing is lost")
        if show and not webbrowser.open(address):
            typer.echo("no browser was found; open the address yourself", err=True)

    place = Place(workspace=str(run.dataset.workspace.root), dataset=run.dataset.name)
    with shared_state(place, "review"):
        serve(review, port=port, started=started)


def _take(run: RunToReview, path: Path, who: str | None) -> None:
    """Take in the labels of an export by the rules of `selftrain label`."""
    import tempfile
    from datetime import UTC, datetime

    from selftrain.adapters.registry.champions import current_user
    from selftrain.adapters.snapshots.carrying import shared_state
    from selftrain.config import Place
    from selftrain.retraining.label_entry import LabelledSet
    from selftrain.retraining.label_file import LabelledBy
    from selftrain.reviewing.label_studio import labels_of_export

    text, labels, without = labels_of_export(path)
    if not labels:
        raise InputError(f"{path} holds no annotated task; annotate some, then export them as JSON")
    default = LabelledBy(who or current_user(), datetime.now(UTC))
    place = Place(workspace=str(run.dataset.workspace.root), dataset=run.dataset.name)
    with shared_state(place, "review"), tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "labels.csv"
        file.write_text(text, encoding="utf-8")
        report = LabelledSet(run.dataset.store, run.record.name).take(file, default=default)
    typer.echo(f"added: {report.added} labels; {report.known} were known; {without} tasks have no label")


def _write(path: Path, text: str) -> None:
    from selftrain.files.writing import replace_text

    replace_text(path, text)
