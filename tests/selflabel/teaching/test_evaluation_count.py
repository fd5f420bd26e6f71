"""The evaluation count: a model counts once per test set, and one that diverged never."""

from __future__ import annotations

from pathlib import Path

from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.divergence import leave
from selftrain.selflabel.teaching.evaluation_count import EvaluationFiles, count_evaluations, evaluations_so_far
from tests.selflabel.rounds.test_results import MODEL, manifest_of


def model(temperature: float) -> SavedModel:
    return SavedModel(MODEL.folder, MODEL.contract.model_copy(update={"temperature": temperature}))


def test_a_model_counts_once_on_a_test_set_however_often_it_is_evaluated(tmp_path: Path) -> None:
    log, manifest = EvaluationFiles(tmp_path / "log"), manifest_of(training=6, pool=3)
    one, other = model(1.0), model(2.0)
    assert evaluations_so_far(log, manifest) == 0
    counts = [count_evaluations(log, manifest, models) for models in ([one], [one, one], [one, other], [])]
    assert counts == [1, 1, 2, 2]


def test_a_test_set_knows_nothing_of_another(tmp_path: Path) -> None:
    log = EvaluationFiles(tmp_path / "log")
    log.add("a" * 64, {"m"})
    log.add("b" * 64, {"m", "n"})
    assert log.models("a" * 64) == {"m"}
    assert log.models("b" * 64) == {"m", "n"}


def test_what_is_missing_or_diverged_is_not_evaluated(tmp_path: Path) -> None:
    diverged = leave("the loss is not finite", MODEL.contract, tmp_path / "diverged")
    log = EvaluationFiles(tmp_path / "log")
    assert count_evaluations(log, manifest_of(training=6, pool=3), [model(1.0), diverged, None]) == 1
