"""The store of a stack: a file written, read and removed, as every step will do."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from importlib import import_module

from selftrain.adapters.process.secrets import resolve
from selftrain.errors import StackError

PLACEHOLDER = re.compile(r"\{\{\s*([^{}\s]+\.[^{}\s]+)\s*\}\}")


def store_answers(path: str, configuration: Mapping[str, object]) -> float:
    """Write a small file below `path`, read it back, remove it; returns how long that took, in seconds.

    Raises StackError, which names what was refused, and never a key.
    """
    fsspec = import_module("fsspec")  # untyped
    began, name, text = time.monotonic(), f"{path}/selftrain-doctor-{secrets.token_hex(4)}", b"selftrain"
    options: dict[str, object] = {key: value_of(configuration.get(key)) for key in ("key", "secret", "token")}
    try:
        files = fsspec.filesystem(
            "s3",
            skip_instance_cache=True,
            client_kwargs=configuration.get("client_kwargs"),
            config_kwargs={"connect_timeout": 5, "read_timeout": 10, "retries": {"max_attempts": 1}},
            **{key: value for key, value in options.items() if value},
        )
    except ImportError as error:
        raise StackError("the store is on S3, which needs more packages: pip install 'selftrain[cluster]'") from error
    doing = "write"
    try:
        files.pipe_file(name, text)
        doing = "read"
        if files.cat_file(name) != text:
            raise StackError(f"{path} gives back other bytes than it was given")
        doing = "remove"
        files.rm_file(name)
    except StackError:
        raise
    except Exception as error:  # refused, no route, no bucket: each layer below has errors of its own
        reason = " ".join(str(error).split())[:200]
        raise StackError(
            f"{path}: we cannot {doing} ({type(error).__name__}: {reason}); check the bucket, its address, "
            "region and key"
        ) from error
    return time.monotonic() - began


def value_of(setting: object) -> str:
    """A setting, or what ZenML's secret holds where it is a {{placeholder}}; empty for none. Raises SecretError."""
    text = "" if setting is None else str(setting)
    found = PLACEHOLDER.fullmatch(text)
    return resolve(f"zenml:{found[1]}") if found is not None else text
