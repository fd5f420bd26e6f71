"""Test-set evaluations in MLflow: tags of the experiment say which model saw which test set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, datetime

from selftrain.adapters.tracking.store import Tracking

PREFIX = "selftrain.test_look."


@dataclass(frozen=True)
class TrackedEvaluations:
    """The EvaluationLog of an MLflow store; the run `run_id` adds to it."""

    tracking: Tracking
    run_id: str

    def models(self, test_digest: str) -> Set[str]:
        """Digests of the models that any experiment of this store evaluated on the test set `test_digest`."""
        from mlflow.entities import ViewType

        models: set[str] = set()
        token: str | None = None
        while True:
            page = self.tracking.client.search_experiments(view_type=ViewType.ALL, page_token=token)
            tags = (tag for experiment in page for tag in experiment.tags.items())
            models |= {json.loads(text)["model"] for key, text in tags if key.startswith(_prefix(test_digest))}
            token = page.token
            if not token:
                return models

    def add(self, test_digest: str, models: Set[str]) -> None:
        """Tag the experiment with each of `models` that it has not evaluated on the test set yet."""
        tracking = self.tracking
        tags = tracking.client.get_experiment(tracking.experiment_id).tags
        when = datetime.now(UTC).isoformat(timespec="seconds")
        for model in sorted(models):
            key = f"{_prefix(test_digest)}{_short(model)}"
            entry = {"when": when, "test": test_digest, "run": self.run_id, "model": model}
            if key not in tags:
                tracking.client.set_experiment_tag(tracking.experiment_id, key, json.dumps(entry))


def _prefix(test_digest: str) -> str:
    return f"{PREFIX}{_short(test_digest)}."


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
