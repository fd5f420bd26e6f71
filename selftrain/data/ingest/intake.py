"""Taking in: files of the inbox are read once, stripped of metadata, stored, and written down in the intake."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.images.metadata import without_metadata
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.ingest.chunks import Limits
from selftrain.data.ingest.reading import Reading, limits_of, read_kept_again, usable_index
from selftrain.data.intake_table import (
    COPY,
    NOT_SAMPLED,
    Answer,
    IntakeRow,
    append_intake,
    held_images,
    intake_path,
    later_name,
    read_intake,
)
from selftrain.data.sources.listing import Listing
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import ImageError, ManifestError
from selftrain.files.remote import FileChangedError, Remote, RemoteFile
from selftrain.progress import Progress, silent

_AHEAD = 16  # files that are fetched while one is decoded
_FAILURES = 3  # in a row, after which the inbox itself may be gone


@dataclass(frozen=True)
class Batch:
    """Files to take in, and those that the sampling rule leaves out; `answers` by path."""

    files: Sequence[RemoteFile]
    left_out: Sequence[RemoteFile] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class TakenIn:
    """What became of a batch: rows of the intake, and the files that could not be read and wait (path -> why)."""

    rows: tuple[IntakeRow, ...]
    waiting: Mapping[str, str]

    @property
    def new_images(self) -> int:
        """Images whose bytes the data set did not hold before."""
        return sum(row.image_id is not None and row.reason is None for row in self.rows)

    @property
    def copies(self) -> int:
        """Images whose bytes it held, or that came twice."""
        return sum(row.reason == COPY for row in self.rows)

    @property
    def quarantined(self) -> dict[str, int]:
        """Files that were read and cannot be used, by reason."""
        reasons = Counter(row.reason for row in self.rows if row.reason not in (None, COPY, NOT_SAMPLED))
        return {str(reason): count for reason, count in reasons.items()}


def take_in(
    store: ImageStore,
    remote: Remote,
    batch: Batch,
    *,
    run: str,
    now: datetime,
    settings: config.Ingest,
    keep_metadata: bool = False,
    shard_mb: int = 256,
    progress: Progress = silent,
) -> TakenIn:
    """Read each file of `batch` once into shards of `store`, then write a row for each into the intake, all at once.

    `run` is who collects, `now` (UTC) when. Files that the intake holds already are left alone. A file that cannot be
    read waits for another time; one that was read but cannot be used is written down with its reason. After a kill
    the next call goes on after the last finished shard: nothing is read, stored or written down twice. Raises
    InboxError where the inbox itself is gone.
    """
    with store.locked() as lock:
        store.id()  # a wiped store is noticed before `seal` says that all is as it was
        path = intake_path(store.root)
        before = read_intake(path)
        files, left_out = _new(before, batch.files), _new(before, batch.left_out)
        named = _named(before, files)
        limits = limits_of(settings)
        read_kept_again(store, held_images(before)["name"], limits, lock=lock)
        held = set(before["image_id"].drop_null().to_pylist())
        with _arrivals(remote, named, limits, held=held, keep_metadata=keep_metadata) as arrivals:
            reading = Reading(arrivals, store, limits, workers=1, lock=lock)
            index, _ = reading.update(_listing(named), shard_bytes=shard_mb * 1_000_000, progress=progress)
            rows, waiting = _rows(named, index, arrivals, batch.answers, run=run, now=now)
        rows += [_row(file, None, NOT_SAMPLED, batch.answers, run=run, now=now) for file in left_out]
        append_intake(path, rows)
        store.seal()
    return TakenIn(tuple(rows), waiting)


def mend(
    store: ImageStore, opened: Callable[[], Remote], *, settings: config.Ingest, keep_metadata: bool = False
) -> int:
    """Read images of the intake again that `store` has lost, from the inbox that `opened` opens; returns how many.

    Opens no inbox where nothing is lost. Raises ManifestError where a file is no longer what it was, and SourceError
    where `settings` have other bits than the images were read with, under which one of them would be lost.
    """
    limits = limits_of(settings)
    with store.locked() as lock:
        read_kept_again(store, held_images(read_intake(intake_path(store.root)))["name"], limits, lock=lock)
        lost = _lost(store, limits)
        if not lost:
            return 0
        named = {name: file for name, (file, _) in lost.items()}
        with _arrivals(opened(), named, limits, held=frozenset(), keep_metadata=keep_metadata) as arrivals:
            reading = Reading(arrivals, store, limits, workers=1, lock=lock)
            index, _ = reading.update(_listing(named), shard_bytes=256_000_000, progress=silent)
        found = dict(zip(index["path"].to_pylist(), index["image_id"].to_pylist(), strict=True))
    gone = sorted(file.path for name, (file, image_id) in lost.items() if found.get(name) != image_id)
    if gone:
        raise ManifestError(
            f"{len(gone)} images taken in from the inbox are neither in {str(store.root)!r} nor, as they were, in the "
            f"inbox, such as {gone[0]!r}; restore the data set with `selftrain restore`"
        )
    return len(lost)


def _lost(store: ImageStore, limits: Limits) -> dict[str, tuple[RemoteFile, str]]:
    """Images of the intake without a whole shard: stored name -> its file and image id."""
    images = held_images(read_intake(intake_path(store.root)))
    held = set(usable_index(store, limits)["path"].to_pylist()) if images.num_rows else set()
    return {
        row["name"]: (RemoteFile(row["path"], row["size"], row["mtime_ns"], row["version"], 0), row["image_id"])
        for row in images.to_pylist()
        if row["name"] not in held
    }


def _new(intake: pa.Table, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files without a row in the intake."""
    columns = (intake[name].to_pylist() for name in ("path", "size", "mtime_ns", "version"))
    known = set(zip(*columns, strict=True))
    return [file for file in files if file.identity not in known]


