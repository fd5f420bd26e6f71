"""Selectors of labels and fields, as the Kubernetes API reads them in a query."""

from __future__ import annotations

import re
from typing import Any

REQUIREMENT = re.compile(
    r"\s*(?:!(?P<absent>[\w./-]+)|(?P<key>[\w./-]+)\s*(?:(?P<op>==|=|!=|\bin\b|\bnotin\b)\s*(?P<value>\([^)]*\)|[^,]*))?)\s*(?:,|$)"
)


def labels_match(selector: str, labels: dict[str, str]) -> bool:
    """Whether labels meet each part of a selector, such as `a=b,c!=d,e in (f, g),h,!i`."""
    return all(_met(found.groupdict(), labels) for found in REQUIREMENT.finditer(selector) if found.group().strip())


def _met(part: dict[str, str | None], labels: dict[str, str]) -> bool:
    if part["absent"]:
        return part["absent"] not in labels
    key, value = part["key"] or "", (part["value"] or "").strip()
    values = [each.strip() for each in value.strip("()").split(",")]
    match part["op"]:
        case None:
            return key in labels
        case "=" | "==" | "in":
            return labels.get(key) in values
        case _:
            return labels.get(key) not in values


def fields_match(selector: str, held: dict[str, Any]) -> bool:
    """Whether an object meets each part of a selector such as `status.phase=Pending,metadata.name!=a`."""
    for part in filter(None, (each.strip() for each in selector.split(","))):
        path, operator, value = re.split(r"(!=|==|=)", part, maxsplit=1)
        if (str(_at(held, path)) == value) == (operator == "!="):
            return False
    return True


def _at(held: Any, path: str) -> Any:
    for key in path.split("."):
        held = held.get(key, "") if isinstance(held, dict) else ""
    return held


def chooses(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector of an object (matchLabels, matchExpressions) chooses labels; an empty one chooses all."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expressed(each, labels) for each in selector.get("matchExpressions") or [])


def _expressed(part: dict[str, Any], labels: dict[str, str]) -> bool:
    match part["operator"]:
        case "Exists":
            return part["key"] in labels
        case "DoesNotExist":
            return part["key"] not in labels
        case "In":
            return labels.get(part["key"]) in part["values"]
        case _:
            return labels.get(part["key"]) not in part["values"]
