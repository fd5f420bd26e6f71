"""The turn: one process at a time decides who is champion of a model, from the comparison to the moved alias."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from selftrain.adapters.cluster.contenders import BY_HAND_S, lease_for
from selftrain.adapters.tracking.store import Tracking
from selftrain.files.lease import Lease, held

BY_RUN_S = 3600.0
"""How long a run waits for its turn. A command's user can look; a run must not fail at night."""


def champion_lease(tracking: Tracking, name: str, who: str) -> Lease:
    """The lease on the champion's place of the model `name`, which `who` asks for.

    Where pods take part it is one of Kubernetes. Elsewhere it lies with the store where that is a file, else in the
    workspace that `tracking` was opened for.
    """
    return lease_for(tracking.leases / f"champion-{quote(name, safe='')}.lease", who, tracking.uri)


@contextmanager
def champions_turn(
    tracking: Tracking, name: str, *, who: str, turn: Lease | None = None, wait_s: float | None = None
) -> Iterator[Lease]:
    """Hold the lease on the champion's place of `name` while the block runs; `turn`: the caller holds it already.

    Raises LeaseHeldError, which names the holder, after `wait_s` seconds (None: a minute).
    """
    if turn is not None:
        yield turn
        return
    with held(champion_lease(tracking, name, who), wait_s=BY_HAND_S if wait_s is None else wait_s) as mine:
        yield mine
