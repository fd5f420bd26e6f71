"""The command for labels that people give later: label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.experiment import say_if_apart
from selftrain.cli.shared.options import AsJson, print_columns, print_json
from selftrain.errors import ConfigError

if TYPE_CHECKING:
    from selftrain.config import Source
    from selftrain.retraining.label_entry import LabelReport
    from selftrain.retraining.label_file import LabelledBy, Purpose

From = Annotated[
    Path | None,
    typer.Option(
        "--from", help="CSV or Parquet file with the columns path or image_id, label, and optionally who, when, shown."
    ),
]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML of the experiment. Default: the digits.")]
Who = Annotated[str | None, typer.Option("--who", help="Who gave the labels, where a row does not say. Default: you.")]
Settle = Annotated[bool, typer.Option("--settle", help="The labels end conflicts, and replace those of the source.")]
Retract = Annotated[
    bool, typer.Option("--retract", help="Take back the labels of the images in --from; its column label may be empty.")
]
ListOption = Annotated[
    bool, typer.Option("--list", help="Show the images whose labels are in conflict; without --from it adds nothing.")
]


def label(
    from_file: From = None,
    who: Who = None,
    config: Config = None,
    settle: Settle = False,
    retract: Retract = False,
    list_only: ListOption = False,
    as_json: AsJson = False,
) -> None:
    """Add labels that people gave to images of a data set; the next run uses them. All rows are added, or none.

    An image with two different labels is in conflict: none of them is used until one is settled with --settle.
    An image whose label was taken back with --retract is left out until it gets a new one.
    """
    from selftrain.adapters.snapshots.carrying import shared_state
    from selftrain.config import Experiment
    from selftrain.config.text.file import read_experiment
    from selftrain.data.store.dataset import open_dataset
    from selftrain.retraining.label_entry import LabelledSet

    if from_file is None and not list_only:
        raise ConfigError("give --from FILE, which adds labels, or --list, which shows those in conflict")
    if settle and retract:
        raise ConfigError("--settle gives labels and --retract takes them back; give one of them")
    if from_file is not None and not from_file.is_file():
        raise ConfigError(f"--from: {str(from_file)!r} is not a file; correct the path")
    e = read_experiment(config) if config else Experiment()
    say_if_apart(config)
    purpose: Purpose = "retract" if retract else "settle" if settle else "add"
    with shared_state(e.place, "label", changes=from_file is not None):
        dataset = LabelledSet(open_dataset(e.place).store, e.name, classes=lambda: _classes(e.source))
        report = dataset.report() if from_file is None else dataset.take(from_file, default=_by(who), purpose=purpose)
    if as_json:
        print_json(report)
    else:
        _print(report, purpose=None if from_file is None else purpose)


def _classes(source: Source) -> Sequence[str]:
    """The classes that the source of an experiment names."""
    from selftrain.data.sources.source import open_source

    opened = open_source(source)
    return opened.class_names(opened.scan())


def _by(who: str | None) -> LabelledBy:
    from datetime import UTC, datetime

    from selftrain.adapters.registry.champions import current_user
    from selftrain.retraining.label_file import LabelledBy

    return LabelledBy(who or current_user(), datetime.now(UTC))


def _print(report: LabelReport, *, purpose: Purpose | None) -> None:
    if purpose == "retract":
        typer.echo(f"taken back: the labels of {report.added} images; {report.known} rows had no more to take back")
    elif purpose is not None:
        typer.echo(f"added: {report.added} labels; {report.known} were known")
    typer.echo(
        f"{report.dataset}: {report.labelled} images with labels of the log, {len(report.conflicts)} in conflict"
        + (f", {report.retracted} taken back" if report.retracted else "")
    )
    if report.conflicts:
        said = ["  ".join(f"{one.label} ({one.who})" for one in each.said) for each in report.conflicts]
        rows = [(each.image_id, each.path, text) for each, text in zip(report.conflicts, said, strict=True)]
        print_columns([("image_id", "path", "labels"), *rows])
        typer.echo("none of these labels is used; settle them: selftrain label --settle --from FILE")
