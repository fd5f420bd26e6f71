"""The evaluation count: how many models were evaluated on a test set, each counted before it is evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from selftrain.data.manifest import Manifest, Split
from selftrain.files.writing import replace
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.divergence import trained


class EvaluationLog(Protocol):
    """The store of test-set evaluations. Entries are added, never removed."""

    def models(self, test_digest: str) -> Set[str]:
        """Digests of the models that were evaluated on the test set `test_digest`."""

    def add(self, test_digest: str, models: Set[str]) -> None:
        """Add the digests `models`; adding a digest again changes nothing."""


def count_evaluations(log: EvaluationLog, manifest: Manifest, models: Iterable[SavedModel | None]) -> int:
    """Count each of `models` as evaluated on the manifest's test images; returns all evaluations so far.

    A model counts once, however often it is evaluated, because the same answers on the same images tell nothing new.
    None and a model whose training diverged do not count.
    """
    return count_digests(log, manifest, {model.digest for model in trained(models)})


def count_digests(log: EvaluationLog, manifest: Manifest, digests: Set[str]) -> int:
    """Count the models with these digests as evaluated on the manifest's test images; returns all evaluations."""
    log.add(manifest.split_digest(Split.TEST), digests)
    return evaluations_so_far(log, manifest)


def evaluations_so_far(log: EvaluationLog, manifest: Manifest) -> int:
    """How many models were ever evaluated on the manifest's test images."""
    return len(log.models(manifest.split_digest(Split.TEST)))


@dataclass(frozen=True)
class EvaluationFiles:
    """An EvaluationLog of JSON files in `folder`, one per test set."""

    folder: Path

    def models(self, test_digest: str) -> Set[str]:
        """Digests of the models in the test set's file."""
        path = self._path(test_digest)
        return set(json.loads(path.read_text())) if path.is_file() else set()

    def add(self, test_digest: str, models: Set[str]) -> None:
        """Add `models` to the test set's file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(sorted(self.models(test_digest) | models), indent=1)
        replace(self._path(test_digest), lambda part: part.write_text(text))

    def _path(self, test_digest: str) -> Path:
        return self.folder / f"{test_digest[:32]}.json"
