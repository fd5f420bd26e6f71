"""Carrying over: a data set and what lies beside it, kept in a bucket for a machine that begins empty each night.

DVC keeps the files of the data set. Beside its folder lie the journal of retrainings, what the last look at the inbox
saw, and the drift of the champion. A mirror keeps these together with the version that they belong to, as one
generation: the next machine gets all of it as it was at one time, or as it was before.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.cluster.contenders import STATE_VARIABLE, turn_at
from selftrain.adapters.snapshots.repository import restore, snapshot
from selftrain.errors import MirrorError, SelftrainError
from selftrain.files.lease import Lease
from selftrain.files.mirror import Mirror
from selftrain.files.workspace import Workspace
from selftrain.files.writing import replace

if TYPE_CHECKING:
    from selftrain.config import Place

VERSION = "version.json"
BESIDE = (".retraining.jsonl", ".inbox.json", ".drift")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Carrier:
    """Keeps the data set `name` of a workspace, and what lies beside it, at `url`: a folder, or a URL of fsspec."""

    workspace: Workspace
    name: str
    url: str

    def bring(self) -> bool:
        """Make the data set here what the newest kept state is; False where it is that already, or none is kept.

        Raises SnapshotError where files that no version holds are in the way, and MirrorError where the store does not
        answer. What was cut short is done again at the next call: the mark that it is done is written last.
        """
        if not self._mirror.fetch(self._folder, whole=True) or self._read(self._mark) == self._read(
            self._folder / VERSION
        ):
            return False
        version = json.loads(self._read(self._folder / VERSION) or "{}")["dataset_version"]
        if version is not None:
            restore(self.workspace, self.name, version)
        for path in self._kept():
            content = path.read_bytes()
            replace(self.workspace.datasets / path.relative_to(self._folder), _writer(content), durable=True)
        replace(self._mark, _writer((self._folder / VERSION).read_bytes()), durable=True)
        return True

    def keep(self, turn: Lease | None = None) -> None:
        """Push the data set's version, then what lies beside it with the name of that version, as one generation.

        Raises MirrorError where another machine has kept a state since this one began: what it left is not replaced.
        `turn` is the lease that this machine holds; where it was lost, LeaseLostError is raised and nothing kept.
        """
        theirs = self._mirror.newest(self._folder, VERSION)
        self._refuse_others({VERSION: theirs} if theirs is not None else None)
        shutil.rmtree(self._folder, ignore_errors=True)
        for path in self._beside():
            content = path.read_bytes()
            replace(self._folder / path.relative_to(self.workspace.datasets), _writer(content))
        known = {"dataset_version": self._version(), "saved": secrets.token_hex(8)}
        replace(self._folder / VERSION, _writer(json.dumps(known).encode()))
        names = [path.relative_to(self._folder).as_posix() for path in self._kept()]
        if turn is not None:
            turn.renew()
        self._mirror.replace(self._folder, [*names, VERSION], self._refuse_others)
        replace(self._mark, _writer((self._folder / VERSION).read_bytes()), durable=True)

    def kept_ns(self) -> int:
        """When the state here was last kept or brought, in ns since 1970; 0: never."""
        return self._mark.stat().st_mtime_ns if self._mark.exists() else 0

    def _refuse_others(self, newest: Mapping[str, bytes] | None) -> None:
        """Raise MirrorError where the `newest` kept state is not the one that this workspace goes on from."""
        if newest is not None and newest[VERSION].decode() != self._read(self._mark):
            raise MirrorError(
                f"another run has kept the state of {self.name} at {self.url} meanwhile, and it is not replaced; what "
                "this run took in and decided is in its workspace alone. Run again: it begins with the newest state"
            )

    def _version(self) -> str | None:
        folder = self.workspace.dataset(self.name)
        has_files = folder.is_dir() and any(folder.iterdir())
        return snapshot(self.workspace, self.name).hash if has_files else None

    def _beside(self) -> list[Path]:
        """The files beside the data set that a night leaves to the next."""
        found = [self.workspace.datasets / f"{self.name}{suffix}" for suffix in BESIDE]
        return _files(found)

    def _kept(self) -> list[Path]:
        return [path for path in _files([self._folder]) if path.name != VERSION]

    @property
    def _folder(self) -> Path:
        """The state as it was last fetched or sent."""
        return self.workspace.state / self.name

    @property
    def _mark(self) -> Path:
        """Which state this workspace goes on from."""
        return self.workspace.state / f"{self.name}.json"

    @property
    def _mirror(self) -> Mirror:
        return Mirror(self.url, self._folder.parent, STATE_VARIABLE)

    def _read(self, path: Path) -> str | None:
        return path.read_text(encoding="utf-8") if path.is_file() else None


def carrier_of(place: Place) -> Carrier | None:
    """The carrier of a data set; None without the variable SELFTRAIN_STATE, as on a machine that keeps its disk."""
    url = os.environ.get(STATE_VARIABLE)
    return Carrier(Workspace(Path(place.workspace)).ensure(), place.dataset, url) if url else None


@contextmanager
def carried_over(place: Place, turn: Lease | None = None) -> Iterator[None]:
    """Begin the block with the newest kept state of the data set, and keep what it left, even if it fails.

    Without the variable SELFTRAIN_STATE this does nothing. What cannot be kept fails a block that went well: the next
    night would repeat it. `turn` is the lease on the data set, which the caller holds.
    """
    carrier = carrier_of(place)
    if carrier is None:
        yield
        return
    carrier.bring()
    try:
        yield
    except BaseException:
        try:
            carrier.keep(turn)
        except SelftrainError as error:
            _log.warning("%s; the next machine begins where this one began", error.message)
        raise
    carrier.keep(turn)


@contextmanager
def shared_state(place: Place, purpose: str, *, changes: bool = True) -> Iterator[None]:
    """`carried_over`, while no other machine is at the data set; `purpose` says to others what this one does.

    A block without `changes` only begins with the newest state. Raises LeaseHeldError where another does not end within
    a minute, and StackError where nothing says how to take turns.
    """
    carrier = carrier_of(place)
    if carrier is None:
        yield
        return
    with turn_at(carrier.workspace.locks / f"{place.dataset}.retraining", purpose) as turn:
        if changes:
            with carried_over(place, turn):
                yield
        else:
            carrier.bring()
            yield


def keep_state(place: Place) -> None:
    """Keep the state of the data set as it is now, so that a run that is killed later is seen to have started."""
    carrier = carrier_of(place)
    if carrier is not None:
        carrier.keep()


def _files(paths: list[Path]) -> list[Path]:
    found = [each for path in paths for each in (path.rglob("*") if path.is_dir() else [path])]
    return sorted(path for path in found if path.is_file() and not path.name.endswith((".part", ".lock")))


def _writer(content: bytes) -> Callable[[Path], object]:
    return lambda part: part.write_bytes(content)
