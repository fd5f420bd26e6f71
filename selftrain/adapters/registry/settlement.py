"""Settlement: a passed run's model into the registry, and the decision whether it becomes champion."""

from __future__ import annotations

from selftrain.adapters.process.code_digest import everything
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry import champions, recall_log, registration, versions
from selftrain.adapters.registry.versions import Version
from selftrain.adapters.tracking.looks import count_looks
from selftrain.adapters.tracking.runs import is_recorded
from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.config import Machine, Place, Registry
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.evaluation import Comparison, EvaluationReport, compare
from selftrain.evaluate.promotion import MeasuredOnTest, judge_promotion
from selftrain.learn.models.contract import SavedModel
from selftrain.report.model_card import model_card
from selftrain.selflabel.rounds.history import Verdict
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration


def register_and_promote(
    manifest: Manifest,
    final: SavedModel,
    report: EvaluationReport,
    ended: Outcome,
    *,
    place: Place,
    settings: Registry,
    machine: Machine,
    run_id: str,
    run_key: str,
    dataset_version: str,
) -> Registration:
    """Register the model of a passed run once, judge it against the champion, and say what came of it.

    Raises WithdrawnError for a model that is withdrawn or tainted; a champion that is so is said to be.
    """
    tracking = open_tracking(open_dataset(place).workspace.root)
    present = versions.champion(tracking, settings.model_name)
    if ended.verdict is not Verdict.PASSED:
        return Registration(
            model_name=settings.model_name,
            champion_version=present.number if present else None,
            reason="not registered: only a run that passes its gate is" + recall_log.alarm(tracking, present),
        )
    recall_log.refuse(tracking, final.contract)
    with versions.answering(tracking):
        version = registration.register(
            tracking,
            model_folder=final.folder,
            contract=final.contract,
            report=report,
            run_key=run_key,
            tags=_tags(manifest, ended.verdict, dataset_version, place),
            card=model_card(final.contract, report, ended.history.rounds),
            settings=settings,
            run_id=run_id,
        )
    if present is not None and present.number == version.number:
        return _found_again(tracking, settings, version)
    return _judge(
        tracking,
        manifest,
        final,
        report,
        version,
        present,
        place=place,
        settings=settings,
        machine=machine,
        run_id=run_id,
    )


def _found_again(tracking: Tracking, settings: Registry, version: Version) -> Registration:
    """What came of a version that is champion already; promoted, if the run that did it was killed before it told."""
    champion = champions.finish_promotion(tracking, version)
    known = is_recorded(tracking, model_name=champion.name, version=champion.number)
    reason = champions.decision_on(champion).text
    by_run = [(last.to, last.why) for last in _moves(tracking, champion)[-1:]] == [(champion.number, reason)]
    if settings.auto_promote and by_run and not known:
        return _registration(tracking, settings, champion, champion, promoted=True, reason=reason)
    reason = "it is this very model, found again"
    return _registration(tracking, settings, champion, champion, promoted=False, reason=reason)


def _judge(
    tracking: Tracking,
    manifest: Manifest,
    final: SavedModel,
    report: EvaluationReport,
    version: Version,
    present: Version | None,
    *,
    place: Place,
    settings: Registry,
    machine: Machine,
    run_id: str,
) -> Registration:
    test_digest = manifest.split_digest(Split.TEST)
    measured = MeasuredOnTest(
        model_digest=final.contract.weights_sha256,
        test_digest=test_digest,
        report=report,
        against=present.number if present else None,
        comparison=_against(tracking, manifest, final, present, place=place, machine=machine, run_id=run_id)
        if present
        else None,
    )
    decision = judge_promotion(
        settings,
        measured,
        model_digest=version.model_digest,
        test_digest=test_digest,
        champion=present.number if present else None,
    )
    who = champions.current_user()
    champions.record_decision(tracking, version, decision, who=who)
    if not decision.promote:
        return _registration(tracking, settings, version, present, promoted=False, reason=decision.text)
    by_hand = f"`selftrain promote {version.number}` makes it champion: {decision.text}"
    if not settings.auto_promote:
        reason = f"registry.auto_promote is off; {by_hand}"
        return _registration(tracking, settings, version, present, promoted=False, reason=reason)
    if _moved_before(tracking, version):
        reason = f"it was champion before and was taken back; {by_hand}"
        return _registration(tracking, settings, version, present, promoted=False, reason=reason)
    champions.promote(tracking, settings.model_name, version.number, who=who, why=decision.text)
    return _registration(tracking, settings, version, version, promoted=True, reason=decision.text)


def _moved_before(tracking: Tracking, version: Version) -> bool:
    """Whether `version` was champion once: then it moves by hand only, and a repeated run undoes no rollback."""
    log = _moves(tracking, version)
    if log and log[-1].action == "promote" and log[-1].to == version.number:
        log.pop()  # killed between the log and the alias: to be finished
    return any(version.number in (change.to, change.previous) for change in log)


def _moves(tracking: Tracking, version: Version) -> list[champions.Change]:
    """Every change of the champion, oldest first."""
    return [change for change in champions.history(tracking, version.name) if change.action != "refuse"]


def _against(
    tracking: Tracking,
    manifest: Manifest,
    final: SavedModel,
    present: Version,
    *,
    place: Place,
    machine: Machine,
    run_id: str,
) -> Comparison | None:
    """The new model against the champion on this run's test images; None where the champion knows other classes."""
    start_keras()
    from selftrain.selflabel.teaching.scoring import probs_on_test

    cache = open_dataset(place).workspace.models
    champion = SavedModel.read(versions.load_model_folder(tracking, present, cache=cache))
    if champion.contract.class_names != manifest.label_map.names:
        return None
    count_looks(manifest, (final, champion), place=place, run_id=run_id)
    ours, theirs = (
        probs_on_test(manifest, open_dataset(place, machine).pixels(manifest, model.contract.image_size), model)
        for model in (final, champion)
    )
    return compare(manifest.labels()[manifest.rows(Split.TEST)], ours, theirs)


def _tags(manifest: Manifest, verdict: Verdict, dataset_version: str, place: Place) -> dict[str, str]:
    return {
        "selftrain.manifest_digest": manifest.digest,
        "selftrain.dataset": place.dataset,
        "selftrain.dataset_version": dataset_version,
        "selftrain.code": everything(),
        "selftrain.verdict": verdict.value,
    }


def _registration(
    tracking: Tracking,
    settings: Registry,
    version: Version,
    champion: Version | None,
    *,
    promoted: bool,
    reason: str,
) -> Registration:
    return Registration(
        model_name=settings.model_name,
        registered_version=version.number,
        champion_version=champion.number if champion else None,
        promoted=promoted,
        reason=reason + recall_log.alarm(tracking, champion),
        model_uri=version.uri,
    )
