"""The command that lists which images people should label next: review."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Literal

import typer

from selftrain.errors import InputError

Queue = Literal["uncertain", "disagree", "random", "mixed"]


def review(
    out: Annotated[Path, typer.Option("--out", help="CSV file to write; it must not exist yet.")],
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Id of the run. Default: the latest.")] = None,
    queue: Annotated[Queue, typer.Option("--queue", help="By what images are chosen.")] = "uncertain",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Images in the list, at most.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="For the queues random and mixed.")] = 0,
) -> None:
    """List the images that people should label next, most urgent first, in a file for `selftrain label --from`.

    Fill in the column label, and remove rows that you skip. Images with labels in the label log are not listed again.
    """
    from selftrain.adapters.report.gathering import reviewed
    from selftrain.files.writing import replace_text
    from selftrain.selflabel.selection.review_queue import QueueName, review_queue

    if out.exists():
        raise InputError(f"{out} exists and may hold labels; give --out another file")
    rounds, paths, known = reviewed(run_id)
    found = review_queue(rounds, QueueName(queue), limit=limit, seed=seed, known=known)
    if not found:
        raise InputError(
            f"the queue {queue} holds no image that people have not labelled: take another --queue, such as uncertain"
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "image_id", "label", "shown"))
    writer.writerows((paths.get(each.image_id, ""), each.image_id, "", each.shown) for each in found)
    replace_text(out, text.getvalue())
    typer.echo(f"{out}: {len(found)} images of the queue {queue}; fill in label, then: selftrain label --from {out}")
