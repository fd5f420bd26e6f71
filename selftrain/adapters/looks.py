"""Looks at test: which models were read on which test images, in MLflow; each is counted before it is taken."""

from __future__ import annotations

from collections.abc import Iterable

from selftrain.adapters.tracking import count_test_look, looks_at_test, open_tracking
from selftrain.config import Place
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store import dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.divergence import trained


def count_looks(manifest: Manifest, models: Iterable[SavedModel | None], *, place: Place, run_id: str) -> int:
    """Count each of `models` as read on the manifest's test images by `run_id`; None, or one that diverged, is none.

    A model counts once, however often it is read: the same answers tell nothing new. Returns all looks there were.
    """
    tracking, test = open_tracking(dataset.workspace(place).root), manifest.split_digest(Split.TEST)
    for model in trained(models):
        count_test_look(tracking, test_digest=test, run_id=run_id, model_digest=model.digest)
    return looks_at_test(tracking, test)


def counted_looks(manifest: Manifest, *, place: Place) -> int:
    """How many models were ever read on the manifest's test images."""
    return looks_at_test(open_tracking(dataset.workspace(place).root), manifest.split_digest(Split.TEST))
