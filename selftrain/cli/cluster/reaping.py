"""`selftrain runs reap`: runs that died in a cluster, and that ZenML still shows as running."""

from __future__ import annotations

from typing import Annotated

import typer

from selftrain.cli.shared.options import AsJson, print_json


def reap(
    stack: Annotated[str, typer.Option("--stack", help="Stack whose runs are looked at.")] = "selftrain",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which runs are dead, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Mark runs as failed whose Job in the cluster has failed or is gone. No Job, pod or file is touched."""
    from selftrain.adapters.cluster.reaping import reap as reap_runs

    reaped = reap_runs(stack, dry_run=dry_run)
    if as_json:
        print_json(reaped)
        return
    if not reaped:
        typer.echo("no dead run")
    for each in reaped:
        typer.echo(f"{'would fail' if dry_run else 'failed'}: {each.run_id} ({each.name}): {each.reason}")
        for name in each.left:
            typer.echo(
                f"  the Job {name} of a step still runs; its result is lost: "
                f"kubectl -n {each.namespace} delete job {name}"
            )
