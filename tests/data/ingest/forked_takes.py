"""Takes a folder in, in forks of one process: `forked_takes.py INBOX (STORE STEP)...`, one fork for each pair.

A fork dies, as `kill -9` ends a process, before its STEP-th lasting change, counted from 0; with STEP -1 it lives. All
forks run at the same time. Writes how each ended: 0, or minus the signal.
"""

import os
import signal
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from selftrain import config
from selftrain.data.ingest import chunks
from selftrain.data.ingest.intake import Batch, take_in
from selftrain.data.store.image_store import ImageStore
from selftrain.files.remote import open_remote


def take(inbox: str, store: str, step: int) -> None:
    """Take in all of `inbox`, in several shards, and die before the change number `step`."""
    left, renamed = step, os.replace

    def deadly(source: str, target: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        renamed(source, target)

    os.replace = deadly  # type: ignore[assignment]  # each lasting change ends in one
    chunks._SMALLEST_SHARD_BYTES = 30_000
    remote = open_remote(inbox, {})
    batch, now = Batch(remote.list().files), datetime(2026, 12, 1, tzinfo=UTC)
    take_in(ImageStore(Path(store)), remote, batch, run="", now=now, settings=config.Ingest())


def forked(inbox: str, store: str, step: int) -> int:
    """The process that takes in."""
    pid = os.fork()
    if pid:
        return pid
    try:
        take(inbox, store, step)
        os._exit(0)
    finally:
        os._exit(1)


if __name__ == "__main__":
    for late in ("pandas", "array_record.python.array_record_module"):  # once, and not in each fork
        import_module(late)
    folder, *pairs = sys.argv[1:]
    started = [forked(folder, store, int(step)) for store, step in zip(pairs[::2], pairs[1::2], strict=True)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]
    sys.stdout.write(" ".join(map(str, ends)))
