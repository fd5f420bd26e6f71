"""The app: the routes of the server, and how each answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from fastapi import FastAPI, Request, Response

from selftrain.adapters.serving.live.asking import Asking, Row
from selftrain.adapters.serving.live.live_model import LiveModel, ServedVersion
from selftrain.adapters.serving.live.measures import CONTENT_TYPE, Measures
from selftrain.adapters.serving.live.requests import AskedImage, RequestLimits, check_count, files_of, rows_of
from selftrain.errors import OverloadedError, RequestError
from selftrain.learn.detection.saving import DetectorContract
from selftrain.learn.models.contract import Contract
from selftrain.version import __version__

VERSION_HEADER = "X-Model-Version"


@dataclass(frozen=True)
class Route:
    """How one route reads a body (content type, bytes), writes rows, and writes a refusal (status, text)."""

    path: str
    read: Callable[[str, bytes], tuple[AskedImage, ...]]
    write: Callable[[ServedVersion, Sequence[AskedImage], Sequence[Row]], tuple[int, object]]
    refuse: Callable[[int, str], object]


def create_app(asking: Asking, live: LiveModel, measures: Measures, limits: RequestLimits) -> FastAPI:
    """The routes around `asking`. `docs/production.md` describes them."""
    app = FastAPI(title="selftrain", version=__version__)
    desk = _Desk(asking, live, measures, limits, ThreadPoolExecutor(limits.waiting, "request"))
    files = Route("/predict", files_of, _as_predictions, lambda status, text: {"error": text})
    rows = Route("/invocations", rows_of, _as_mlflow, _as_mlflow_error)

    @app.post(files.path)
    async def predict(request: Request) -> Response:
        """Label image files: multipart/form-data, or one image as the body."""
        return await desk.answer(files, request)

    @app.post(rows.path)
    async def invocations(request: Request) -> Response:
        """Label images as MLflow's server does: JSON with the column `image` in base64."""
        return await desk.answer(rows, request)

    _add_facts(app, asking, live, measures, limits)
    return app


def _add_facts(app: FastAPI, asking: Asking, live: LiveModel, measures: Measures, limits: RequestLimits) -> None:
    """The routes that tell about the server itself."""

    @app.get("/health")
    async def health() -> Response:
        """Whether the process answers."""
        return _json({"status": "ok"})

    @app.get("/ready")
    async def ready() -> Response:
        """Whether a request would be answered now."""
        free = asking.waiting < limits.waiting
        return _json({"ready": free, "model_version": live.current.uri}, status=200 if free else 503)

    @app.get("/version")
    async def version() -> Response:
        """The version that answers, and what is wrong with the champion or the registry."""
        return _json(_facts(live), version=live.current.uri)

    @app.get("/metrics")
    async def metrics() -> Response:
        """What Prometheus collects."""
        return Response(measures.text(), media_type=CONTENT_TYPE)


@dataclass(frozen=True)
class _Desk:
    """Where requests are answered: `threads` wait for the model, so that the event loop does not."""

    asking: Asking
    live: LiveModel
    measures: Measures
    limits: RequestLimits
    threads: ThreadPoolExecutor

    async def answer(self, route: Route, request: Request) -> Response:
        """One request, from its body to its answer. A refusal is an answer too."""
        begun = time.perf_counter()
        try:
            body = await _body(request, self.limits)
            begun = time.perf_counter()
            response = await self._answered(route, request.headers.get("content-type", ""), body)
        except RequestError as error:
            response = self._refused(route, error.status, error.message)
        except OverloadedError as error:
            response = self._refused(route, 503, error.message)
            response.headers["Retry-After"] = "1"
        self.measures.requests.labels(route.path, str(response.status_code)).inc()
        self.measures.seconds.labels(route.path).observe(time.perf_counter() - begun)
        return response

    async def _answered(self, route: Route, content_type: str, body: bytes) -> Response:
        images = route.read(content_type, body)
        check_count(images, self.limits)
        version, rows = await asyncio.get_running_loop().run_in_executor(self.threads, self.asking.ask, images)
        status, content = route.write(version, images, rows)
        return _json(content, status=status, version=version.uri)

    def _refused(self, route: Route, status: int, text: str) -> Response:
        return _json(route.refuse(status, text), status=status, version=self.live.current.uri)


