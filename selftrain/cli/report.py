"""The command that writes the page about a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from selftrain.errors import InputError


def report(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Id of the run. Default: the latest.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write. Default: report-NAME-ID.html in this folder.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
) -> None:
    """Write one offline HTML page about a run: did it help, what did it label, where is it wrong, can you trust it."""
    from selftrain.adapters.report.gathering import gather
    from selftrain.files.writing import replace_text
    from selftrain.report.page.run import run_page

    if out is not None and out.is_dir():
        raise InputError(f"{out} is a folder; give --out a file such as {out / 'report.html'}")
    run = gather(run_id)
    path = out or Path(f"report-{run.record.name}-{run.record.run_id[:8]}.html")
    replace_text(path, run_page(run))
    for each in run.missing:
        typer.echo(f"missing: {each}", err=True)
    typer.echo(str(path))
    if show and not webbrowser.open(path.resolve().as_uri()):
        typer.echo(f"no browser was found; open {path} yourself", err=True)
