"""Lineage tags: a registered version's identity and its teachers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from selftrain.selflabel.lineage.descent import Descent

if TYPE_CHECKING:
    from selftrain.learn.detection.saving import DetectorContract
    from selftrain.learn.models.contract import Contract

IDENTITY, LINEAGE = "selftrain.identity", "selftrain.lineage."
DIGESTS_A_TAG = 1000  # MLflow takes 100,000 characters per tag


def lineage_tags(contract: Contract | DetectorContract) -> dict[str, str]:
    """The tags of a version of the model that `contract` describes: its identity, and its teachers, oldest first."""
    digests = contract.lineage
    parts = [digests[start : start + DIGESTS_A_TAG] for start in range(0, len(digests), DIGESTS_A_TAG)]
    return {IDENTITY: contract.identity, **{f"{LINEAGE}{number}": " ".join(part) for number, part in enumerate(parts)}}


def descent(tags: Mapping[str, str], model_digest: str) -> Descent:
    """Who taught a version's model, by its `tags` and the sha256 of its file. Both may be empty."""
    parts = [(int(key.removeprefix(LINEAGE)), value) for key, value in tags.items() if _is_lineage(key)]
    lineage = tuple(digest for _, value in sorted(parts) for digest in value.split())
    return Descent(frozenset({tags.get(IDENTITY, ""), model_digest} - {""}), lineage)


def _is_lineage(key: str) -> bool:
    return key.startswith(LINEAGE) and key.removeprefix(LINEAGE).isdecimal()
