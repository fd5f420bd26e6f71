"""Remote files: a folder, or a bucket behind a URL, that is listed and read and never written to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import NamedTuple, Protocol

from selftrain.errors import ConfigError, InboxError

Options = Mapping[str, str | int | bool]
Identity = tuple[str, int, int, str]


class RemoteFile(NamedTuple):
    """One file as a listing shows it; times in nanoseconds since 1970."""

    path: str  # in the folder as configured, or a URL
    size: int  # bytes
    mtime_ns: int
    version: str  # the server's etag, "" where there is none
    changed_ns: int  # nobody has touched the content since; 0: the listing does not say

    @property
    def identity(self) -> Identity:
        """What differs when the content may differ."""
        return self[:4]


class FileChangedError(OSError):
    """A file is no longer what its listing said."""


@dataclass(frozen=True)
class FoundFiles:
    """All files below a root, sorted by path, hidden ones left out; `uploads` are begun and not yet complete."""

    files: tuple[RemoteFile, ...]
    uploads: int = 0


class Remote(Protocol):
    """A root whose files can be listed and read."""

    def list(self) -> FoundFiles:
        """Everything below the root now. Raises InboxError."""

    def read(self, file: RemoteFile) -> bytes:
        """The whole content of a listed file.

        Raises FileChangedError where it is no longer as listed, OSError where it cannot be read now.
        """

    def read_path(self, path: str) -> bytes:
        """The content of the file at `path`, which a listing names, as it is now. Raises OSError."""

    def check(self) -> None:
        """Raise InboxError unless the root is still there and may be read."""


def open_remote(url: str, options: Options) -> Remote:
    """The folder or bucket at `url`; nothing is read yet.

    `options` go to the file system of fsspec; an option `a.b` is the key b of its option a. Raises ConfigError for a
    scheme that is unknown or whose package is missing.
    """
    scheme, _, rest = url.partition("://")
    if not rest or scheme in ("file", "local"):
        return Folder(os.path.normpath(os.path.expanduser(rest or url)))
    return _open_bucket(url, scheme, options)


class FileSystem(Protocol):
    """What we ask of a file system of fsspec; one for S3 has `call_s3` as well."""

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
        """All files below `path`, by name."""

    def cat_file(self, path: str) -> bytes:
        """The content of one file."""

    def info(self, path: str) -> dict[str, object]:
        """Facts about one file or folder."""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine. Links are followed, each real folder once."""

    root: str

    def list(self) -> FoundFiles:
        files: list[RemoteFile] = []
        visited: set[tuple[int, int]] = set()
        waiting = [self.root]
        while waiting:
            folder = waiting.pop()
            with _one_line(folder):
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) not in visited:
                    visited.add((status.st_dev, status.st_ino))
                    waiting += _scan_folder(folder, files)
        return FoundFiles(tuple(sorted(files)))

    def read(self, file: RemoteFile) -> bytes:
        with open(file.path, "rb") as opened:
            before = os.fstat(opened.fileno())
            data = opened.read()
            after = os.fstat(opened.fileno())
        for status in (before, after):
            if (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
                raise FileChangedError(f"{file.path!r} changed after it was listed; it is read at a later look")
        return data

    def read_path(self, path: str) -> bytes:
        with open(path, "rb") as opened:
            return opened.read()

    def check(self) -> None:
        with _one_line(self.root), os.scandir(self.root):
            pass


def _scan_folder(folder: str, files: list[RemoteFile]) -> list[str]:
    """Add the files of one folder to `files`; returns its sub-folders."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    folders.append(entry.path)
                    continue
                status = entry.stat()
            except OSError:  # a link to nothing, or removed just now
                files.append(RemoteFile(_text(entry.path), 0, 0, "", 0))
                continue
            if stat.S_ISREG(status.st_mode):
                # A copy can have any mtime while it grows; its ctime is always that of the last write.
                changed = max(status.st_mtime_ns, status.st_ctime_ns)
                files.append(RemoteFile(_text(entry.path), status.st_size, status.st_mtime_ns, "", changed))
    return folders


def _text(path: str) -> str:
    """`path` with escapes for bytes that are not UTF-8."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Bucket:
    """The objects below `root` (without scheme) of a file system of fsspec; `url` stands before their names."""

    system: FileSystem
    root: str
    url: str

    def list(self) -> FoundFiles:
        with _one_line(self.url):
            found = self.system.find(self.root, detail=True)
            uploads = self._uploads()
        cut = len(self.root)
        files = [
            _remote_file(self.url + name[cut:], info)
            for name, info in found.items()
            if not name.endswith("/") and "/." not in name[cut:]
        ]
        return FoundFiles(tuple(sorted(files)), uploads)

    def read(self, file: RemoteFile) -> bytes:
        data = self.read_path(file.path)
        if len(data) != file.size:
            raise FileChangedError(f"{file.path!r} changed after it was listed; it is read at a later look")
        return data

    def read_path(self, path: str) -> bytes:
        try:
            return self.system.cat_file(self.root + path[len(self.url) :])
        except OSError:
            raise
        except Exception as error:  # the server's library has errors of its own
            raise OSError(_reason(error)) from error

    def check(self) -> None:
        bucket = self.root.partition("/")[0]
        call_s3 = getattr(self.system, "call_s3", None)
        with _one_line(self.url):
            if call_s3 is None:
                self.system.info(bucket)
            else:  # an answer to HEAD would not say why
                call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)

    def _uploads(self) -> int:
        """Uploads in parts that have begun; 0 where the server does not tell."""
        bucket, _, prefix = self.root.partition("/")
        call_s3 = getattr(self.system, "call_s3", None)
        if call_s3 is None:
            return 0
        try:
            told = call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        except OSError:  # a right of its own, which a key that only reads may lack
            return 0
        return len(told.get("Uploads") or ())


