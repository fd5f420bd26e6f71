"""The live view of `selftrain run`: a line a step as ZenML ends it, bars for the long ones in between."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from selftrain.adapters.process.console import logs_to_stderr

CACHED = re.compile(r"Using cached version of step `?(?P<step>\w+)`?")
FINISHED = re.compile(r"Step `?(?P<step>\w+)`? has finished in `?(?P<time>[^`\s]+)`?")
FAILED = re.compile(r"Failed to run step `?(?P<step>\w+)`?")


@contextmanager
def live_view(console: Console) -> Iterator[None]:
    """Show on `console` what the pipeline does inside the block, in place of ZenML's own log lines."""
    logs_to_stderr()
    logger = logging.getLogger("zenml")
    view = _View(console)
    handlers, logger.handlers = logger.handlers, [view]
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate


class _View(logging.Handler):
    """Turns ZenML's log records of steps into lines of ours."""

    def __init__(self, console: Console) -> None:
        super().__init__(level=logging.INFO)
        self.console = console
        self.start = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Show `record` if it tells of a step's end, or of an error."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())
        if found := CACHED.search(text):
            self._line(found["step"], "cached", "dim")
        elif found := FINISHED.search(text):
            self._line(found["step"], f"done in {found['time'].rstrip('.')}", "green")
        elif found := FAILED.search(text):
            self._line(found["step"], "failed", "red")
        elif record.levelno >= logging.ERROR:
            self.console.print(text, style="red", highlight=False, markup=False)

    def _line(self, step: str, what: str, style: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        clock = f"{minutes:02d}:{seconds:02d}"
        self.console.print(f"{clock}  {step:<18} {what}", style=style, highlight=False, markup=False)
