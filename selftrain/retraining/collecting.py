"""Collecting: one look at the inbox, and what is ready is taken into the data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from selftrain import config
from selftrain.data.ingest.intake import Batch, mend, take_in
from selftrain.data.intake_table import Answer, intake_path, read_intake
from selftrain.data.sources.source import ImageSource, open_source
from selftrain.data.sources.taken import TakenImages
from selftrain.data.store.dataset import dataset_at, open_dataset
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import ConfigError
from selftrain.files.full_disk import full_disk_told
from selftrain.files.remote import Remote, RemoteFile, open_remote
from selftrain.files.writing import replace_text
from selftrain.progress import Progress, silent
from selftrain.retraining.apart import check_apart
from selftrain.retraining.inbox import SIDECAR, Sightings, Sorting, sample, sort_files

Resolve = Callable[[str], str]
"""Gives the secret behind a reference such as env:NAME."""

_THREADS = 8
_NAMED = 5


class Collected(BaseModel):
    """What one look at the inbox found, and what was taken in.

    `new_images` are usable images that the data set did not hold before; `copies` are usable and held already.
    `waiting` counts by reason, `quarantined` too; `unread` names some of the files that could not be read, with why.
    """

    model_config = ConfigDict(frozen=True)

    when: datetime
    listed: int  # files with an image's name
    known: int  # of them, taken in before
    ignored: int
    taken: int  # files that were taken in now, usable or not
    new_images: int
    copies: int
    not_sampled: int
    quarantined: dict[str, int]
    waiting: dict[str, int]
    unread: dict[str, str]
    bad_sidecars: int
    intake_rows: int
    dry_run: bool = False


@dataclass(frozen=True)
class InboxLook:
    """The inbox as one look sorted it, and how it is read."""

    remote: Remote
    sorting: Sorting
    taken_today: int  # usable images that were taken in on this day (UTC)
    intake_rows: int


class _Sidecar(BaseModel):
    """What lies beside an image that was served."""

    label: str
    confidence: float
    model_version: str


class _Memory(BaseModel):
    """What the last look left for the next one."""

    url: str = ""
    when: float = 0.0
    waiting: list[tuple[str, int, int, str, float]] = []


def open_inbox(settings: config.Inbox, resolve: Resolve) -> Remote:
    """The folder or bucket of the inbox. Raises ConfigError or SecretError; nothing is listed yet."""
    options: dict[str, str | int | bool] = dict(settings.storage)
    for option, reference in settings.secrets.items():
        options[option] = resolve(reference)
    return open_remote(settings.url, options)


def open_source_with_inbox(
    source: config.Source,
    place: config.Place,
    settings: config.Ingest,
    inbox: config.Inbox | None,
    *,
    resolve: Resolve,
) -> ImageSource:
    """The images that an experiment trains on: those of `source`, and those that were taken in from `inbox`.

    Images that the store at `place` has lost are read from the inbox again; else the inbox is not opened. Raises
    ManifestError where they are lost for good.
    """
    opened = open_source(source)
    if inbox is None:
        return opened
    store = open_dataset(place).store
    mend(store, lambda: open_inbox(inbox, resolve), settings=settings, keep_metadata=inbox.keep_metadata)
    return TakenImages(opened, store.root)


def look_at_inbox(experiment: config.Experiment, *, now: datetime, resolve: Resolve) -> InboxLook:
    """List the inbox of `experiment` and sort its files; nothing is read or written.

    Raises ConfigError where there is no inbox, InboxError where it cannot be listed.
    """
    settings = inbox_of(experiment)
    remote = open_inbox(settings, resolve)
    check_apart(experiment.source, remote)
    store = dataset_at(experiment.place).store
    names = ("path", "size", "mtime_ns", "version", "taken_at", "image_id")
    intake = read_intake(intake_path(store.root), names)
    known = set(zip(*(intake[name].to_pylist() for name in names[:4]), strict=True))
    seen = _remembered(memory_path(store), settings.url)
    sorting = sort_files(remote.list(), known=known, seen=seen, now=now.timestamp(), settings=settings)
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = pc.and_(pc.greater_equal(intake["taken_at"], midnight), pc.is_valid(intake["image_id"]))
    return InboxLook(remote, sorting, pc.sum(today).as_py() or 0, intake.num_rows)


def collect(
    experiment: config.Experiment,
    *,
    run: str,
    now: datetime,
    resolve: Resolve,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Collected:
    """Look at the inbox of `experiment`, and take in what is ready; `run` is who collects ("" for nobody).

    `resolve` gives the values of secrets, `now` is an aware time. With `dry_run` nothing is taken in or remembered:
    `taken` counts what would be. Raises ConfigError, SecretError, InboxError and DiskFullError.
    """
    with full_disk_told(dataset_at(experiment.place).workspace.root):
        return _collect(experiment, run=run, now=now, resolve=resolve, dry_run=dry_run, progress=progress)


def _collect(
    experiment: config.Experiment, *, run: str, now: datetime, resolve: Resolve, dry_run: bool, progress: Progress
) -> Collected:
    settings = inbox_of(experiment)
    seen = look_at_inbox(experiment, now=now, resolve=resolve)
    batch, over_cap, bad_sidecars = choose(seen, settings)
    waiting = dict(seen.sorting.waiting) | ({"over_cap": over_cap} if over_cap else {})
    result = Collected(
        when=now,
        listed=seen.sorting.known + len(seen.sorting.sightings),
        known=seen.sorting.known,
        ignored=seen.sorting.ignored,
        taken=len(batch.files),
        new_images=0,
        copies=0,
        not_sampled=len(batch.left_out),
        quarantined={},
        waiting={str(reason): count for reason, count in waiting.items()},
        unread={},
        bad_sidecars=bad_sidecars,
        intake_rows=seen.intake_rows,
        dry_run=dry_run,
    )
    if dry_run:
        return result
    store = open_dataset(experiment.place).store
    _remember(memory_path(store), settings.url, now, seen.sorting.sightings)
    return _with_taken(result, experiment, store, seen.remote, batch, run=run, progress=progress)


def _with_taken(
    looked: Collected,
    experiment: config.Experiment,
    store: ImageStore,
    remote: Remote,
    batch: Batch,
    *,
    run: str,
    progress: Progress,
) -> Collected:
    """`looked`, after `batch` was taken in."""
    if not batch.files and not batch.left_out:
        return looked
    taken = take_in(
        store,
        remote,
        batch,
        run=run,
        now=looked.when,
        settings=experiment.ingest,
        keep_metadata=inbox_of(experiment).keep_metadata,
        shard_mb=experiment.machine.shard_mb,
        progress=progress,
    )
    unread = {"unreadable": len(taken.waiting)} if taken.waiting else {}
    return looked.model_copy(
        update={
            "taken": len(taken.rows) - looked.not_sampled,
            "new_images": taken.new_images,
            "copies": taken.copies,
            "quarantined": taken.quarantined,
            "waiting": looked.waiting | unread,
            "unread": dict(list(taken.waiting.items())[:_NAMED]),
            "intake_rows": looked.intake_rows + len(taken.rows),
        }
    )


def choose(seen: InboxLook, settings: config.Inbox) -> tuple[Batch, int, int]:
    """What is taken in of the ready files, how many wait for another day, and how many sidecars are broken.

    The oldest files come first. Answers are read only for files that are taken, unless the rule asks for them.
    """
    files: Sequence[RemoteFile] = seen.sorting.ready
    room = len(files) if settings.max_per_day is None else max(0, settings.max_per_day - seen.taken_today)
    if settings.sampling.rule == "all":
        answers, bad = _answers(seen, files[:room])
        return Batch(files[:room], (), answers), len(files[room:]), bad
    answers, bad = _answers(seen, files)
    confidence = {path: answer.confidence for path, answer in answers.items()}
    kept, left_out = sample(files, confidence, settings.sampling)
    return Batch(kept[:room], left_out, answers), len(kept[room:]), bad


def inbox_of(experiment: config.Experiment) -> config.Inbox:
    """The section `inbox`. Raises ConfigError where there is none."""
    if experiment.inbox is None:
        raise ConfigError(f"the experiment {experiment.name!r} has no section `inbox`; add one with a `url` to it")
    return experiment.inbox


def memory_path(store: ImageStore) -> Path:
    """Where a look leaves what the next one must know: beside the store, as it must not travel with a version."""
    return store.root.with_name(f"{store.root.name}.inbox.json")


def _answers(seen: InboxLook, files: Sequence[RemoteFile]) -> tuple[Mapping[str, Answer], int]:
    """The answers in the sidecars of `files`, by path, and the number of sidecars that hold none."""
    named = {file.path: f"{file.path}{SIDECAR}" for file in files if f"{file.path}{SIDECAR}" in seen.sorting.others}
    with ThreadPoolExecutor(_THREADS) as threads:
        read = dict(zip(named, threads.map(lambda path: _answer(seen, path), named.values()), strict=True))
    answers = {path: answer for path, answer in read.items() if answer is not None}
    return answers, len(read) - len(answers)


def _answer(seen: InboxLook, path: str) -> Answer | None:
    """The answer in one sidecar; None where it cannot be read or is not one."""
    try:
        said = _Sidecar.model_validate_json(seen.remote.read_path(path))
    except (OSError, ValidationError):
        return None
    return Answer(said.label, said.confidence, said.model_version)


def _remembered(path: Path, url: str) -> Sightings:
    """What the last look at `url` left; nothing where there was none, or it is damaged: files then wait once more."""
    try:
        memory = _Memory.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
    if memory.url != url:
        return {}
    return {(name, size, mtime_ns, version): since for name, size, mtime_ns, version, since in memory.waiting}


def _remember(path: Path, url: str, now: datetime, sightings: Sightings) -> None:
    rows = [[*identity, since] for identity, since in sightings.items()]
    replace_text(path, json.dumps({"url": url, "when": now.timestamp(), "waiting": rows}))
