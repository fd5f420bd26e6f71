"""Progress: how long-running work reports how far it has come."""

from typing import Protocol


class Progress(Protocol):
    """Called while work goes on; the core never prints."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished; `note` is a short figure such as 'loss 0.41'."""


def silent(done: int, total: int, note: str = "") -> None:
    """A Progress that says nothing."""


def noting(progress: Progress, what: str) -> Progress:
    """`progress` with `what` in front of each note."""

    def show(done: int, total: int, note: str = "") -> None:
        progress(done, total, f"{what}: {note}" if note else what)

    return show
