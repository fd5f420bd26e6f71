"""`selftrain doctor --stack`: what a run needs from a cluster and its servers, checked before it begins."""

from __future__ import annotations

import typer

from selftrain.cli.shared.options import print_columns, print_json

NOT_HEALTHY = 1


def check(stack: str, *, as_json: bool) -> None:
    """Print the checks of `stack`, a line each. Exit code 1 if one failed."""
    from selftrain.adapters.cluster.checks import Level, check_stack

    checks = check_stack(stack)
    if as_json:
        print_json(checks)
    else:
        print_columns([(each.level.value, each.name, each.found) for each in checks])
        for each in checks:
            if each.advice:
                typer.echo(f"{each.name}: {each.advice}")
    if any(each.level is Level.FAIL for each in checks):
        raise typer.Exit(NOT_HEALTHY)
