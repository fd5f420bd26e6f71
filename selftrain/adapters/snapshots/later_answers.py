"""Later answers: labels that people give for hours, kept with the shared state of a data set without its turn."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from selftrain.adapters.cluster.contenders import turn_at
from selftrain.adapters.snapshots.carrying import Carrier, carrier_of
from selftrain.adapters.snapshots.repository import snapshot
from selftrain.data.label_log import LABEL_LOG_SCHEMA, append_answers, log_locked, log_stamp, read_log
from selftrain.errors import LeaseHeldError
from selftrain.reviewing.lines import holding, key_of

if TYPE_CHECKING:
    from selftrain.config import Place
    from selftrain.files.lease import Lease

Lines: TypeAlias = list[dict[str, Any]]

_log = logging.getLogger(__name__)


@contextmanager
def answers_carried(place: Place, purpose: str) -> Iterator[None]:
    """Begin the block with the newest state of the data set, and keep the lines that it adds to the label log.

    The turn at the data set is taken before the block and after it, so that others work meanwhile. Where they kept a
    state, the lines are added to theirs. At the end it waits until others are done; whoever stops it then leaves the
    lines in the workspace alone. Without the variable SELFTRAIN_STATE this does nothing. Raises LeaseHeldError where
    another does not end within a minute before the block.
    """
    carrier = carrier_of(place)
    if carrier is None:
        yield
        return
    lock = carrier.workspace.locks / f"{place.dataset}.retraining"
    with turn_at(lock, purpose):
        killed = _is_newer(carrier)
        _bring(carrier, None)
    before = None if killed else _lines(carrier)
    try:
        yield
    finally:
        if before is None or len(_lines(carrier)) != len(before) or _is_newer(carrier):
            _keep(carrier, before, lock, purpose)


def _is_newer(carrier: Carrier) -> bool:
    """Whether the log has lines that were not kept, as after a review that was killed."""
    return any(changed_ns > carrier.kept_ns() for changed_ns, _ in log_stamp(carrier.workspace.dataset(carrier.name)))


def _keep(carrier: Carrier, before: Lines | None, lock: Path, purpose: str) -> None:
    while True:
        try:
            with turn_at(lock, purpose) as turn:
                _keep_now(carrier, before, turn)
            return
        except LeaseHeldError as error:
            _log.warning("%s; the answers wait for their turn (Ctrl+C leaves them in this workspace)", error.message)


def _keep_now(carrier: Carrier, before: Lines | None, turn: Lease | None) -> None:
    """Add the lines since `before` to the newest state, and keep that."""
    _bring(carrier, before)
    carrier.keep(turn)


def _bring(carrier: Carrier, before: Lines | None) -> None:
    """Bring the newest state, and add the lines of this machine since `before` to it.

    None: since what both machines have in common, as after a review that was killed.
    """
    folder = carrier.workspace.dataset(carrier.name)
    if before is None and not _is_newer(carrier):
        carrier.bring()
        return
    with log_locked(folder):
        here = _lines(carrier)
        snapshot(carrier.workspace, carrier.name)  # so that what is here is in a version, and not in the way
        if carrier.bring():
            there = _lines(carrier)
            base = _common(here, there) if before is None else before
            mine, theirs = _since(base, here), _since(base, there)
            lines = [*mine, *_against(mine, theirs, base)]
            append_answers(folder, pa.Table.from_pylist(lines, schema=LABEL_LOG_SCHEMA))


def _common(here: Lines, there: Lines) -> Lines:
    """The lines that both logs begin with."""
    return [mine for mine, theirs in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False))]


def _against(mine: Lines, theirs: Lines, before: Lines) -> Lines:
    """What others said of the images of `mine` meanwhile and did not take back, to be said again.

    It agrees, or is a conflict. Of an image about which `mine` says nothing any more, it holds as they said it.
    """
    older = {(line["image_id"], *key_of(line)) for line in before}
    said: Lines = []
    theirs_of = _by_image(theirs)
    for image_id, lines in _by_image(mine).items():
        own, others = (
            [line for line in holding(each) if (image_id, *key_of(line)) not in older]
            for each in (lines, theirs_of.get(image_id, []))
        )
        said += [{**line, "settles": line["label"] is None or (not own and line["settles"])} for line in others]
    return said


def _by_image(lines: Lines) -> dict[str, Lines]:
    found: dict[str, Lines] = {}
    for line in lines:
        found.setdefault(line["image_id"], []).append(line)
    return found


def _since(before: Lines, lines: Lines) -> Lines:
    """The `lines` that are newer than those of `before`."""
    if lines[: len(before)] == before:
        return lines[len(before) :]
    return [line for line in lines if line not in before]


def _lines(carrier: Carrier) -> Lines:
    return list(read_log(carrier.workspace.dataset(carrier.name)).to_pylist())
