"""The app: what the page about a queue asks its server, and what keeps everyone else out."""

from __future__ import annotations

import hmac
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from selftrain.data.label_log import NONE_OF_THEM
from selftrain.errors import ImageError, InputError, SelftrainError
from selftrain.report.page.templates import rendered
from selftrain.reviewing.desk import Desk
from selftrain.reviewing.questions import Neighbours

HERE = Path(__file__).parent
TOKEN_HEADER = "x-review-token"
MOST_BODY, CHUNK, MOST_DIGITS = 1_000_000, 200, 18
SIDES = {"small": 192, "large": 768}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",  # the address holds the token
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Review:
    """What the page shows: a `title`, the `desk`, who answers if nothing else is said, and the bytes of an image.

    `bits` is how many of 16 bits grey pictures fill.
    """

    title: str
    about: str
    desk: Desk
    neighbours: Neighbours
    who: str
    read: Callable[[str], bytes]
    bits: int | None = None


def create_app(review: Review, token: str, hosts: frozenset[str]) -> ASGIApp:
    """The page and its routes under /`token`/, for requests whose header `Host` is one of `hosts`."""
    routes = _Routes(review)
    app = Starlette(
        routes=[
            Route("/{token}/", routes.page),
            Route("/{token}/{name:str}.js", routes.script),
            Route("/{token}/{name:str}.css", routes.style),
            Route("/{token}/queue", routes.queue),
            Route("/{token}/news", routes.news),
            Route("/{token}/image/{image_id}", routes.image),
            Route("/{token}/answer", routes.answer, methods=["POST"]),
            Route("/{token}/undo", routes.undo, methods=["POST"]),
        ]
    )
    return _Doorkeeper(app, token, hosts)


@dataclass(frozen=True)
class _Doorkeeper:
    """Lets in only requests with the token in their path, to our own name, and (to write) with the token as a header.

    A page of another site does not know the token. One whose name is later bound to this machine (DNS rebinding) sends
    another `Host`. A form cannot send JSON or a header of its own.
    """

    app: ASGIApp
    token: str
    hosts: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)  # pragma: no cover - start and stop
            return
        refused = self._refusal(Request(scope))
        await (self.app if refused is None else refused)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if request.headers.get("host", "") not in self.hosts:
            return _error("this server answers to its own address alone", 403)
        if not self._fits(request.url.path.split("/")[1]):
            return _error("the address lacks the token; open the one that `selftrain review` printed", 403)
        if request.method in ("GET", "HEAD"):
            return None
        origin = request.headers.get("origin")
        if not self._fits(request.headers.get(TOKEN_HEADER, "")) or (
            origin is not None and origin.removeprefix("http://") not in self.hosts
        ):
            return _error("only the page itself may write", 403)
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return _error("send JSON", 415)
        return None

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


@dataclass(frozen=True)
class _Routes:
    review: Review

    async def page(self, request: Request) -> Response:
        text = rendered("page.html", folder=HERE, title=self.review.title, about=self.review.about)
        return Response(text, headers=HEADERS, media_type="text/html")

    async def script(self, request: Request) -> Response:
        return _own_file(request.path_params["name"], ".js", "text/javascript")

    async def style(self, request: Request) -> Response:
        return _own_file(request.path_params["name"], ".css", "text/css")

    async def queue(self, request: Request) -> Response:
        """A chunk of the questions, from `from` on; those that were answered say so."""
        return await run_in_threadpool(self._queue, _number(request, "from"))

    def _queue(self, start: int) -> Response:
        desk = self.review.desk
        number = len(desk.news(0))
        chunk, answered = desk.questions[start : start + CHUNK], desk.standing()
        near = self.review.neighbours.of([each.image_id for each in chunk])
        rows = [
            {
                **asdict(each),
                "shown": each.shown,
                "neighbours": near.get(each.image_id, ()),
                "answer": answered[each.image_id].label if each.image_id in answered else None,
            }
            for each in chunk
        ]
        facts = {"classes": desk.classes, "none": NONE_OF_THEM, "who": self.review.who}
        counts = {"count": len(desk.questions), "from": start, "since": number}
        return _json({**facts, **counts, "questions": rows})

    async def news(self, request: Request) -> Response:
        return await run_in_threadpool(self._news, _number(request, "since"))

    def _news(self, since: int) -> Response:
        return _json({"news": [asdict(each) for each in self.review.desk.news(since)]})

    async def image(self, request: Request) -> Response:
        side = SIDES.get(request.query_params.get("size", "small"), SIDES["small"])
        return await run_in_threadpool(self._image, str(request.path_params["image_id"]), side)

    def _image(self, image_id: str, side: int) -> Response:
        try:
            data, kind = as_picture(self.review.read(image_id), side, bits=self.review.bits)
        except (SelftrainError, KeyError):
            return _error("this image is not in the store", 404)
        kept = {**HEADERS, "cache-control": "private, max-age=3600, immutable"}
        return Response(data, headers=kept, media_type=kind)

    async def answer(self, request: Request) -> Response:
        return await self._written(request, self._answer)

    async def undo(self, request: Request) -> Response:
        return await self._written(request, self._undo)

    async def _written(self, request: Request, write: Callable[[dict[str, object]], None]) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY:
                return _error("too many images at once", 413)
        try:
            given = json.loads(body)
            since = int(given["since"])
            await run_in_threadpool(write, given)
            return await run_in_threadpool(self._news, since)
        except InputError as error:
            return _error(error.message, 409)
        except SelftrainError as error:
            return _error(error.message, 503)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return _error("images, label, who and since are wanted, as JSON", 400)

    def _answer(self, given: dict[str, object]) -> None:
        self.review.desk.answer(_texts(given["images"]), _text(given["label"]), _text(given["who"]))

    def _undo(self, given: dict[str, object]) -> None:
        self.review.desk.undo(_texts(given["images"]), _text(given["label"]), _text(given["who"]))


def as_picture(data: bytes, side: int, *, bits: int | None = None) -> tuple[bytes, str]:
    """The image file `data` as a WebP or PNG file, its longer side at most `side` pixels, and its media type.

    `bits` is how many of 16 bits a grey picture fills. Raises ImageError where it cannot be decoded.
    """
    from PIL import Image

    from selftrain.data.images.decode import decode

    picture = Image.fromarray(decode(data, None, lenient=True, bits=bits))
    small = max(picture.size) <= 64
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    try:
        picture.save(buffer, "PNG" if small else "WEBP", quality=85)
    except (OSError, ValueError) as error:
        raise ImageError("unreadable", f"a picture cannot be made of the image: {error}") from error
    return buffer.getvalue(), "image/png" if small else "image/webp"


def _own_file(name: str, suffix: str, kind: str) -> Response:
    if name != "page":
        return _error("there is no such file", 404)
    return Response((HERE / f"page{suffix}").read_text(encoding="utf-8"), headers=HEADERS, media_type=kind)


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else 0


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return [_text(each) for each in value]


def _json(value: object) -> Response:
    return Response(json.dumps(value), headers=HEADERS, media_type="application/json")


def _error(text: str, status: int) -> Response:
    return Response(json.dumps({"error": text}), status, headers=HEADERS, media_type="application/json")
