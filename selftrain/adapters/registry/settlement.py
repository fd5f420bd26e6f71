"""Settlement: a passed run's model is registered, and becomes champion if the decision allows it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selftrain.adapters.process.code_digest import everything
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry import champions, recall_log, registration, versions
from selftrain.adapters.registry.turn import BY_RUN_S, champions_turn
from selftrain.adapters.registry.versions import Version
from selftrain.adapters.serving.trial import golden_images, run_trial
from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.runs import is_recorded
from selftrain.adapters.tracking.store import Tracking
from selftrain.config import Registry, TaskName
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset
from selftrain.errors import ConfigError, UntrustedFileError
from selftrain.evaluate.detail import DetailedComparison
from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.evaluate.promotion import (
    MeasuredOnTest,
    PromotionDecision,
    judge_promotion,
    promoted_by_decision,
    reason_to_wait,
)
from selftrain.evaluate.trial import Trial
from selftrain.files.lease import Lease
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.models.contract import SavedModel
from selftrain.report.cards.detector_card import detector_card
from selftrain.report.cards.head import TrainedOn
from selftrain.report.cards.model_card import model_card
from selftrain.selflabel.rounds.history import Verdict
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration

MOST_COMPARISONS = 3  # with champions that moved meanwhile: by other means than ours, which keep to their turn
TRIAL = "selftrain.trial"


@dataclass(frozen=True)
class Candidate:
    """A run's final model, its task, how its loop ended, and the report on test.

    `objects` are what people marked in the test images, for a detector.
    """

    manifest: Manifest
    model: SavedModel | SavedDetector
    report: EvaluationReport | DetectionReport
    outcome: Outcome
    task: TaskName = "classification"
    objects: Annotations | None = None

    @property
    def test_digest(self) -> str:
        """Identifies what the model was tested on: the images and labels, and a detector's objects."""
        images = self.manifest.split_digest(Split.TEST)
        if self.objects is None:
            return images
        return hashlib.sha256(f"{images} {self.objects.digest}".encode()).hexdigest()

    def card(self, model_name: str, dataset: str) -> str:
        """The model card, under the registered `model_name`; `dataset` is the data set's name."""
        rounds = self.outcome.history.rounds
        images = {split.value: len(self.manifest.rows(split)) for split in Split}
        trained_on = TrainedOn(model_name, dataset, images)
        match self.model, self.report:
            case SavedModel(contract=contract), EvaluationReport() as report:
                return model_card(contract, report, rounds, trained_on)
            case SavedDetector(contract=contract), DetectionReport() as report:
                return detector_card(contract, report, rounds, trained_on)
        raise ConfigError("the model and its report are of different tasks; run again")


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

    From the comparison to the moved alias, no other run or command changes the champion. Where it was moved by other
    means, they are compared again. Raises WithdrawnError for a model that is withdrawn or tainted; if the champion
    is, the reason says so. Raises LeaseHeldError where another run's turn does not end.
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
    if present is not None and _is_champion(candidate, run, stores, present):
        return Registration(
            model_name=settings.model_name,
            champion_version=present.number,
            reason=f"not registered: the best model is the champion {present.uri} itself",
        )
    version = _register(candidate, run, stores)
    with champions_turn(tracking, settings.model_name, who=f"run {run.run_id}", wait_s=BY_RUN_S) as turn:
        return _settle(candidate, run, stores, version, turn)


def _settle(candidate: Candidate, run: RunKeys, stores: OpenStores, version: Version, turn: Lease) -> Registration:
    """Judge `version` against the champion that it then replaces or not."""
    present = versions.champion(stores.tracking, version.name)
    for _ in range(MOST_COMPARISONS):
        if present is not None and present.number == version.number:
            return _champion_again(stores, version, turn)
        decision = _judge(candidate, run, stores, version, present)
        before, present = present, versions.champion(stores.tracking, version.name)
        if _number(before) == _number(present):
            return _carry_out(decision, stores, version, present, turn)
    reason = f"the champion was moved {MOST_COMPARISONS} times while it was compared with it; run again"
    return _registration(stores, version, present, promoted=False, reason=reason)


def _carry_out(
    decision: PromotionDecision, stores: OpenStores, version: Version, present: Version | None, turn: Lease
) -> Registration:
    """Record `decision`, and promote `version` if it allows that."""
    tracking, who = stores.tracking, champions.current_user()
    champions.record_decision(tracking, version, decision, who=who)
    log = champions.history(tracking, version.name)
    wait = reason_to_wait(stores.settings, decision, log, version.number)
    grown = f"; {decision.earlier.text} of champion version {_number(present)}" if decision.earlier else ""
    if wait is not None:
        return _registration(stores, version, present, promoted=False, reason=wait + grown)
    champions.promote(tracking, version.name, version.number, who=who, why=decision.text, turn=turn)
    return _registration(stores, version, version, promoted=True, reason=decision.text + grown)