def _named(intake: pa.Table, files: Sequence[RemoteFile]) -> dict[str, RemoteFile]:
    """The files by the names that the store's index gives them."""
    paths = set(intake["path"].to_pylist())
    return {later_name(*file.identity) if file.path in paths else file.path: file for file in files}


def _listing(named: Mapping[str, RemoteFile]) -> Listing:
    count = len(named)
    columns = {
        "path": pa.array(list(named), pa.string()),
        "label": pa.nulls(count, pa.string()),
        "split": pa.nulls(count, pa.string()),
        "size": pa.array([file.size for file in named.values()], pa.int64()),
        "mtime_ns": pa.array([file.mtime_ns for file in named.values()], pa.int64()),
    }
    return Listing.build(pa.table(columns))


def _rows(
    named: Mapping[str, RemoteFile],
    index: pa.Table,
    arrivals: _Arrivals,
    answers: Mapping[str, Answer],
    *,
    run: str,
    now: datetime,
) -> tuple[list[IntakeRow], dict[str, str]]:
    """Rows of the intake for the files that were read, and path -> why for those that wait."""
    position = pc.index_in(pa.array(list(named), pa.string()), value_set=index["path"].combine_chunks())
    read = index.select(["image_id", "reason", "detail"]).take(position).to_pylist()
    others = pc.invert(pc.is_in(index["path"], pa.array(list(named), pa.string())))
    held = set(index["image_id"].filter(others).drop_null().to_pylist())
    rows: list[IntakeRow] = []
    waiting: dict[str, str] = {}
    for (name, file), found in zip(named.items(), read, strict=True):
        image_id, reason = found["image_id"], found["reason"]
        if reason == QuarantineReason.UNREADABLE and name not in arrivals.arrived:
            waiting[file.path] = found["detail"]
            continue
        if reason == COPY:
            image_id = found["detail"]
        elif image_id is not None and image_id in held:
            reason = COPY
        held.add(image_id)
        rows.append(_row(file, image_id, reason, answers, run=run, now=now))
    return rows, waiting


def _row(
    file: RemoteFile,
    image_id: str | None,
    reason: str | None,
    answers: Mapping[str, Answer],
    *,
    run: str,
    now: datetime,
) -> IntakeRow:
    row = IntakeRow(*file.identity, image_id=image_id, reason=reason, taken_at=now, run=run)
    answer = answers.get(file.path)
    if answer is None:
        return row
    said = {"answer": answer.label, "confidence": answer.confidence, "answered_by": answer.model_version}
    return IntakeRow(**{**row.__dict__, **said})


class _Arrivals:
    """The ImageSource of files that arrive: each is fetched ahead, and its metadata taken out."""

    on_disk = False

    def __init__(
        self,
        remote: Remote,
        named: Mapping[str, RemoteFile],
        limits: Limits,
        threads: ThreadPoolExecutor,
        *,
        held: Set[str],
        keep_metadata: bool,
    ) -> None:
        self.arrived: set[str] = set()
        self._remote, self._named, self._limits, self._threads = remote, named, limits, threads
        self._held, self._strip = held, not keep_metadata
        self._names = sorted(named)
        self._place = {name: place for place, name in enumerate(self._names)}
        self._coming: dict[str, Future[bytes]] = {}
        self._failures = 0

    def scan(self) -> Listing:
        return _listing(self._named)

    def class_names(self, listing: Listing) -> tuple[str, ...]:
        return ()

    def read(self, path: str) -> bytes:
        """The bytes to store. Raises OSError, ImageError for one that is too large, InboxError."""
        size = self._named[path].size
        if size > self._limits.max_bytes:
            self.arrived.add(path)
            allowed = f"{self._limits.max_bytes / 1e6:.0f} MB are allowed"
            raise ImageError(QuarantineReason.TOO_LARGE, f"{size / 1e6:.0f} MB encoded, {allowed}")
        data = self._fetched(path)
        self.arrived.add(path)
        kept = without_metadata(data) if self._strip else data
        image_id = hashlib.sha256(kept).hexdigest()
        if image_id in self._held:  # not stored a second time; `_rows` reads the id
            raise ImageError(QuarantineReason.DUPLICATE, image_id)
        return kept

    def _fetched(self, name: str) -> bytes:
        start = self._place[name]
        for each in self._names[start : start + _AHEAD]:
            if each not in self._coming and self._named[each].size <= self._limits.max_bytes:
                self._coming[each] = self._threads.submit(self._remote.read, self._named[each])
        try:
            data = self._coming[name].result()
        except FileChangedError:
            raise
        except OSError:
            self._failures += 1
            if self._failures % _FAILURES == 0:
                self._remote.check()
            raise
        finally:
            self._coming[name] = Future()  # asked for once; its bytes are not kept
        self._failures = 0
        return data


@contextmanager
def _arrivals(
    remote: Remote, named: Mapping[str, RemoteFile], limits: Limits, *, held: Set[str], keep_metadata: bool
) -> Iterator[_Arrivals]:
    threads = ThreadPoolExecutor(_AHEAD // 2)
    try:
        yield _Arrivals(remote, named, limits, threads, held=held, keep_metadata=keep_metadata)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
