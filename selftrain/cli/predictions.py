"""Predictions of many files: what `selftrain predict --out` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.options import print_json
from selftrain.errors import ConfigError, InputError

if TYPE_CHECKING:
    from selftrain.adapters.registry.references import FoundModel, LoadedModel
    from selftrain.autolabeling.folders.sources import ListedSources

NOTHING_READ = 2

Table = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Parquet to write, for many files; the same command continues it. With a detector: .json (COCO), .csv or "
        ".parquet.",
    ),
]
AtOnce = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Images that are predicted at once, with --out. Default: 32; with a detector 8."
    ),
]


@dataclass(frozen=True)
class Looking:
    """How a detector looks at images: boxes from a `threshold` on, averaged over mirrored views, so many at once."""

    threshold: float | None
    flips: bool = False
    batch_size: int | None = None


def asked_model(
    model: str | None,
    version: int | None,
    class_names: tuple[str, ...],
    *,
    workspace: Path,
    model_name: str | None,
    pixels: str | None,
    image_size: str | None,
    bits: int | None,
    sources: Sequence[str],
) -> FoundModel:
    """The saved model that --model names, or the version of the registered one; it is not loaded yet.

    Raises InputError for what only a model of the user's own needs to be told.
    """
    from selftrain.adapters.registry.references import find_reference, find_registered
    from selftrain.autolabeling.folders.samples import known_of
    from selftrain.learn.models.answers import named_files

    own = {"--classes": class_names, "--pixels": pixels, "--image-size": image_size, "--bits": bits}
    if model is not None:
        paths = named_files([Path(each) for each in sources])[0]
        known = known_of(paths, pixels=pixels, size=image_size, bits=bits)
        found = find_reference(model, workspace=workspace, model_name=model_name, class_names=class_names, known=known)
        if found.detector is not None:
            _refuse(own, "a detector knows it")
        return found
    _refuse(own, "the registered one knows it")
    reference = "champion" if version is None else str(version)
    return find_registered(reference, workspace=workspace, model_name=model_name)


def _refuse(own: Mapping[str, object], why: str) -> None:
    """Raise InputError for the first option of `own` that is given."""
    for option, given in own.items():
        if given:
            raise InputError(f"{option} is for a model of your own: {why}; leave it out")


def predict_into(
    out: Path,
    sources: Sequence[str],
    *,
    find: Callable[[], FoundModel],
    looking: Looking,
    as_json: bool,
) -> None:
    """Write the answers for the images of `sources` to the file `out`, and say what it holds."""
    from selftrain.autolabeling.folders.predictions import check_table
    from selftrain.autolabeling.folders.sources import list_sources
    from selftrain.cli.detections import predict_objects_into

    as_table = out.suffix.lower() not in (".json", ".csv")
    if as_table:
        check_table(out)
    listed = list_sources(sources)  # a wrong source is refused before the model is loaded
    found = find()
    if found.detector is not None:
        predict_objects_into(out, listed, found, found.detector, looking=looking, as_json=as_json)
        return
    refuse_looking(found, looking)
    if not as_table:
        raise ConfigError(f"--out {out}: labels of images are written as Parquet; give a name such as labels.parquet")
    _predict_labels(out, listed, found.load(), batch_size=looking.batch_size or 32, as_json=as_json)


def refuse_looking(found: FoundModel, looking: Looking) -> None:
    """Raise ConfigError for a --threshold or --flips that the classifier `found` does not read."""
    given = [f"--threshold {looking.threshold:g}"] if looking.threshold is not None else []
    given += ["--flips"] if looking.flips else []
    if given:
        raise ConfigError(
            f"{given[0]} is for detectors, and {found.called or 'the model'} answers a class per image; leave it out "
            "(`selftrain pseudo-label` reads both)"
        )


def _predict_labels(out: Path, listed: ListedSources, loaded: LoadedModel, *, batch_size: int, as_json: bool) -> None:
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.serving.litert import fast_predictor
    from selftrain.autolabeling.folders.predictions import Predictor, predict_table

    with progress("predict") as show:
        predictor = Predictor(partial(fast_predictor, loaded.model), loaded.contract, loaded.called, batch_size)
        summary = predict_table(predictor, listed, out, progress=show)
    show_reading(loaded)
    if loaded.concern is not None:
        typer.echo(f"WARNING: {loaded.concern}", err=True)
    if as_json:
        print_json(summary)
    else:
        found = f", {summary.found} of them predicted before" if summary.found else ""
        errors = f"; {summary.errors} could not be read, see the column error" if summary.errors else ""
        typer.echo(f"{out}: {summary.images} images{found}, by {summary.model_version}{errors}")
    if summary.images == summary.errors:
        raise typer.Exit(NOTHING_READ)


def show_reading(loaded: LoadedModel) -> None:
    """Say on stderr how a model that a user brought reads images."""
    reading = loaded.contract.brought
    if reading is not None:
        height, width = reading.shape
        typer.echo(
            f"{loaded.called} reads {height}x{width} pixels as {reading.pixels} ({reading.known_by}), "
            f"answers {reading.answers}",
            err=True,
        )
        if reading.accuracy is None:
            typer.echo(
                "note: whether --classes are in the order of its outputs is not known, as no labelled image was asked; "
                "`selftrain pseudo-label --labeled FOLDER` checks it with class folders",
                err=True,
            )
