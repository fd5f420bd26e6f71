"""The command that serves the champion over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selftrain.cli.shared.experiment import place_of, read_if_given
from selftrain.cli.shared.options import DEFAULT_WORKSPACE, ModelNameOption, WorkspaceOption
from selftrain.errors import RegistryError

MEGA = 1_000_000


Host = Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for every one.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="YAML of the experiment: its model is served, and its `inbox:` says what is kept."
    ),
]
Poll = Annotated[float, typer.Option("--poll", min=0.1, help="Seconds between looks for a new champion.")]
RequestMb = Annotated[float, typer.Option("--max-request-mb", min=0.001, help="Largest request, in MB.")]
MostImages = Annotated[int, typer.Option("--max-images", min=1, help="Most images in a request.")]
Megapixels = Annotated[float, typer.Option("--max-megapixels", min=0.001, help="Largest image, in millions of pixels.")]
MostWaiting = Annotated[
    int, typer.Option("--max-waiting", min=1, help="Requests that are answered at a time; more get status 503.")
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    config: Config = None,
    poll: Poll = 5.0,
    max_request_mb: RequestMb = 32.0,
    max_images: MostImages = 256,
    max_megapixels: Megapixels = 64.0,
    max_waiting: MostWaiting = 128,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve the champion over HTTP, and each new champion without a restart.

    Routes: POST /predict with image files, POST /invocations as MLflow's server, GET /health, /ready, /version and
    /metrics. If the configuration has an `inbox:`, requests are kept there with what was answered.
    """
    from selftrain.adapters.registry.live_champion import RegisteredChampion
    from selftrain.adapters.registry.references import open_registry
    from selftrain.adapters.serving.live.requests import RequestLimits
    from selftrain.adapters.serving.live.server import Settings
    from selftrain.adapters.serving.live.server import serve as serve_champion

    experiment = read_if_given(config)
    inbox = experiment.inbox if experiment else None
    champion = RegisteredChampion(open_registry(*place_of(experiment, workspace, model_name)))
    first = champion.number()
    if first is None:
        raise RegistryError(
            f"{champion.opened.name!r} has no champion to serve; `selftrain promote` makes one of its versions champion"
        )
    limits = RequestLimits(int(max_request_mb * MEGA), max_images, int(max_megapixels * MEGA), max_waiting)
    serve_champion(champion, first, Settings(host=host, port=port, poll_s=poll, limits=limits, inbox=inbox))
