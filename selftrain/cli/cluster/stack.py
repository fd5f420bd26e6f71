"""`selftrain stack`: what ZenML needs to know of a cluster, or of the servers of compose, registered and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.options import AsJson, print_columns, print_json
from selftrain.errors import InputError

if TYPE_CHECKING:
    from selftrain.adapters.cluster.registration import Deed

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

REFERENCE = "env:NAME, file:/absolute/path or zenml:SECRET.KEY"
StackName = Annotated[str, typer.Argument(help="Name of the stack.")]
OURS = "Default: the one of our manifests, or of compose."


@app.callback()
def stack() -> None:
    """Register what ZenML needs to run the pipelines on a cluster, or beside the servers of compose."""


@app.command()
def up(
    kubernetes: Annotated[bool, typer.Option("--kubernetes", help="Steps run in pods of a cluster.")] = False,
    compose: Annotated[
        bool, typer.Option("--compose", help="Steps run on this machine; store and servers are those of compose.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the stack. Default: selftrain, or selftrain-compose.")
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="Namespace of the pods.")] = "selftrain",
    context: Annotated[
        str | None, typer.Option("--context", help="Context of kubeconfig. Default: the current one.")
    ] = None,
    bucket: Annotated[
        str | None, typer.Option("--bucket", help="Bucket of the store. Default: selftrain-data.")
    ] = None,
    s3_endpoint: Annotated[
        str | None, typer.Option("--s3-endpoint", metavar="URL", help=f"Address of the store. {OURS}")
    ] = None,
    s3_region: Annotated[
        str | None,
        typer.Option("--s3-region", metavar="NAME", help="Region of the bucket. A store of your own has none."),
    ] = None,
    mlflow: Annotated[str | None, typer.Option("--mlflow", metavar="URL", help=f"Address of MLflow. {OURS}")] = None,
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="HOST:PORT", help="Where ZenML would push images; ready ones need none."),
    ] = None,
    workspace_claim: Annotated[
        str | None,
        typer.Option("--workspace-claim", metavar="NAME", help="Volume claim that keeps the retraining's journal."),
    ] = None,
    cache_claim: Annotated[
        str | None,
        typer.Option("--cache-claim", metavar="NAME", help="Volume claim of a DVC cache that all pods share."),
    ] = None,
    s3_key: Annotated[str | None, typer.Option("--s3-key", metavar="REF", help=f"Access key: {REFERENCE}.")] = None,
    s3_secret: Annotated[str | None, typer.Option("--s3-secret", metavar="REF", help="Its secret, likewise.")] = None,
    mlflow_user: Annotated[str | None, typer.Option("--mlflow-user", metavar="REF", help="MLflow's user.")] = None,
    mlflow_password: Annotated[
        str | None, typer.Option("--mlflow-password", metavar="REF", help="Its password, likewise.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register the stack with ZenML, and say what was made, changed and left as it was. Run it again after a change.

    Without references to keys, each process takes its credentials from its own environment.
    """
    from selftrain.adapters.cluster.addresses import Site, addresses_of
    from selftrain.adapters.cluster.kube import current_context
    from selftrain.adapters.cluster.registration import register

    if kubernetes == compose:
        raise InputError("say which stack: selftrain stack up --kubernetes, or selftrain stack up --compose")
    addresses = addresses_of(
        Site.KUBERNETES if kubernetes else Site.COMPOSE,
        name=name,
        namespace=namespace,
        context=current_context() if kubernetes and context is None else context,
        bucket=bucket,
        s3_endpoint=s3_endpoint,
        s3_region=s3_region,
        mlflow=mlflow,
        registry=registry,
        workspace_claim=workspace_claim,
        cache_claim=cache_claim,
        s3_key=s3_key,
        s3_secret=s3_secret,
        mlflow_user=mlflow_user,
        mlflow_password=mlflow_password,
    )
    _show(register(addresses), as_json=as_json)
    if not as_json:
        typer.echo(f"next: selftrain doctor --stack {addresses.name}")


@app.command()
def show(name: StackName = "selftrain", as_json: AsJson = False) -> None:
    """Show the components of a registered stack."""
    from selftrain.adapters.cluster.registration import registered

    _show(registered(name), as_json=as_json)


@app.command()
def down(name: StackName = "selftrain", as_json: AsJson = False) -> None:
    """Remove the registration alone: the stack, its components and its secrets in ZenML. Servers and data stay."""
    from selftrain.adapters.cluster.registration import unregister

    _show(unregister(name), as_json=as_json)


def _show(deeds: list[Deed], *, as_json: bool) -> None:
    if as_json:
        print_json(deeds)
        return
    print_columns([(each.done, each.what, each.name, each.detail) for each in deeds])
