"""Leaving: a process that ends at once, with an exit code that its caller reads."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn


def leave(code: int, message: str) -> NoReturn:
    """End this process now with `code`, after one line on stderr; nothing else of it runs."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - the last line of a pod's log
    sys.stdout.flush()
    logging.shutdown()
    os._exit(code)
