"""Swap: replace a file of a store only while it is as it was read, so that of two writers one is told.

In a folder a lock makes the two steps one. A server of S3 does so itself where it knows conditional writes. Elsewhere
the file is read again right before it is written, which leaves a gap of one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from selftrain.files.locks import locked
from selftrain.files.writing import replace

REFUSED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
UNKNOWN = frozenset({"NotImplemented", "501"})
"""What servers of S3 answer to a condition that does not hold, and to one that they do not know."""


@dataclass(frozen=True)
class Seen:
    """A file as it was read: its content, and its version on a server of S3; None where it was missing."""

    content: bytes | None
    etag: str | None


def is_folder(system: Any) -> bool:
    """Whether a file system of fsspec is that of this machine."""
    return system.protocol in ("file", ("file", "local"))


def look(system: Any, path: str) -> Seen:
    """The file at `path` now. Its version is asked first: one that is too old is refused, and does no harm."""
    try:
        etag = None if is_folder(system) else system.info(path).get("ETag")
        return Seen(system.cat_file(path), etag)
    except FileNotFoundError:
        return Seen(None, None)


def swap(system: Any, path: str, content: bytes, seen: Seen) -> bool:
    """Write `content` to `path` if the file is as it was `seen`; False, and nothing is written, if it is not."""
    if is_folder(system):
        with locked(Path(f"{path}.guard")):
            return _swap(system, path, seen, lambda: _replace(Path(path), content))
    if "s3" not in system.protocol:
        return _swap(system, path, seen, lambda: system.pipe_file(path, content))
    condition = {"IfMatch": seen.etag} if seen.etag else {"IfNoneMatch": "*"}
    return _swap(system, path, seen, lambda: _pipe(system, path, content, condition))


def _swap(system: Any, path: str, seen: Seen, write: Callable[[], bool | None]) -> bool:
    return look(system, path).content == seen.content and write() is not False


def _pipe(system: Any, path: str, content: bytes, condition: Mapping[str, str]) -> bool:
    """Write on a condition. A write whose answer was lost is sent again, and refused: then the content is ours."""
    try:
        system.pipe_file(path, content, **condition)
    except OSError as error:
        code = _code(error)
        if code in UNKNOWN:
            system.pipe_file(path, content)
        elif code in REFUSED:
            return look(system, path).content == content
        else:
            raise
    return True


def _code(error: BaseException) -> str:
    """The code in a server's answer, which the library keeps as the cause of its own error."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _replace(path: Path, content: bytes) -> None:
    replace(path, partial(Path.write_bytes, data=content), durable=True)
