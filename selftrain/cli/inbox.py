"""The command for the inbox: collect."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.options import AsJson, print_columns, print_json

if TYPE_CHECKING:
    from selftrain.retraining.collecting import Collected


def collect(
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML of the experiment, with a section `inbox`.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken in, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at the inbox once, and take new images into the data set. Nothing in the inbox is changed."""
    from selftrain.adapters.process import secrets
    from selftrain.adapters.process.console import progress
    from selftrain.config.text.file import read_experiment
    from selftrain.retraining import collecting

    experiment, now = read_experiment(config), datetime.now(UTC)
    with progress("collect") as show:
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
