"""The command line: each command parses, calls one function, and prints what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from selftrain.errors import SelftrainError

app = typer.Typer(
    name="selftrain",
    help="Self-training for images: a small labelled set, a large unlabelled one, a registered model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

GATE_MISSED = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkspaceOption = Annotated[Path, typer.Option("--workspace", help="Where the embedded stores are.")]
DEFAULT_WORKSPACE = Path(".selftrain")


@app.command()
def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Experiment YAML; none: the digits.")] = None,
    stack: Annotated[str | None, typer.Option("--stack", help="ZenML stack; none: the active one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop, as `zenml pipeline run ssl_pipeline` does, with a live view. Exit code 3: gate missed."""
    from rich.console import Console

    from selftrain.adapters.launch import launch
    from selftrain.adapters.live import live_view
    from selftrain.selflabel.rounds import Verdict

    with live_view(Console(stderr=True)):
        record = launch(config, stack=stack)
    if as_json:
        _print_json(record)
    if record.verdict is not Verdict.PASSED:
        raise typer.Exit(GATE_MISSED)


@app.command()
def status(
    run_id: Annotated[str | None, typer.Argument(help="Run id; none: the latest.")] = None, as_json: AsJson = False
) -> None:
    """Show a run: its rounds, its numbers on test, what became of the model."""
    from selftrain.adapters.run_records import find_run
    from selftrain.report.summary import summary

    record = find_run(run_id)
    if as_json:
        _print_json(record)
    else:
        _print(summary(record))


@app.command()
def runs(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 20, as_json: AsJson = False
) -> None:
    """List the runs, newest first."""
    from rich.table import Table

    from selftrain.adapters.run_records import latest_runs

    records = latest_runs(count)
    if as_json:
        _print_json(records)
        return
    table = Table("run", "experiment", "status", "verdict", "rounds", "test", "version", box=None)
    for each in records:
        test = f"{each.test_accuracy * 100:.1f} %" if each.test_accuracy is not None else "-"
        students = str(max(0, len(each.rounds) - 1))
        verdict = each.verdict.value if each.verdict else "-"
        table.add_row(each.run_id, each.name, each.status, verdict, students, test, str(each.registered_version or "-"))
    _print(table)


def _print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    plain = (
        value.model_dump(mode="json") if isinstance(value, BaseModel) else [v.model_dump(mode="json") for v in value]
    )
    typer.echo(json.dumps(plain, indent=2))


def _print(value: object) -> None:
    from rich.console import Console

    Console().print(value)


def main() -> None:
    """The `selftrain` command: expected errors are one line and their own exit code, never a traceback."""
    try:
        app()
    except SelftrainError as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues where it was")
