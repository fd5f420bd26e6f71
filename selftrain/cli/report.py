"""The commands about a run as a whole: the page about it, and whether its numbers hold."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from selftrain.cli.shared.options import print_columns, print_json
from selftrain.errors import InputError

NOT_HELD = 1
MOST_RUNS = 200


def report(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Id of the run. Default: the latest.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write. Default: report-NAME-ID.html in this folder.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
    every: Annotated[bool, typer.Option("--all", help=f"A page about the newest {MOST_RUNS} runs instead.")] = False,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="RUN_A RUN_B", help="A page that compares two runs instead."),
    ] = None,
) -> None:
    """Write one offline HTML page about a run: did it help, what did it label, where is it wrong, can you trust it.

    With --all, the page shows all runs: accuracy over time, what the unlabelled images gave, and the champions. With
    --compare, it shows what differs between two runs, and which test images changed their answer.
    """
    from selftrain.adapters.report.gathering import gather
    from selftrain.files.writing import replace_text
    from selftrain.report.page.run import run_page

    if out is not None and out.is_dir():
        raise InputError(f"{out} is a folder; give --out a file such as {out / 'report.html'}")
    if every and pair is not None:
        raise InputError("--all and --compare write different pages: leave one of them out")
    if pair is not None:
        if run_id is not None:
            raise InputError(f"--compare takes two runs, and {run_id} is a third: leave it out")
        _write_comparison(pair, out, show=show)
        return
    if every:
        if run_id is not None:
            raise InputError(f"--all shows all runs, {run_id} too: leave one of them out")
        _write_all(out or Path("report-all.html"), show=show)
        return
    run = gather(run_id)
    path = out or Path(f"report-{run.record.name}-{run.record.run_id[:8]}.html")
    replace_text(path, run_page(run))
    for each in run.missing:
        typer.echo(f"missing: {each}", err=True)
    typer.echo(str(path))
    _open(path, show=show)


def _write_all(path: Path, *, show: bool) -> None:
    from selftrain.adapters.runs.records import latest_runs
    from selftrain.files.writing import replace_text
    from selftrain.report.page.runs import runs_page

    replace_text(path, runs_page(latest_runs(MOST_RUNS), most=MOST_RUNS))
    typer.echo(str(path))
    _open(path, show=show)


def _write_comparison(pair: tuple[str, str], out: Path | None, *, show: bool) -> None:
    from selftrain.adapters.report.comparing import compare_runs
    from selftrain.files.writing import replace_text

    first, second, page = compare_runs(*pair)
    path = out or Path(f"compare-{first.record.run_id[:8]}-{second.record.run_id[:8]}.html")
    replace_text(path, page)
    typer.echo(str(path))
    _open(path, show=show)


def _open(path: Path, *, show: bool) -> None:
    if show and not webbrowser.open(path.resolve().as_uri()):
        typer.echo(f"no browser was found; open {path} yourself", err=True)


def verify(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Id of the run. Default: the latest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Compute again what can be computed of a run, and say what holds. Exit code 1: something does not hold.

    Manifest, bytes of images, test numbers, the registered model and its answers are checked. Nothing is written.
    """
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.report.verifying import verify as checks_of
    from selftrain.report.verification import Outcome

    with progress("verify") as show:
        checks = checks_of(run_id, progress=show)
    if as_json:
        print_json(checks)
    else:
        print_columns([(each.outcome.value, each.what, each.why) for each in checks])
    if any(each.outcome is Outcome.BROKEN for each in checks):
        raise typer.Exit(NOT_HELD)
