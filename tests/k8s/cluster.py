"""A cluster's objects in memory, as the Kubernetes API keeps them: created, changed, watched, and deleted with what
they own.

Nothing runs here. A test that wants Jobs to have pods, or pods to be processes, watches and writes the objects itself.
"""

from __future__ import annotations

import copy
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.k8s.resources import JOBS, PODS, Resource
from tests.k8s.selectors import fields_match, labels_match

Object = dict[str, Any]


FOREGROUND = "foregroundDeletion"


class ApiError(Exception):
    """What the API answers instead of an object: a code and a reason, as in a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass(frozen=True)
class Change:
    """What a watch reports: ADDED, MODIFIED or DELETED, and the object as it was then."""

    number: int
    type: str
    resource: Resource
    object: Object


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Cluster:
    """Objects by kind, namespace and name. All methods may be called from any thread, and hand out copies.

    `log_of(namespace, pod name)` gives the bytes of a pod's log; it is a constructor's argument that tests may replace.
    """

    def __init__(self) -> None:
        self._objects: dict[Resource, dict[tuple[str, str], Object]] = {}
        self._changes: list[Change] = []
        self._numbers = itertools.count(1)
        self._changed = threading.Condition(threading.RLock())
        self.log_of: Callable[[str, str], bytes] = lambda namespace, name: b""

    @property
    def version(self) -> int:
        """The number of the last change: the resourceVersion of a list."""
        with self._changed:
            return self._changes[-1].number if self._changes else 0

    def create(self, resource: Resource, body: Object, namespace: str = "") -> Object:
        """Keep a new object, with uid, creation time and version. Errors: 409 if its name is taken, 422 without one."""
        made = copy.deepcopy(body)
        metadata = made.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if not metadata.get("name"):
            raise ApiError(422, "Invalid", f"{resource.kind} has no metadata.name")
        if resource.namespaced:
            metadata["namespace"] = namespace or metadata.get("namespace") or "default"
        with self._changed:
            if self._key(metadata) in self._of(resource):
                raise ApiError(409, "AlreadyExists", f'{resource.plural} "{metadata["name"]}" already exists')
            metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
            made.update(apiVersion=resource.api_version, kind=resource.kind)
            _complete(resource, made)
            return self._write("ADDED", resource, made)

    def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """The object of that name. Errors: 404."""
        with self._changed:
            return copy.deepcopy(self._find(resource, name, namespace))

    def list(self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        """Those of a namespace ("" for all) that both selectors choose, by namespace and name."""
        with self._changed:
            chosen = [
                each for _, each in sorted(self._of(resource).items()) if _chosen(each, namespace, labels, fields)
            ]
            return copy.deepcopy(chosen)

    def replace(self, resource: Resource, name: str, body: Object, namespace: str = "", *, part: str = "") -> Object:
        """Put `body` in an object's place; with part="status" its status alone, otherwise all but its status.

        Errors: 404; 409 if `body` has the resourceVersion of an older state.
        """
        with self._changed:
            held = self._find(resource, name, namespace)
            given = body.get("metadata", {}).get("resourceVersion")
            if given and given != held["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", f"{resource.plural} {name!r}: the object has been modified")
            changed = copy.deepcopy(held)
            if part == "status":
                changed["status"] = copy.deepcopy(body.get("status", {}))
            else:
                changed = {**copy.deepcopy(body), **{key: held[key] for key in ("status",) if key in held}}
                changed["metadata"] = {**changed.get("metadata", {}), **_kept(held["metadata"])}
                changed.update(apiVersion=resource.api_version, kind=resource.kind)
                if changed.get("spec") != held.get("spec"):
                    changed["metadata"]["generation"] = held["metadata"].get("generation", 1) + 1
            return self._settle(resource, changed)

    def patch(self, resource: Resource, name: str, change: Object, namespace: str = "", *, part: str = "") -> Object:
        """Merge `change` into an object (RFC 7386: null removes a key). Errors as those of replace."""
        with self._changed:
            held = self._find(resource, name, namespace)
            merged = _merged(held, change)
            merged["metadata"].setdefault("resourceVersion", held["metadata"]["resourceVersion"])
            return self.replace(resource, name, merged, namespace, part=part)

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        propagation: str = "Background",
        grace_s: int | None = None,
    ) -> Object:
        """Delete an object, and what it owns unless `propagation` is Orphan.

        A running pod is marked only: whoever runs it ends it, and then deletes it with grace_s=0, as a kubelet does. An
        object deleted in the foreground stays, marked, until all that it owns is gone.
        """
        with self._changed:
            held = copy.deepcopy(self._find(resource, name, namespace))
            owned = [] if propagation == "Orphan" else self._owned(held)
            if propagation == "Foreground" and owned:
                held["metadata"]["finalizers"] = [*held["metadata"].get("finalizers", []), FOREGROUND]
            running = resource == PODS and held.get("status", {}).get("phase") == "Running" and grace_s != 0
            if running or held["metadata"].get("finalizers"):
                held["metadata"].setdefault("deletionTimestamp", now())
                default = held.get("spec", {}).get("terminationGracePeriodSeconds", 30)
                held["metadata"].setdefault("deletionGracePeriodSeconds", default if grace_s is None else grace_s)
                self._write("MODIFIED", resource, held)
            else:
                self._remove(resource, held)
            for kind, each in owned:
                self.delete(
                    kind, each["metadata"]["name"], each["metadata"].get("namespace", ""), propagation=propagation
                )
            return held

    def evict(self, name: str, namespace: str) -> None:
        """What a drain does to a pod: it gets the condition DisruptionTarget, and is deleted."""
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        with self._changed:
            status = self.get(PODS, name, namespace).get("status", {})
            told = {"status": {**status, "conditions": [*status.get("conditions", []), condition]}}
            self.replace(PODS, name, told, namespace, part="status")
            self.delete(PODS, name, namespace)

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        since: int | None = None,
        timeout_s: float = 60.0,
        labels: str = "",
        fields: str = "",
    ) -> Iterator[Change]:
        """Each change after version `since` (None: first all there are, as ADDED), until `timeout_s` has passed."""
        ends = time.monotonic() + timeout_s
        with self._changed:
            number = self.version if since is None else since
            there = self.list(resource, namespace, labels=labels, fields=fields) if since is None else []
        yield from (Change(number, "ADDED", resource, each) for each in there)
        while time.monotonic() < ends:
            with self._changed:
                self._changed.wait_for(lambda seen=number: self.version > seen, max(0.0, ends - time.monotonic()))
                news = [each for each in self._changes if each.number > number]
            for each in news:
                number = each.number
                if each.resource == resource and _chosen(each.object, namespace, labels, fields):
                    yield each

    def _of(self, resource: Resource) -> dict[tuple[str, str], Object]:
        return self._objects.setdefault(resource, {})

    def _key(self, metadata: Object) -> tuple[str, str]:
        return (metadata.get("namespace", ""), metadata["name"])

    def _find(self, resource: Resource, name: str, namespace: str) -> Object:
        held = self._of(resource).get((namespace if resource.namespaced else "", name))
        if held is None:
            raise ApiError(404, "NotFound", f'{resource.plural} "{name}" not found')
        return held

    def _write(self, type_: str, resource: Resource, changed: Object) -> Object:
        number = next(self._numbers)
        changed["metadata"]["resourceVersion"] = str(number)
        self._of(resource)[self._key(changed["metadata"])] = changed
        self._tell(Change(number, type_, resource, copy.deepcopy(changed)))
        return copy.deepcopy(changed)

    def _remove(self, resource: Resource, held: Object) -> None:
        number = next(self._numbers)
        del self._of(resource)[self._key(held["metadata"])]
        held["metadata"]["resourceVersion"] = str(number)
        self._tell(Change(number, "DELETED", resource, copy.deepcopy(held)))
        self._release(held["metadata"])

    def _tell(self, change: Change) -> None:
        self._changes.append(change)
        self._changed.notify_all()

    def _settle(self, resource: Resource, changed: Object) -> Object:
        """Write what was changed; what waited for its last finalizer goes with it."""
        if changed["metadata"].get("deletionTimestamp") and not changed["metadata"].get("finalizers"):
            running = resource == PODS and changed.get("status", {}).get("phase") == "Running"
            if not running:
                self._remove(resource, changed)
                return changed
        return self._write("MODIFIED", resource, changed)

    def _owned(self, owner: Object) -> list[tuple[Resource, Object]]:
        uid = owner["metadata"]["uid"]
        return [
            (resource, each)
            for resource, objects in self._objects.items()
            for each in list(objects.values())
            if uid in [reference.get("uid") for reference in each["metadata"].get("ownerReferences", [])]
        ]

    def _release(self, gone: Object) -> None:
        """Owners that waited in the foreground for the last of what they own."""
        uids = {reference.get("uid") for reference in gone.get("ownerReferences", [])}
        for resource, objects in self._objects.items():
            for each in [each for each in objects.values() if each["metadata"]["uid"] in uids]:
                if FOREGROUND in each["metadata"].get("finalizers", []) and not self._owned(each):
                    freed = copy.deepcopy(each)
                    freed["metadata"]["finalizers"].remove(FOREGROUND)
                    self._settle(resource, freed)


def _chosen(held: Object, namespace: str, labels: str, fields: str) -> bool:
    metadata = held["metadata"]
    here = not namespace or metadata.get("namespace") == namespace
    return here and labels_match(labels, metadata.get("labels") or {}) and fields_match(fields, held)


def _kept(metadata: Object) -> Object:
    """What no writer changes in an object's metadata."""
    kept = (
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    )
    return {key: metadata[key] for key in kept if key in metadata}


def _merged(held: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    merged = dict(copy.deepcopy(held)) if isinstance(held, dict) else {}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _complete(resource: Resource, made: Object) -> None:
    """What the API adds to a new object: a pod's phase, and the labels by which a Job knows its pods."""
    if resource == PODS:
        made.setdefault("status", {}).setdefault("phase", "Pending")
    elif resource == JOBS:
        made.setdefault("status", {})
        name, uid = made["metadata"]["name"], made["metadata"]["uid"]
        own = {
            "job-name": name,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "batch.kubernetes.io/controller-uid": uid,
        }
        template = made["spec"]["template"].setdefault("metadata", {})
        template["labels"] = {**(template.get("labels") or {}), **own}
        made["spec"].setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
