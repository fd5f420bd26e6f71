"""The console: progress as a bar on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from selftrain.progress import Progress

LINE_EVERY_S = 10.0
STDERR = 2  # the file descriptor: ZenML copies what is written to sys.stderr into a step's log


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A Progress for one piece of work: a bar on a terminal; elsewhere a line every ten seconds at most."""
    if sys.stderr.isatty():
        with _bar(what) as show:
            yield show
    else:
        yield _lines(what)


@contextmanager
def shown(given: Progress | None, what: str) -> Iterator[Progress]:
    """The Progress that a caller has `given`; without one, that of the console."""
    if given is not None:
        yield given
        return
    with progress(what) as show:
        yield show


def plain(file: TextIO | None = None) -> Console:
    """A console on `file` (None: stdout) that ignores markup. Names of files and classes come from users."""
    return Console(file=file, markup=False, emoji=False, highlight=False)


def show(what: RenderableType) -> None:
    """Print `what` to the process's own stderr, which is not copied into any step's log."""
    plain(sys.__stderr__).print(what)


def logs_to_stderr() -> None:
    """Send the logs of libraries to stderr. ZenML, once imported, sends them to stdout."""
    from zenml.logger import ZenMLConsoleHandler

    for handler in logging.getLogger().handlers:
        if isinstance(handler, ZenMLConsoleHandler):
            handler.setStream(_past_capture())


@cache
def _past_capture() -> TextIO:
    return open(STDERR, "w", buffering=1, errors="backslashreplace", closefd=False)


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    named, noted = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    columns = (named, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), noted)
    with Bar(*columns, console=plain(sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=None, note="")

        def show(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield show


def _lines(what: str) -> Progress:
    last = time.monotonic()

    def show(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_EVERY_S:
            return
        last = now
        print(f"{what}: {done} of {total} {note}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201 - the console

    return show
