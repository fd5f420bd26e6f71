"""Result keys: one digest of everything that a result follows from, settings first."""

from __future__ import annotations

import hashlib
from collections.abc import Set

from selftrain.config import KEPT_BY_THE_MANIFEST, PRODUCTION, Experiment

WITHOUT_EFFECT = frozenset({"title", "workspace", "machine"}) | PRODUCTION  # they say where and how, not what


def result_key(experiment: Experiment, *digests: str, leave_out: Set[str] = frozenset()) -> str:
    """sha256 (hex) of the settings that change a result, and of `digests`: data, weights, models, code.

    `leave_out` names further sections of `experiment` that one of the digests stands for.

    >>> result_key(Experiment(), "data") == result_key(Experiment(title="another"), "data")
    True
    """
    left_out: dict[str, set[str] | bool] = {"splitting": set(KEPT_BY_THE_MANIFEST)}
    left_out |= dict.fromkeys(WITHOUT_EFFECT | leave_out, True)
    settings = experiment.model_dump_json(exclude=left_out)
    return hashlib.sha256("\n".join([settings, *digests]).encode()).hexdigest()
