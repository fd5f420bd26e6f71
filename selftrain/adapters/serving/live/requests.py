"""Requests: the images that an HTTP body holds, as files or as MLflow's JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from selftrain.errors import RequestError

IMAGE_COLUMN: Final = "image"
FORMATS: Final = ("dataframe_records", "dataframe_split", "instances", "inputs")


@dataclass(frozen=True)
class RequestLimits:
    """What one request may hold, and how many requests may wait for an answer."""

    request_bytes: int = 32_000_000
    images: int = 256
    image_pixels: int = 64_000_000
    waiting: int = 128


@dataclass(frozen=True)
class AskedImage:
    """One image of a request: the bytes of a file, base64 text, or nested lists; `name` is the client's name for it."""

    name: str
    content: object


def files_of(content_type: str, body: bytes) -> tuple[AskedImage, ...]:
    """The images of a `multipart/form-data` body, whatever their fields are called, or the one that is the body itself.

    Raises RequestError: 415 for another type, 400 for a body without files.
    """
    kind, options = _parsed_type(content_type)
    if kind == "multipart/form-data":
        return _parts(body, options)
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise RequestError(
            415, f"the content type is {content_type!r}; send multipart/form-data with files, or one image as image/*"
        )
    if not body:
        raise RequestError(400, "the body is empty; send the bytes of an image file")
    return (AskedImage("", body),)


def rows_of(content_type: str, body: bytes) -> tuple[AskedImage, ...]:
    """The images of a JSON body as MLflow's server takes it, with the column `image` in base64.

    Raises RequestError: 415 for another type, 400 for what is not such JSON.
    """
    kind, options = _parsed_type(content_type)
    if kind != "application/json" or options.get("charset", "utf-8").lower() != "utf-8":
        raise RequestError(415, f"the content type is {content_type!r}; send application/json in UTF-8")
    try:
        content = json.loads(body)
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON ({error}); send an object with {_formats()}") from error
    if not isinstance(content, dict) or len(given := [name for name in FORMATS if name in content]) != 1:
        keys = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise RequestError(400, f"the body has {keys}; send an object with exactly one of {_formats()}")
    (form,) = given
    return tuple(AskedImage(str(place), image) for place, image in enumerate(_column(form, content[form])))


def check_count(images: Sequence[AskedImage], limits: RequestLimits) -> None:
    """Raise RequestError 413 for more images than one request may hold."""
    if len(images) > limits.images:
        raise RequestError(413, f"{len(images)} images; one request may hold {limits.images}: send several requests")


def _parts(body: bytes, options: Mapping[str, str]) -> tuple[AskedImage, ...]:
    from werkzeug.exceptions import HTTPException
    from werkzeug.formparser import FormDataParser

    parser = FormDataParser(silent=False, max_form_memory_size=None)
    try:
        _, _, files = parser.parse(io.BytesIO(body), "multipart/form-data", len(body), dict(options))
    except (ValueError, HTTPException) as error:
        raise RequestError(400, f"the multipart body cannot be read ({error}); send files as curl -F does") from error
    found = tuple(AskedImage(part.filename or field, part.read()) for field, part in files.items(multi=True))
    if not found:
        raise RequestError(400, "the multipart body holds no file; send one part per image, with a file name")
    return found


def _column(form: str, table: object) -> list[object]:
    """The images in `table`, which has the shape that `form` names."""
    match form, table:
        case "dataframe_split", {"columns": list(columns), "data": list(rows)} if IMAGE_COLUMN in columns:
            place = columns.index(IMAGE_COLUMN)
            if all(isinstance(row, list) and len(row) == len(columns) for row in rows):
                return [row[place] for row in rows]
        case "inputs", {"image": list(images)}:
            return list(images)
        case (("dataframe_records" | "instances"), list(records)):
            if all(isinstance(record, dict) and IMAGE_COLUMN in record for record in records):
                return [record[IMAGE_COLUMN] for record in records]
    raise RequestError(400, f"{form} does not hold a column {IMAGE_COLUMN!r}; {_example(form)}")


def _example(form: str) -> str:
    row = '{"image": "BASE64"}'
    match form:
        case "dataframe_split":
            return 'send {"dataframe_split": {"columns": ["image"], "data": [["BASE64"]]}}'
        case "inputs":
            return 'send {"inputs": {"image": ["BASE64"]}}'
    return f'send {{"{form}": [{row}]}}'


def _formats() -> str:
    return ", ".join(FORMATS)


def _parsed_type(content_type: str) -> tuple[str, dict[str, str]]:
    from werkzeug.http import parse_options_header

    kind, options = parse_options_header(content_type)
    return kind.lower(), dict(options)
