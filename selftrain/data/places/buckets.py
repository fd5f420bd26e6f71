"""Buckets: the images below a URL such as s3://bucket/photos, listed by the server and read one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from selftrain.data.images.names import LEFT_BEHIND, named_like_an_image
from selftrain.data.places.place import Found
from selftrain.errors import ConfigError, InboxError, SourceError
from selftrain.files.remote import Remote, RemoteFile, open_remote
from selftrain.naming import name_rows

_ARCHIVES = (".zip", ".tar", ".parquet", ".tfrecord")


@dataclass(frozen=True)
class BucketImages:
    """The images below `url`; the class of a labelled one is the first folder below it."""

    url: str

    def find(self, *, labelled: bool) -> Found:
        found, loose = Found(), list[str]()
        for file, parts in self._files():
            if not named_like_an_image(parts[-1]) or any(part.lower() in LEFT_BEHIND for part in parts[:-1]):
                found.ignored += 1
                continue
            if labelled and len(parts) < 2:
                loose.append(file.path)
            label = parts[0] if labelled and len(parts) > 1 else None
            found.add(file.path, label=label, size=file.size, mtime_ns=file.mtime_ns)
        if loose:
            raise SourceError(
                f"{len(loose)} image(s) without a label directly below {self.url!r}: {name_rows(loose)}; move each "
                "below the name of its class, or give this place for images without labels"
            )
        if not found.paths:
            raise SourceError(f"{self.url!r} holds no images, and {found.ignored} other files; correct the address")
        return found

    def holds(self, path: str) -> bool:
        return path.startswith(f"{self._root}/")

    def read(self, path: str) -> bytes:
        return self._remote.read_path(path)

    @property
    def _root(self) -> str:
        return self.url.rstrip("/")

    @cached_property
    def _remote(self) -> Remote:
        try:
            return open_remote(self._root, {})
        except (ConfigError, ImportError) as error:
            raise SourceError(
                f"{self.url!r} cannot be opened: {error}; pip install 'selftrain[s3]' for s3://"
            ) from error

    def _files(self) -> list[tuple[RemoteFile, list[str]]]:
        """The files with the parts of their names below the root. Raises SourceError for a bucket of archives."""
        try:
            files = self._remote.list().files
        except InboxError as error:
            why = (str(error.__cause__).splitlines() or [""])[0] or type(error.__cause__).__name__
            raise SourceError(
                f"{self.url!r} cannot be listed: {why}; check the address and the key (for s3://, AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL), which must be allowed to list and to read"
            ) from error
        archives = [file.path for file in files if file.path.lower().endswith(_ARCHIVES)]
        if archives and not any(named_like_an_image(file.path.rpartition("/")[2]) for file in files):
            raise SourceError(
                f"{self.url!r} holds archives ({name_rows(archives)}), which are read on this machine alone; download "
                "them, and give the folder"
            )
        return [(file, file.path[len(self._root) + 1 :].split("/")) for file in files]