def _open_bucket(url: str, scheme: str, options: Options) -> Bucket:
    fsspec = import_module("fsspec")
    nested: dict[str, object] = {}
    for name, value in options.items():
        option, _, key = name.partition(".")
        within = nested.setdefault(option, {}) if key else nested
        if not isinstance(within, dict):
            raise ConfigError(f"inbox.storage has both {option!r} and {name!r}; keep one of them")
        within[key or option] = value
    try:
        system = fsspec.filesystem(scheme, **nested, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"inbox.url {url!r} cannot be opened: {_reason(error)}; give a folder, or install what its scheme needs"
        ) from error
    except TypeError as error:
        raise ConfigError(f"inbox.storage or inbox.secrets has an option unknown to {scheme}: {error}") from error
    root = str(system._strip_protocol(url)).rstrip("/")
    return Bucket(system, root, str(system.unstrip_protocol(root)).rstrip("/"))


def _remote_file(path: str, info: Mapping[str, object]) -> RemoteFile:
    etag = info.get("ETag") or info.get("etag") or ""
    mtime_ns = next((_nanoseconds(info[key]) for key in _TIMES if info.get(key)), 0)
    size = info.get("size")
    return RemoteFile(path, size if isinstance(size, int) else 0, mtime_ns, str(etag).strip('"'), mtime_ns)


_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _nanoseconds(time: object) -> int:
    """Nanoseconds since 1970 of a time in any of the forms that file systems give; 0 for another."""
    match time:
        case datetime():
            aware = time if time.tzinfo else time.replace(tzinfo=UTC)
            passed = aware - _EPOCH
            return ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) * 1_000
        case int() | float():
            return int(time * 1_000_000_000)
        case str():
            return _nanoseconds(datetime.fromisoformat(time))
        case _:
            return 0


@contextmanager
def _one_line(url: str) -> Iterator[None]:
    """Whatever listing raises becomes an InboxError that says what to do."""
    try:
        yield
    except InboxError:
        raise
    except PermissionError as error:
        if "expired" in str(error).lower():
            raise InboxError(f"the inbox {url!r} refuses the key, which has expired; renew it") from error
        raise InboxError(
            f"the inbox {url!r} cannot be read: {_reason(error)}; check the key (inbox.secrets) and its rights: "
            "it must be allowed to list and to read"
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InboxError(
            f"the inbox {url!r} is not there (or not a folder): {_reason(error)}; correct inbox.url, or make it"
        ) from error
    except Exception as error:  # the server's library has errors of its own
        raise InboxError(
            f"the inbox {url!r} cannot be listed: {_reason(error)}; check inbox.url, inbox.storage and the server"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of an error, without the name of a file that the caller names already."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
