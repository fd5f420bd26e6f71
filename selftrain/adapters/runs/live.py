"""The live view of `selftrain run`: a line for each step that ends, a bar for each long one."""

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
    """Show on `console` what the pipeline does in the block, instead of ZenML's log lines."""
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
    """Turns ZenML's log records of steps into our own lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(level=logging.INFO)
        self.console = console
        self.start = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Show `record` if it reports a step's end or an error."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())
        if cached := CACHED.search(text):
            self._line(cached["step"], "cached", "dim")
        elif finished := FINISHED.search(text):
            self._line(finished["step"], f"done in {finished['time'].rstrip('.')}", "green")
        elif failed := FAILED.search(text):
            self._line(failed["step"], "failed", "red")
        elif record.levelno >= logging.ERROR:
            self.console.print(text, style="red", highlight=False, markup=False)

    def _line(self, step: str, what: str, style: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        clock = f"{minutes:02d}:{seconds:02d}"
        self.console.print(f"{clock}  {step:<18} {what}", style=style, highlight=False, markup=False)
