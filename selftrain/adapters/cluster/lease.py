"""A lease in Kubernetes: at most one holder at a time in a cluster, whichever node its pod runs on.

It is an object of `coordination.k8s.io/v1`. Every write names the version that it read, and Kubernetes refuses it where
another was faster. The times in the object are for people: whether a claim has ended is decided by how long its reader
saw it unchanged on its own clock, as Kubernetes' own controllers do.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from selftrain.adapters.cluster.kube import ANSWER_S, status_of
from selftrain.errors import LeaseHeldError, LeaseLostError
from selftrain.files.lease import LOOK_S, TTL_S, Claim, Lease, held, is_over

if TYPE_CHECKING:
    from kubernetes.client import CoordinationV1Api, V1Lease, V1LeaseSpec

HOLDER = "selftrain/holder"
"""Annotation with the holder's name for people; `holderIdentity` is unique to each claim."""
TTL = "selftrain/ttl-s"
CONFLICT, NOT_FOUND = 409, 404


class KubernetesLease:
    """The lease `name` in `namespace`; `holder` says who takes it, for people."""

    def __init__(
        self,
        api: CoordinationV1Api,
        namespace: str,
        name: str,
        holder: str,
        *,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = lease_name(name)
        self.holder = holder
        self._api = api
        self._namespace = namespace
        self._ttl_s = ttl_s
        self._clock = clock
        self._mine: str | None = None  # our token, while we hold it
        self._seen: tuple[str, float] | None = None  # another's version, and since when it is as it is

    @property
    def ttl_s(self) -> float:
        """Seconds without a renewal after which others may take it."""
        return self._ttl_s

    def take(self) -> Claim | None:
        """See `Lease.take`. Raises LeaseLostError where the API does not answer, or gives no right to leases."""
        token = secrets.token_hex(8)
        with self._answered():
            there = self._read()
            if there is not None and not self._is_over(there):
                return claim_of(there)
            try:
                self._write(there, token)
            except _refusal() as error:
                if status_of(error) != CONFLICT:
                    raise
                there = self._read()  # another was faster; if it has gone already, the next try may succeed
                return claim_of(there) if there is not None else self._unknown()
        self._mine, self._seen = token, None
        return None

    def renew(self) -> None:
        """See `Lease.renew`."""
        with self._answered():
            there = self._still_mine()
            try:
                self._write(there, self._mine or "")
            except _refusal() as error:
                if status_of(error) != CONFLICT:
                    raise
                self._still_mine()  # our own thread renewed it meanwhile, or it is another's

    def release(self) -> None:
        """See `Lease.release`. The object goes, so that no list of leases grows with the models."""
        from kubernetes.client import V1DeleteOptions, V1Preconditions

        with suppress(LeaseLostError), self._answered():
            there = self._still_mine()
            meta = there.metadata
            body = V1DeleteOptions(preconditions=V1Preconditions(uid=meta.uid, resource_version=meta.resource_version))
            self._api.delete_namespaced_lease(self.name, self._namespace, body=body, _request_timeout=ANSWER_S)
        self._mine = None

    def _is_over(self, there: V1Lease) -> bool:
        version, now = str(there.metadata.resource_version), self._clock()
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        unchanged_s = now - self._seen[1]
        return is_over(claim_of(there), boot="", now=now, abandoned=False, unchanged_s=unchanged_s)

    def _still_mine(self) -> V1Lease:
        there = self._read()
        if there is None or self._mine is None or there.spec.holder_identity != self._mine:
            now = f"{claim_of(there).holder} has it" if there is not None else "nobody has it now"
            raise LeaseLostError(f"{self.holder} no longer holds {self.name}: {now}; nothing was changed, repeat it")
        return there

    def _read(self) -> V1Lease | None:
        try:
            return self._api.read_namespaced_lease(self.name, self._namespace, _request_timeout=ANSWER_S)
        except _refusal() as error:
            if status_of(error) == NOT_FOUND:
                return None
            raise

    def _write(self, there: V1Lease | None, token: str) -> None:
        """Make it, or replace the version that was read. Raises Kubernetes' conflict where another did."""
        from kubernetes.client import V1Lease, V1ObjectMeta

        old = there.spec if there is not None else None
        meta = V1ObjectMeta(name=self.name, annotations={HOLDER: self.holder, TTL: f"{self._ttl_s:g}"})
        lease = V1Lease(metadata=meta, spec=self._spec(old, token))
        if there is None:
            self._api.create_namespaced_lease(self._namespace, lease, _request_timeout=ANSWER_S)
            return
        meta.resource_version = there.metadata.resource_version
        self._api.replace_namespaced_lease(self.name, self._namespace, lease, _request_timeout=ANSWER_S)

    def _spec(self, old: V1LeaseSpec | None, token: str) -> V1LeaseSpec:
        from kubernetes.client import V1LeaseSpec

        now, renewed = datetime.now(UTC), old is not None and old.holder_identity == token
        changes = (old.lease_transitions or 0) + (not renewed) if old is not None else 0
        return V1LeaseSpec(
            holder_identity=token,
            acquire_time=old.acquire_time if renewed and old is not None else now,
            renew_time=now,
            lease_duration_seconds=max(1, round(self._ttl_s)),
            lease_transitions=changes,
        )

    def _unknown(self) -> Claim:
        return Claim(holder="another", token="", since="just now", ttl_s=self._ttl_s, boot="", at=0)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (_refusal(), HTTPError, OSError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise LeaseLostError(
                f"Kubernetes did not give the lease {self.name} in {self._namespace} ({reason}); the account needs "
                "get, create, update and delete on leases (coordination.k8s.io). Nothing was changed, repeat it"
            ) from error


@contextmanager
def alone(lease: Lease) -> Iterator[bool]:
    """Hold `lease` while the block runs; false, and the block runs without it, where another holds it.

    It waits for as long as the claim of a holder that died takes to end.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lease, wait_s=lease.ttl_s + LOOK_S))  # a dead holder's claim ends meanwhile
            first = True
        except LeaseHeldError:
            first = False
        yield first


def lease_name(name: str) -> str:
    """`name` as Kubernetes allows names; a digest keeps two names apart that would become one.

    >>> lease_name("champion-pets")
    'champion-pets'
    >>> lease_name("champion-Pets%2Fsmall").startswith("champion-pets-2fsmall-")
    True
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "lease"
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def claim_of(lease: V1Lease) -> Claim:
    """What a lease says of its holder; one whose annotations another program wrote keeps its own duration."""
    notes, spec = lease.metadata.annotations or {}, lease.spec
    try:
        ttl_s = float(notes.get(TTL, spec.lease_duration_seconds or TTL_S))
    except ValueError:
        ttl_s = TTL_S
    since = spec.acquire_time.isoformat(timespec="seconds") if spec.acquire_time else "an unknown time"
    holder = str(notes.get(HOLDER, spec.holder_identity or "another"))
    return Claim(holder=holder, token=spec.holder_identity or "", since=since, ttl_s=ttl_s, boot="", at=0)


def _refusal() -> type[Exception]:
    """Kubernetes' error for an answer that is not a success."""
    from kubernetes.client import ApiException

    return cast("type[Exception]", ApiException)
