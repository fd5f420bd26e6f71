"""Looks at test: which models were read on which test images, in MLflow; each is counted before it is taken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.config import Place
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.divergence import trained


def count_looks(manifest: Manifest, models: Iterable[SavedModel | None], *, place: Place, run_id: str) -> int:
    """Count each of `models` as read on the manifest's test images by `run_id`; None, or one that diverged, is none.

    A model counts once, however often it is read: the same answers tell nothing new. Returns all looks there were.
    """
    tracking, test = open_tracking(open_dataset(place).workspace.root), manifest.split_digest(Split.TEST)
    for model in trained(models):
        count_test_look(tracking, test_digest=test, run_id=run_id, model_digest=model.digest)
    return looks_at_test(tracking, test)


def counted_looks(manifest: Manifest, *, place: Place) -> int:
    """How many models were ever read on the manifest's test images."""
    return looks_at_test(open_tracking(open_dataset(place).workspace.root), manifest.split_digest(Split.TEST))


LOOK_TAG = "selftrain.test_look."


def count_test_look(tracking: Tracking, *, test_digest: str, run_id: str, model_digest: str) -> int:
    """Record that `run_id` scored the model `model_digest` on the test set `test_digest`; returns all looks at it.

    A look is a model's: the same model on the same images tells nothing new, so a step that was killed and repeated,
    or a run that the cache answered, counts once. Looks are only ever added.
    """
    key = f"{LOOK_TAG}{_short(test_digest)}.{_short(model_digest)}"
    experiment = tracking.client.get_experiment(tracking.experiment_id)
    if key not in experiment.tags:
        look = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "test": test_digest,
            "run": run_id,
            "model": model_digest,
        }
        tracking.client.set_experiment_tag(tracking.experiment_id, key, json.dumps(look))
    return looks_at_test(tracking, test_digest)


def looks_at_test(tracking: Tracking, test_digest: str) -> int:
    """How many models any experiment in this store has scored on the test set `test_digest`."""
    from mlflow.entities import ViewType

    prefix = f"{LOOK_TAG}{_short(test_digest)}."
    looks: set[str] = set()
    token: str | None = None
    while True:
        page = tracking.client.search_experiments(view_type=ViewType.ALL, page_token=token)
        looks |= {key for experiment in page for key in experiment.tags if key.startswith(prefix)}
        token = page.token
        if not token:
            return len(looks)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
