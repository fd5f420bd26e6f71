"""The command that serves the champion, or a model of the user's own, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.experiment import place_of, read_if_given
from selftrain.cli.shared.options import (
    DEFAULT_WORKSPACE,
    Bits,
    Classes,
    ImageSize,
    ModelNameOption,
    Pixels,
    WorkspaceOption,
    names_of,
)
from selftrain.errors import ConfigError, InputError, RegistryError

if TYPE_CHECKING:
    from selftrain.adapters.serving.live.live_model import Champion
    from selftrain.config import Experiment

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
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Folder of a saved model, your own model, or models:/NAME/3. Default: the champion."),
]
Labeled = Annotated[
    Path | None, typer.Option("--labeled", help="Class folders of images, which show what pixels your own model reads.")
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    config: Config = None,
    model: ModelOption = None,
    classes: Classes = None,
    pixels: Pixels = None,
    image_size: ImageSize = None,
    bits: Bits = None,
    labeled: Labeled = None,
    poll: Poll = 5.0,
    max_request_mb: RequestMb = 32.0,
    max_images: MostImages = 256,
    max_megapixels: Megapixels = 64.0,
    max_waiting: MostWaiting = 128,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve the champion over HTTP, and each new champion without a restart; or the model that --model names.

    Routes: POST /predict with image files, POST /invocations as MLflow's server, GET /health, /ready, /version and
    /metrics. If the configuration has an `inbox:`, requests are kept there with what was answered. A model of your own
    needs --pixels or --labeled: a server has no image yet that would show how it reads them.
    """
    from selftrain.adapters.serving.live.requests import RequestLimits
    from selftrain.adapters.serving.live.server import Settings
    from selftrain.adapters.serving.live.server import serve as serve_champion

    experiment = read_if_given(config)
    if model is None:
        own = {"--classes": classes, "--pixels": pixels, "--image-size": image_size, "--bits": bits}
        _refuse_idle({**own, "--labeled": labeled})
        champion, first = _champion(experiment, workspace, model_name)
    else:
        names = names_of(classes)
        champion, first = _given(
            model, names, workspace, model_name, pixels=pixels, image_size=image_size, bits=bits, labeled=labeled
        )
    limits = RequestLimits(int(max_request_mb * MEGA), max_images, int(max_megapixels * MEGA), max_waiting)
    inbox = experiment.inbox if experiment else None
    serve_champion(champion, first, Settings(host=host, port=port, poll_s=poll, limits=limits, inbox=inbox))


def _champion(experiment: Experiment | None, workspace: Path, model_name: str | None) -> tuple[Champion, int]:
    """The registered model, and the version of it that is champion now."""
    from selftrain.adapters.registry.live_champion import RegisteredChampion
    from selftrain.adapters.registry.references import open_registry

    champion = RegisteredChampion(open_registry(*place_of(experiment, workspace, model_name)))
    first = champion.number()
    if first is None:
        raise RegistryError(
            f"{champion.opened.name!r} has no champion to serve; `selftrain promote` makes one of its versions champion"
        )
    return champion, first


def _given(
    model: str,
    class_names: tuple[str, ...],
    workspace: Path,
    model_name: str | None,
    *,
    pixels: str | None,
    image_size: str | None,
    bits: int | None,
    labeled: Path | None,
) -> tuple[Champion, int]:
    """The model that --model names. Raises ConfigError for one of the user's own whose pixels nobody knows."""
    from selftrain.adapters.registry.live_champion import OF_NO_REGISTRY, GivenModel
    from selftrain.adapters.registry.references import find_reference
    from selftrain.autolabeling.folders.samples import known_of
    from selftrain.learn.adoption.formats import is_brought

    if is_brought(Path(model)):
        if pixels is None and labeled is None:
            raise ConfigError(
                f"{model}: how it reads pixels is not known before the first request; say it with --pixels 0..255, "
                "0..1 or -1..1, or give class folders of labelled images with --labeled, which show it"
            )
    else:
        _refuse_idle({"--labeled": labeled})
    known = known_of((), pixels=pixels, size=image_size, bits=bits, labeled=labeled, class_names=class_names)
    found = find_reference(model, workspace=workspace, model_name=model_name, class_names=class_names, known=known)
    return GivenModel(found), OF_NO_REGISTRY


def _refuse_idle(options: dict[str, object]) -> None:
    """Raise InputError for an option that only a model of the user's own needs."""
    for option, given in options.items():
        if given is not None:
            raise InputError(f"{option} is for a model of your own, which --model names; leave it out")
