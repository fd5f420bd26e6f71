"""A mirror: files of folders, kept in a bucket or another folder, so that another machine can go on with them.

Below the mirror's URL, each folder has objects named by their sha256, and `index.json`. The index lists the two newest
generations, each a set of files with their digests. It is written last, so a generation is whole or not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from selftrain.errors import ConfigError, MirrorError
from selftrain.files.swap import is_folder, look, swap
from selftrain.files.writing import replace

INDEX = "index.json"
KEPT = 2  # generations
SWAPS = 3  # tries to replace an index that others write too
Generation = Mapping[str, str]
"""sha256 of each file, by its name."""
Check = Callable[[Mapping[str, bytes] | None], object]
"""Is given the files of the newest whole generation, None without one; raises where it must not be replaced."""

_log = logging.getLogger(__name__)


@dataclass
class Mirror:
    """Keeps the folders below `root` under `url`: a folder, or any URL of fsspec such as s3://bucket/prefix.

    The store is opened again for each transfer, so a key may be renewed while a training runs. `variable` is where the
    URL came from; errors name it.
    """

    url: str
    root: Path
    variable: str = "SELFTRAIN_CHECKPOINTS"
    _sending: threading.Thread | None = field(default=None, init=False, repr=False)

    def fetch(self, folder: Path, *, whole: bool = False) -> bool:
        """Write the newest whole generation of `folder` to it; False if there is none.

        A generation with a missing or damaged object is passed over, which is logged. If none is left, that is an error
        where something `whole` is demanded. Raises MirrorError for it, and if the store does not answer.
        """
        store = self._store(folder)
        contents = store.newest()
        for name, content in (contents or {}).items():
            replace(folder / name, _writer(content), durable=True)
        if contents is None and whole and store.generations():
            raise MirrorError(
                f"no save of {folder.name} at {self.url} is whole: objects are missing or damaged. Bring them back, or "
                f"remove its {INDEX} to begin with nothing ({self.variable})"
            )
        return contents is not None

    def newest(self, folder: Path, name: str) -> bytes | None:
        """The file `name` of the newest whole generation of `folder`; None if there is none."""
        return (self._store(folder).newest() or {}).get(name)

    def replace(self, folder: Path, names: Sequence[str], check: Check) -> None:
        """Store the files `names` of `folder` as its newest generation, if `check` allows it.

        What another writes between the check and the end is not replaced either, as far as the store can tell
        (`selftrain.files.swap`): then the check is made again, on what is there now. Raises what `check` raises, and
        MirrorError.
        """
        files = {name: (folder / name).read_bytes() for name in names}
        store = self._store(folder)
        for _ in range(SWAPS):
            if store.add(files, check):
                return
        raise MirrorError(f"{self.url} changes all the time; see who writes to it, and repeat ({self.variable})")

    def send(self, folder: Path, names: Sequence[str], *, wait: bool = False) -> None:
        """Store the files `names` of `folder` as its newest generation, in the background unless `wait`.

        While an earlier transfer goes on, a new one is only made with `wait`. What the store refuses is logged, and
        raised as MirrorError with `wait`.
        """
        if wait:
            self.join()
        elif self._sending is not None and self._sending.is_alive():
            return
        files = {name: (folder / name).read_bytes() for name in names}
        if wait:
            self._store(folder).add(files)
            return
        self._sending = threading.Thread(target=self._try_to_add, args=(folder, files), daemon=True)
        self._sending.start()

    def join(self) -> None:
        """Wait for the transfer in the background."""
        if self._sending is not None:
            self._sending.join()

    def _try_to_add(self, folder: Path, files: Mapping[str, bytes]) -> None:
        try:
            self._store(folder).add(files)
        except MirrorError as error:
            _log.warning("%s; the training goes on", error.message)

    def _store(self, folder: Path) -> _Store:
        key = folder.resolve().relative_to(self.root.resolve()).as_posix()
        return _Store(*_opened(self.url, self.variable), self.url, key, self.variable)


@dataclass(frozen=True)
class _Store:
    """The objects and the index of one folder; `system` is a file system of fsspec."""

    system: Any
    base: str
    url: str
    key: str
    variable: str

    def generations(self) -> tuple[Generation, ...]:
        """Newest first."""
        return _generations(self._asked(lambda: self.system.cat_file(self._path(INDEX))))

    def newest(self) -> dict[str, bytes] | None:
        """The files of the newest generation that is whole; what is passed over is logged. None if there is none."""
        return self._whole(self.generations())

    def _whole(self, generations: Sequence[Generation]) -> dict[str, bytes] | None:
        for generation in generations:
            contents = {name: self.content(digest) for name, digest in generation.items()}
            found = {name: content for name, content in contents.items() if content is not None}
            if len(found) == len(generation):
                return found
            _log.warning("%s: a save of %s lacks objects, and is passed over", self.url, self.key)
        return None

    def content(self, digest: str) -> bytes | None:
        """The object `digest`; None if it is missing or damaged."""
        content = self._asked(lambda: self.system.cat_file(self._path(digest)))
        return content if content is not None and hashlib.sha256(content).hexdigest() == digest else None

    def add(self, files: Mapping[str, bytes], check: Check | None = None) -> bool:
        """Put what is missing, then the index, then remove what no generation names any more.

        With a `check` the index must be as it was when it was checked; False, and it is not written, if it is not.
        """
        seen = self._asked(lambda: look(self.system, self._path(INDEX)))
        earlier = _generations(seen.content)
        if check is not None:
            check(self._whole(earlier))
        newest = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        present = {digest for generation in earlier for digest in generation.values()}
        for name, digest in newest.items():
            if digest not in present or not self._asked(partial(self.system.exists, self._path(digest))):
                self._put(digest, files[name])
        kept = [newest, *(one for one in earlier if one != newest)][:KEPT]
        index = json.dumps({"generations": kept}, indent=1).encode()
        if check is None:
            self._put(INDEX, index)
        elif not self._asked(lambda: swap(self.system, self._path(INDEX), index, seen), writing=True):
            return False
        for digest in present - {digest for generation in kept for digest in generation.values()}:
            self._asked(partial(self.system.rm_file, self._path(digest)))
        return True

    def _put(self, name: str, content: bytes) -> None:
        if is_folder(self.system):
            self._asked(lambda: replace(Path(self._path(name)), _writer(content), durable=True), writing=True)
        else:
            self._asked(lambda: self.system.pipe_file(self._path(name), content), writing=True)

    def _path(self, name: str) -> str:
        return f"{self.base}/{self.key}/{name}"

    def _asked(self, call: Callable[[], Any], *, writing: bool = False) -> Any:
        """What `call` returns; None if the file that it reads is missing. Raises MirrorError for any other error.

        What is missing when it is `writing` is the bucket.
        """
        try:
            return call()
        except Exception as error:  # each kind of store raises its own library's errors
            if isinstance(error, FileNotFoundError) and not writing:
                return None
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MirrorError(
                f"the store at {self.url} cannot be read or written: {reason}; check the address, its key and the "
                f"server ({self.variable})"
            ) from error


def _generations(index: bytes | None) -> tuple[Generation, ...]:
    return tuple(json.loads(index)["generations"]) if index is not None else ()


def _opened(url: str, variable: str) -> tuple[Any, str]:
    """The file system at `url` with no cache of its own, and the path in it."""
    fsspec = import_module("fsspec")
    try:
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{variable} {url!r} cannot be opened: {error}; give a folder or a URL such as s3://bucket/folder, and "
            "install what its scheme needs"
        ) from error
    return system, str(path).rstrip("/")


def _writer(content: bytes) -> Callable[[Path], object]:
    return lambda part: part.write_bytes(content)
