"""Settlement: a passed run's model is registered, and becomes champion if the decision allows it."""

from __future__ import annotations

from dataclasses import dataclass

from selftrain.adapters.process.code_digest import everything
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry import champions, recall_log, registration, versions
from selftrain.adapters.registry.versions import Version
from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.runs import is_recorded
from selftrain.adapters.tracking.store import Tracking
from selftrain.config import Registry, TaskName
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset
from selftrain.evaluate.evaluation import Comparison, EvaluationReport
from selftrain.evaluate.promotion import (
    MeasuredOnTest,
    PromotionDecision,
    judge_promotion,
    promoted_by_decision,
    reason_to_wait,
)
from selftrain.learn.models.contract import SavedModel
from selftrain.report.model_card import model_card
from selftrain.selflabel.rounds.history import Verdict
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration


@dataclass(frozen=True)
class Candidate:
    """A run's final model, its task, how its loop ended, and the report on test."""

    manifest: Manifest
    model: SavedModel
    report: EvaluationReport
    outcome: Outcome
    task: TaskName = "classification"


@dataclass(frozen=True)
class RunKeys:
    """A run's id in ZenML, the key of its result, and the data set's version in DVC."""

    run_id: str
    run_key: str
    dataset_version: str


@dataclass(frozen=True)
class OpenStores:
    """The data set that a candidate was made from, and the registry that it goes to."""

    dataset: Dataset
    tracking: Tracking
    settings: Registry


def register_and_promote(candidate: Candidate, run: RunKeys, stores: OpenStores) -> Registration:
    """Register the model of a run that passed, once; judge it against the champion, and return what came of it.

    Raises WithdrawnError for a model that is withdrawn or tainted. If the champion is, the reason says so.
    """
    tracking, settings = stores.tracking, stores.settings
    present = versions.champion(tracking, settings.model_name)
    if candidate.outcome.verdict is not Verdict.PASSED:
        return Registration(
            model_name=settings.model_name,
            champion_version=present.number if present else None,
            reason="not registered: only a run that passes its gate is" + recall_log.alarm(tracking, present),
        )
    recall_log.refuse(tracking, candidate.model.contract)
    version = _register(candidate, run, stores)
    if present is not None and present.number == version.number:
        return _champion_again(stores, version)
    decision = _judge(candidate, run, stores, version, present)
    who = champions.current_user()
    champions.record_decision(tracking, version, decision, who=who)
    wait = reason_to_wait(settings, decision, champions.history(tracking, version.name), version.number)
    if wait is not None:
        return _registration(stores, version, present, promoted=False, reason=wait)
    champions.promote(tracking, settings.model_name, version.number, who=who, why=decision.text)
    return _registration(stores, version, version, promoted=True, reason=decision.text)


def _register(candidate: Candidate, run: RunKeys, stores: OpenStores) -> Version:
    contract = candidate.model.contract
    with versions.answering(stores.tracking):
        return registration.register(
            stores.tracking,
            model_folder=candidate.model.folder,
            contract=contract,
            report=candidate.report,
            run_key=run.run_key,
            tags=_tags(candidate, run, stores),
            card=model_card(contract, candidate.report, candidate.outcome.history.rounds),
            settings=stores.settings,
            run_id=run.run_id,
        )


def _tags(candidate: Candidate, run: RunKeys, stores: OpenStores) -> dict[str, str]:
    return {
        "selftrain.manifest_digest": candidate.manifest.digest,
        "selftrain.dataset": stores.dataset.name,
        "selftrain.dataset_version": run.dataset_version,
        "selftrain.code": everything(),
        "selftrain.verdict": candidate.outcome.verdict.value,
    }


def _champion_again(stores: OpenStores, version: Version) -> Registration:
    """The result for a present champion: promoted, if the run that promoted it died before it recorded that."""
    tracking = stores.tracking
    champion = champions.finish_promotion(tracking, version)
    decision = champions.decision_on(champion)
    by_run = promoted_by_decision(champions.history(tracking, champion.name), champion.number, decision)
    recorded = is_recorded(tracking, model_name=champion.name, version=champion.number)
    if stores.settings.auto_promote and by_run and not recorded:
        return _registration(stores, champion, champion, promoted=True, reason=decision.text)
    return _registration(stores, champion, champion, promoted=False, reason="the champion is this very model")


def _judge(
    candidate: Candidate, run: RunKeys, stores: OpenStores, version: Version, present: Version | None
) -> PromotionDecision:
    test_digest = candidate.manifest.split_digest(Split.TEST)
    champion = present.number if present else None
    measurement = MeasuredOnTest(
        model_digest=candidate.model.contract.weights_sha256,
        test_digest=test_digest,
        report=candidate.report,
        against=champion,
        comparison=_against(present, candidate, run, stores) if present else None,
    )
    return judge_promotion(
        stores.settings,
        measurement,
        model_digest=version.model_digest,
        test_digest=test_digest,
        champion=champion,
    )


def _against(present: Version, candidate: Candidate, run: RunKeys, stores: OpenStores) -> Comparison | None:
    """The candidate against the champion on test; None where their classes differ."""
    start_keras()
    from selftrain.selflabel.teaching.evaluation_count import count_evaluations
    from selftrain.selflabel.teaching.task import TaskData, task_of

    manifest, dataset = candidate.manifest, stores.dataset
    folder = versions.load_model_folder(stores.tracking, present, cache=dataset.workspace.models)
    champion = SavedModel.read(folder)
    if champion.contract.class_names != manifest.label_map.names:
        return None
    count_evaluations(TrackedEvaluations(stores.tracking, run.run_id), manifest, (candidate.model, champion))
    return task_of(candidate.task).compare_on_test(TaskData(manifest, dataset), candidate.model, champion)


def _registration(
    stores: OpenStores, version: Version, champion: Version | None, *, promoted: bool, reason: str
) -> Registration:
    return Registration(
        model_name=stores.settings.model_name,
        registered_version=version.number,
        champion_version=champion.number if champion else None,
        promoted=promoted,
        reason=reason + recall_log.alarm(stores.tracking, champion),
        model_uri=version.uri,
    )
