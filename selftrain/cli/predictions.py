"""Predictions of many files: what `selftrain predict --out` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.options import print_json
from selftrain.errors import InputError

if TYPE_CHECKING:
    from selftrain.adapters.registry.references import LoadedModel

NOTHING_READ = 2

Table = Annotated[
    Path | None, typer.Option("--out", help="Parquet to write, for many files. The same command continues it.")
]
AtOnce = Annotated[int, typer.Option("--batch-size", min=1, help="Images that are predicted at once, with --out.")]


def asked_model(
    model: str | None,
    version: int | None,
    class_names: tuple[str, ...],
    *,
    workspace: Path,
    model_name: str | None,
    pixels: str | None,
    image_size: str | None,
    sources: Sequence[str],
) -> LoadedModel:
    """The saved model that --model names, or the version of the registered one.

    Raises InputError for what only a model of the user's own needs to be told.
    """
    from selftrain.adapters.registry.references import load_reference, load_version
    from selftrain.autolabeling.folders.samples import known_of
    from selftrain.learn.models.answers import named_files

    if model is not None:
        known = known_of(named_files([Path(each) for each in sources])[0], pixels=pixels, size=image_size)
        return load_reference(model, workspace=workspace, model_name=model_name, class_names=class_names, known=known)
    for option, given in {"--classes": class_names, "--pixels": pixels, "--image-size": image_size}.items():
        if given:
            raise InputError(f"{option} is for a model of your own: the registered one knows it; leave it out")
    reference = "champion" if version is None else str(version)
    return load_version(reference, workspace=workspace, model_name=model_name)


def predict_into(
    out: Path, sources: Sequence[str], *, load: Callable[[], LoadedModel], batch_size: int, as_json: bool
) -> None:
    """Write a row per image of `sources` to the Parquet file `out`, and say what it holds."""
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.serving.litert import fast_predictor
    from selftrain.autolabeling.folders.predictions import Predictor, check_table, predict_table
    from selftrain.autolabeling.folders.sources import list_sources

    check_table(out)
    listed = list_sources(sources)  # a wrong source is refused before the model is loaded
    loaded = load()
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
