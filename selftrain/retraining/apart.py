"""Apart: the inbox and the source may not lie in each other, whether they are folders or addresses of a bucket."""

from __future__ import annotations

import os
from pathlib import Path

from selftrain import config
from selftrain.errors import ConfigError
from selftrain.files.remote import Bucket, Folder, Remote


def check_apart(source: config.Source, inbox: Remote) -> None:
    """Raise ConfigError where the inbox and a folder of `source` lie in each other: an image would come twice."""
    if not isinstance(source, config.FolderSource):
        return
    if isinstance(inbox, Bucket):
        _check_urls_apart(source, inbox.url)
        return
    if not isinstance(inbox, Folder):
        return
    own = Path(os.path.realpath(inbox.root))
    for role in ("labeled", "unlabeled", "validation", "test"):
        folder = getattr(source, role)
        other = Path(os.path.realpath(os.path.expanduser(folder))) if folder else None
        if other and (own.is_relative_to(other) or other.is_relative_to(own)):
            raise ConfigError(
                f"inbox.url is {inbox.root!r} and source.{role} {folder!r}, which lie in each other; "
                "give the inbox a folder of its own"
            )


def _check_urls_apart(source: config.FolderSource, url: str) -> None:
    own = url.rstrip("/") + "/"
    for role in ("labeled", "unlabeled", "validation", "test"):
        other = (getattr(source, role) or "").rstrip("/") + "/"
        if "://" in other and (own.startswith(other) or other.startswith(own)):
            raise ConfigError(
                f"inbox.url is {url!r} and source.{role} {other!r}, which lie in each other; "
                "give the inbox a place of its own"
            )
