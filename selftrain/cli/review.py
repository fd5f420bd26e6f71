"""The command with which people label the images that matter: review."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selftrain.errors import InputError

if TYPE_CHECKING:
    from selftrain.adapters.review.app import Review
    from selftrain.adapters.review.gathering import RunToReview
    from selftrain.reviewing.questions import Question

Queue = Literal["uncertain", "disagree", "mislabelled", "new", "typical", "duplicates", "quarantine", "random", "mixed"]
PICTURE = 1024  # pixels of the longer side of a picture that is handed to another tool


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
    to_fiftyone: Annotated[
        Path | None, typer.Option("--to-fiftyone", help="Write the queue to this new folder as FiftyOne's data set.")
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
    files = [each for each in (out, to_label_studio, to_fiftyone, from_label_studio) if each is not None]
    if len(files) > 1:
        raise InputError("--out, --to-label-studio, --to-fiftyone and --from-label-studio exclude each other; give one")
    wanted = _Wanted(queue, limit, seed, spread_out=not ordered)
    if from_label_studio is not None:
        _take(run_id, from_label_studio, who)
    elif not files:
        _serve(run_id, wanted, who=who, port=port, show=show)
    elif files[0].exists():
        raise InputError(f"{files[0]} exists and may hold labels; give another name")
    elif out is not None:
        _write_list(run_id, wanted, out)
    elif to_fiftyone is not None:
        _write_data_set(run_id, wanted, to_fiftyone)
    else:
        _write_tasks(run_id, wanted, files[0])


@dataclass(frozen=True)
class _Wanted:
    """Which images a person asked for."""

    queue: Queue
    limit: int
    seed: int
    spread_out: bool

    def of(self, run: RunToReview) -> Sequence[Question]:
        from selftrain.reviewing.queues import QueueName

        return run.queue(QueueName(self.queue), limit=self.limit, seed=self.seed, spread_out=self.spread_out)

    def order(self, run: RunToReview, count: int) -> str:
        from selftrain.reviewing.queues import QueueName, order_of

        name = QueueName(self.queue)
        return order_of(run.material, name, count=count, limit=self.limit, spread_out=self.spread_out)


def _write_list(run_id: str | None, wanted: _Wanted, path: Path) -> None:
    from selftrain.reviewing.questions import as_csv

    with _reviewed(run_id, wanted) as (_, found):
        _write(path, as_csv(found))
    typer.echo(
        f"{path}: {len(found)} images of the queue {wanted.queue}; fill in label, then: selftrain label --from {path}"
    )


def _write_tasks(run_id: str | None, wanted: _Wanted, path: Path) -> None:
    from selftrain.reviewing.label_studio import as_tasks

    with _reviewed(run_id, wanted) as (run, found):
        _write(path, as_tasks(found, picture=_pictures(run)))
    typer.echo(
        f"{path}: {len(found)} tasks of the queue {wanted.queue}; export what was annotated as JSON, then: selftrain "
        "review --from-label-studio FILE"
    )


def _write_data_set(run_id: str | None, wanted: _Wanted, folder: Path) -> None:
    from selftrain.reviewing.fiftyone import write_fiftyone

    with _reviewed(run_id, wanted) as (run, found):
        write_fiftyone(found, run.classes, folder, picture=_pictures(run))
    typer.echo(f"{folder}: {len(found)} images of the queue {wanted.queue}, for FiftyOne, with data_path='data.json'")


@contextmanager
def _reviewed(run_id: str | None, wanted: _Wanted) -> Iterator[tuple[RunToReview, Sequence[Question]]]:
    """What the run holds, and the images of a queue."""
    from selftrain.adapters.review.gathering import gather, place_of
    from selftrain.adapters.snapshots.carrying import shared_state

    record, place = place_of(run_id)
    with shared_state(place, "review", changes=False):
        run = gather(record.run_id)
        yield run, wanted.of(run)


def _pictures(run: RunToReview) -> Callable[[str], tuple[bytes, str]]:
    """How the picture of an image is made whose file is not on this machine."""
    from selftrain.adapters.review.app import as_picture

    return lambda image_id: as_picture(run.read(image_id), PICTURE, bits=run.bits)


def _serve(run_id: str | None, wanted: _Wanted, *, who: str | None, port: int, show: bool) -> None:
    from selftrain.adapters.review.gathering import gather, place_of
    from selftrain.adapters.review.server import serve
    from selftrain.adapters.snapshots.later_answers import answers_carried

    record, place = place_of(run_id)
    with answers_carried(place, "review"):
        run = gather(record.run_id)
        review = _review_of(run, wanted, who)

        def started(address: str) -> None:
            typer.echo(f"{review.about}: {address}\nonly this machine can open it; Ctrl+C ends it, and nothing is lost")
            if show and not webbrowser.open(address):
                typer.echo("no browser was found; open the address yourself", err=True)

        serve(review, port=port, started=started)


def _review_of(run: RunToReview, wanted: _Wanted, who: str | None) -> Review:
    from selftrain.adapters.registry.champions import current_user
    from selftrain.adapters.review.app import Review
    from selftrain.reviewing.desk import Desk
    from selftrain.reviewing.questions import Neighbours

    found = wanted.of(run)
    about = f"{len(found)} images of the queue {wanted.queue}, run {run.record.run_id[:8]}"
    return Review(
        title=f"Review of {run.record.name}",
        about=f"{about}, {wanted.order(run, len(found))}",
        desk=Desk(run.dataset.store.root, run.classes, found),
        neighbours=Neighbours(run.material),
        who=who or current_user(),
        read=run.read,
        bits=run.bits,
    )


def _take(run_id: str | None, path: Path, who: str | None) -> None:
    """Take in the labels of an export by the rules of `selftrain label`."""
    import tempfile
    from datetime import UTC, datetime

    from selftrain.adapters.registry.champions import current_user
    from selftrain.adapters.review.gathering import gather, place_of
    from selftrain.adapters.snapshots.carrying import shared_state
    from selftrain.retraining.label_entry import LabelledSet
    from selftrain.retraining.label_file import LabelledBy
    from selftrain.reviewing.label_studio import labels_of_export

    text, labels, without = labels_of_export(path)
    if not labels:
        raise InputError(f"{path} holds no annotated task; annotate some, then export them as JSON")
    default = LabelledBy(who or current_user(), datetime.now(UTC))
    record, place = place_of(run_id)
    with shared_state(place, "review"), tempfile.TemporaryDirectory() as scratch:
        run = gather(record.run_id)
        file = Path(scratch) / "labels.csv"
        file.write_text(text, encoding="utf-8")
        report = LabelledSet(run.dataset.store, run.record.name).take(file, default=default)
    typer.echo(f"added: {report.added} labels; {report.known} were known; {without} tasks have no label")


def _write(path: Path, text: str) -> None:
    from selftrain.files.writing import replace_text

    replace_text(path, text)