async def _body(request: Request, limits: RequestLimits) -> bytes:
    """The whole body; raises RequestError 413 as soon as it is known to be too large."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.request_bytes:
        raise _too_large(int(announced), limits)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.request_bytes:
            raise _too_large(len(body), limits)
    return bytes(body)


def _too_large(size: int, limits: RequestLimits) -> RequestError:
    return RequestError(
        413, f"the body has {size} bytes or more, {limits.request_bytes} are allowed; send fewer or smaller images"
    )


def _as_predictions(version: ServedVersion, images: Sequence[AskedImage], rows: Sequence[Row]) -> tuple[int, object]:
    """Each file's answer. Status 413 or 422 where no image could be read."""
    names = version.contract.class_names
    if isinstance(version.contract, DetectorContract):
        found = [{"file": image.name, **_boxes(row)} for image, row in zip(images, rows, strict=True)]
        return _status(rows), {"model_version": version.uri, "predictions": found}
    predictions = [
        {
            "file": image.name,
            "label": row.label,
            "confidence": row.confidence,
            "probabilities": dict(zip(names, row.probabilities, strict=True)) if row.probabilities else None,
            "error": row.error,
        }
        for image, row in zip(images, rows, strict=True)
    ]
    return _status(rows), {"model_version": version.uri, "predictions": predictions}


def _boxes(row: Row) -> dict[str, object]:
    """A detector's answer for an image, as its registered model gives it."""
    return {"boxes": row.boxes, "labels": row.labels, "scores": row.scores, "masks": row.masks, "error": row.error}


def _status(rows: Sequence[Row]) -> int:
    if any(row.error is None for row in rows):
        return 200
    return 413 if all(row.too_large for row in rows) else 422


def _as_mlflow(version: ServedVersion, images: Sequence[AskedImage], rows: Sequence[Row]) -> tuple[int, object]:
    """The answer of MLflow's server, key for key."""
    del images
    if isinstance(version.contract, DetectorContract):
        return 200, {"predictions": [_boxes(row) for row in rows]}
    predictions = [
        {
            "label": row.label,
            "confidence": row.confidence,
            "probabilities": row.probabilities,
            "error": row.error,
        }
        for row in rows
    ]
    return 200, {"predictions": predictions}


def _as_mlflow_error(status: int, text: str) -> object:
    code = {413: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}.get(status, "BAD_REQUEST")
    return {"error_code": code, "message": text}


def _facts(live: LiveModel) -> object:
    now, failed = live.current, live.failed
    return {
        "model_version": now.uri,
        "version": now.number,
        "since": now.since,
        "class_names": now.contract.class_names,
        **_read_at(now.contract),
        "weights_sha256": now.contract.weights_sha256,
        "concern": now.concern,
        "failed": None if failed is None else {k: v for k, v in asdict(failed).items() if k != "next_try"},
        "registry": live.trouble or None,
        "selftrain": __version__,
    }


def _read_at(contract: Contract | DetectorContract) -> dict[str, object]:
    """At how many pixels images are looked at, and how a model that a user brought reads them."""
    match contract:
        case DetectorContract():
            return {"longest_side": contract.longest}
        case _:
            brought = contract.brought.model_dump(mode="json") if contract.brought is not None else None
            return {"image_size": contract.image_size, "brought": brought}


def _json(content: object, *, status: int = 200, version: str | None = None) -> Response:
    headers = {VERSION_HEADER: version} if version is not None else None
    return Response(json.dumps(content), status, headers=headers, media_type="application/json")