def _is_champion(candidate: Candidate, run: RunKeys, stores: OpenStores, present: Version) -> bool:
    """Whether a run, which has registered nothing yet, ended with the very model that is champion."""
    same = present.model_digest == candidate.model.contract.weights_sha256
    return same and versions.find(stores.tracking, name=present.name, run_key=run.run_key) is None


def _number(version: Version | None) -> int | None:
    return version.number if version is not None else None


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
            card=candidate.card(stores.settings.model_name, stores.dataset.name),
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


def _champion_again(stores: OpenStores, version: Version, turn: Lease) -> Registration:
    """The result for a present champion: promoted, if the run that promoted it died before it recorded that."""
    tracking = stores.tracking
    champion = champions.finish_promotion(tracking, version, turn)
    decision = champions.decision_on(champion)
    by_run = promoted_by_decision(champions.history(tracking, champion.name), champion.number, decision)
    recorded = is_recorded(tracking, model_name=champion.name, version=champion.number)
    if stores.settings.auto_promote and by_run and not recorded:
        return _registration(stores, champion, champion, promoted=True, reason=decision.text)
    return _registration(stores, champion, champion, promoted=False, reason="the champion is this very model")


def _judge(
    candidate: Candidate, run: RunKeys, stores: OpenStores, version: Version, present: Version | None
) -> PromotionDecision:
    """The decision by the numbers; a version that they allow must then serve in a process of its own."""
    test_digest = candidate.test_digest
    found = _against(present, candidate, run, stores) if present else None
    measured = MeasuredOnTest(
        model_digest=candidate.model.contract.weights_sha256,
        test_digest=test_digest,
        report=candidate.report,
        against=_number(present),
        comparison=found.overall if found else None,
        per_class=found.per_class if found else (),
        calibration=found.calibration if found else None,
    )
    judge = partial(
        judge_promotion,
        stores.settings,
        model_digest=version.model_digest,
        test_digest=test_digest,
        champion=_number(present),
    )
    decision = judge(measured)
    if decision.promote and stores.settings.trial_images and isinstance(candidate.model, SavedModel):
        trial = _try(candidate.manifest, candidate.model, stores, version)
        decision = judge(measured.model_copy(update={"trial": trial}))
    return decision.model_copy(update={"earlier": found.earlier if found else None})


def _try(manifest: Manifest, model: SavedModel, stores: OpenStores, version: Version) -> Trial:
    """What `version` does in a fresh serving process; its numbers become a tag of the version."""
    start_keras()
    tracking, count = stores.tracking, stores.settings.trial_images
    golden = golden_images(manifest, stores.dataset.store, model, count=count)
    if golden is None:
        trial = Trial(failure="there is no validation image to ask it; set registry.trial_images to 0")
    else:
        trial = run_trial(version.uri, tracking.uri, golden)
    with versions.answering(tracking):
        tracking.client.set_model_version_tag(version.name, str(version.number), TRIAL, trial.model_dump_json())
    return trial


def _against(present: Version, candidate: Candidate, run: RunKeys, stores: OpenStores) -> DetailedComparison | None:
    """The candidate against the champion on test; None where their tasks or classes differ."""
    start_keras()
    from selftrain.selflabel.teaching.evaluation_count import count_digests

    manifest, dataset = candidate.manifest, stores.dataset
    folder = versions.load_model_folder(stores.tracking, present, cache=dataset.workspace.models)
    champion = _read_like(candidate.model, folder)
    if champion is None or champion.contract.class_names != candidate.model.contract.class_names:
        return None
    log = TrackedEvaluations(stores.tracking, run.run_id)
    count_digests(log, manifest, {each.digest for each in (candidate.model, champion)})
    match candidate.model, champion:
        case SavedModel() as model, SavedModel() as other:
            from selftrain.selflabel.teaching.task import TaskData, task_of

            return task_of(candidate.task).compare_on_test(TaskData(manifest, dataset), model, other)
        case SavedDetector() as detector, SavedDetector() as reference if candidate.objects is not None:
            from selftrain.selflabel.detection.answers import compare_on_test
            from selftrain.selflabel.detection.data import DetectionData

            data = DetectionData(manifest, candidate.objects, dataset)
            return DetailedComparison(overall=compare_on_test(data, detector, reference), per_class=())
    return None


def _read_like(model: SavedModel | SavedDetector, folder: Path) -> SavedModel | SavedDetector | None:
    """The model in `folder`, if it is of the same task as `model`."""
    try:
        return type(model).read(folder)
    except UntrustedFileError:
        other = SavedDetector if isinstance(model, SavedModel) else SavedModel
        other.read(folder)
        return None


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
