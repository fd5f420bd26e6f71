"""Who may do what, by Roles and RoleBindings, as a cluster with RBAC decides it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Attempt:
    """What somebody asks of the API: a verb on a resource (with its subresource), in a namespace, by a name or not."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    groups: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.user}: {self.verb} {self.resource}" + (f".{self.group}" if self.group else "")


def account(name: str, namespace: str = "selftrain") -> str:
    """The user name of a service account."""
    return f"system:serviceaccount:{namespace}:{name}"


def allowed(attempt: Attempt, objects: Iterable[dict[str, Any]]) -> bool:
    """Whether a rule allows it. Rules only allow; anything that none of them allows is refused."""
    return any(_covers(rule, attempt) for rule in _rules(attempt, list(objects)))


def _rules(attempt: Attempt, objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    roles = {_role_key(each): each["rules"] for each in objects if each["kind"] in ("Role", "ClusterRole")}
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        place = binding["metadata"].get("namespace", "")
        everywhere = binding["kind"] == "ClusterRoleBinding"
        if (everywhere or place == attempt.namespace) and any(
            _is(each, attempt, place) for each in binding["subjects"]
        ):
            reference = binding["roleRef"]
            yield from roles.get(
                (reference["kind"], place if reference["kind"] == "Role" else "", reference["name"]), []
            )


def _role_key(role: dict[str, Any]) -> tuple[str, str, str]:
    return (
        role["kind"],
        role["metadata"].get("namespace", "") if role["kind"] == "Role" else "",
        role["metadata"]["name"],
    )


def _is(subject: dict[str, Any], attempt: Attempt, place: str) -> bool:
    match subject["kind"]:
        case "ServiceAccount":
            return attempt.user == account(subject["name"], subject.get("namespace", place))
        case "Group":
            return subject["name"] in attempt.groups
        case _:
            return bool(subject["name"] == attempt.user)


def _covers(rule: dict[str, Any], attempt: Attempt) -> bool:
    subresource = attempt.resource.partition("/")[2]
    resources = {attempt.resource, "*", *([f"*/{subresource}"] if subresource else [])}
    return (
        bool({attempt.verb, "*"} & set(rule["verbs"]))
        and bool({attempt.group, "*"} & set(rule.get("apiGroups", [])))
        and bool(resources & set(rule.get("resources", [])))
        and (not rule.get("resourceNames") or attempt.name in rule["resourceNames"])
    )
