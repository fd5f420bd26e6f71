"""Lease: at most one holder at a time, whose claim ends when it stops renewing it.

A lock of the system dies with its process, but knows only this machine. A lease is a record that its holder renews,
and that anybody may take once it was not renewed for `ttl_s`. Here it is a file. A Kubernetes Lease can do the same.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from selftrain.errors import LeaseHeldError, LeaseLostError
from selftrain.files.locks import is_abandoned, let_go, locked, take_new
from selftrain.files.writing import replace_text

TTL_S = 30.0
RENEWALS = 3  # in `ttl_s`: two may fail before others take the lease
LOOK_S = 0.2
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Claim(BaseModel):
    """What a lease says of its holder, as of its last renewal.

    `at` is the clock of the boot `boot` in seconds, which no change of the time of day moves. `since` is that time of
    day: people read it, and nothing is decided from it.
    """

    model_config = ConfigDict(frozen=True)

    holder: str
    token: str
    since: str
    ttl_s: float
    boot: str
    at: float


class Lease(Protocol):
    """A claim that one holder at a time has; see `held` for how it is used."""

    @property
    def ttl_s(self) -> float:
        """Seconds without a renewal after which others may take it."""

    def take(self) -> Claim | None:
        """Take it, and return None; where another holds it, return its claim and change nothing."""

    def renew(self) -> None:
        """Start `ttl_s` again. Raises LeaseLostError where another has taken it, or it cannot be written."""

    def release(self) -> None:
        """Give it back; where another has taken it, change nothing."""


def is_over(claim: Claim, *, boot: str, now: float, abandoned: bool, unchanged_s: float) -> bool:
    """Whether `claim` has ended, as its reader sees it at `now` on the clock of its own `boot`.

    It has if its reader has seen it `unchanged_s` long without a renewal. On the same boot there is more to know:
    whether its process has `abandoned` it, and how old the last renewal is. No time of day takes part.
    """
    if unchanged_s > claim.ttl_s:
        return True
    return bool(boot) and claim.boot == boot and (abandoned or now - claim.at > claim.ttl_s)


@contextmanager
def held(lease: Lease, *, wait_s: float = 0.0) -> Iterator[Lease]:
    """Hold `lease` while the block runs; a thread renews it. Before an effect that must be ours alone, renew it again.

    Waits up to `wait_s` seconds for its holder, then raises LeaseHeldError.
    """
    deadline = time.monotonic() + wait_s
    while (other := lease.take()) is not None:
        if time.monotonic() >= deadline:
            raise LeaseHeldError(
                f"{other.holder} is at it since {other.since}; try again when it has ended. If it has died, its claim "
                f"ends by itself within {other.ttl_s:g} s"
            )
        time.sleep(LOOK_S)
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(lease, ended), name="lease", daemon=True)
    heart.start()
    try:
        yield lease
    finally:
        ended.set()
        heart.join()
        lease.release()


def _beat(lease: Lease, ended: threading.Event) -> None:
    """Renew `lease` until it `ended`; what fails here fails at the holder's own `renew` too."""
    while not ended.wait(lease.ttl_s / RENEWALS):
        with contextlib.suppress(LeaseLostError):
            lease.renew()


class FileLease:
    """A lease in the file `path`, whose folder is made; `holder` says who takes it, for people.

    On one machine a dead holder's claim ends at once, because the system frees the lock that its process held.
    Elsewhere, in a folder that machines share, it ends when a reader saw no renewal for `ttl_s`.
    """

    def __init__(
        self,
        path: Path,
        holder: str,
        *,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
        boot: str | None = None,
    ) -> None:
        self.path = path
        self.holder = holder
        self._ttl_s = ttl_s
        self._clock = clock
        self._boot = boot_id() if boot is None else boot
        self._mine: Claim | None = None
        self._lock: int | None = None
        self._seen: tuple[Claim, float] | None = None  # another's claim, and since when it is as it is

    @property
    def ttl_s(self) -> float:
        """Seconds without a renewal after which others may take it."""
        return self._ttl_s

    def take(self) -> Claim | None:
        """See `Lease.take`. Raises LeaseLostError where the file cannot be written."""
        with self._writable(), self._alone():
            there = self._read()
            if there is not None and not self._is_over(there):
                return there
            if there is not None:
                self._sign(there).unlink(missing_ok=True)
            mine = Claim(
                holder=self.holder,
                token=secrets.token_hex(8),
                since=datetime.now(UTC).isoformat(timespec="seconds"),
                ttl_s=self._ttl_s,
                boot=self._boot,
                at=self._clock(),
            )
            self._lock = take_new(self._sign(mine))
            self._write(mine)
        return None

    def renew(self) -> None:
        """See `Lease.renew`."""
        with self._writable(), self._alone():
            self._write(self._still_mine().model_copy(update={"at": self._clock()}))

    def release(self) -> None:
        """See `Lease.release`."""
        with contextlib.suppress(LeaseLostError, OSError), self._alone():
            self._still_mine()
            self.path.unlink(missing_ok=True)
        if self._mine is not None and self._lock is not None:
            let_go(self._sign(self._mine), self._lock)
        self._mine = self._lock = None

    def _still_mine(self) -> Claim:
        there = self._read()
        if self._mine is None or there is None or there.token != self._mine.token:
            now = f"{there.holder} has it since {there.since}" if there is not None else "nobody has it now"
            raise LeaseLostError(f"{self.holder} no longer holds {self.path}: {now}; nothing was changed, repeat it")
        return self._mine

    def _is_over(self, there: Claim) -> bool:
        now = self._clock()
        if self._seen is None or self._seen[0] != there:
            self._seen = (there, now)
        return is_over(
            there,
            boot=self._boot,
            now=now,
            abandoned=is_abandoned(self._sign(there)),
            unchanged_s=now - self._seen[1],
        )

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LeaseLostError(
                f"{self.path} cannot be written ({error}); make room or give rights, and repeat"
            ) from error

    def _alone(self) -> AbstractContextManager[int]:
        """No other process reads and writes the file meanwhile."""
        return locked(self.path.with_name(f"{self.path.name}.guard"))

    def _sign(self, claim: Claim) -> Path:
        """The file whose lock shows that the process of `claim` lives."""
        return self.path.with_name(f"{self.path.name}.{claim.token}")

    def _read(self) -> Claim | None:
        """The claim in the file. One that a power cut has damaged counts as none: its holder is gone too."""
        try:
            return Claim.model_validate_json(self.path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _write(self, claim: Claim) -> None:
        self._mine = claim
        replace_text(self.path, claim.model_dump_json())


def boot_id() -> str:
    """What names this boot of this machine; empty where the system does not tell."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def called(purpose: str) -> str:
    """The name of this process as a holder: what it does, its id and machine."""
    return f"{purpose} (process {os.getpid()} on {os.uname().nodename})"
