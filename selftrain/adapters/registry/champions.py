"""Promotion: which version is champion, why, and the append-only log of every change.

The log lives in the registry's own store, as tags of the registered model that are written once and never changed.
"""

from __future__ import annotations

import getpass
import json
from typing import Literal

from pydantic import Field

from selftrain.adapters.registry import recall_log, tag_log
from selftrain.adapters.registry.versions import (
    CHALLENGER,
    CHAMPION,
    Version,
    answering,
    challenger,
    champion,
    get_version,
)
from selftrain.adapters.tracking.store import Tracking
from selftrain.errors import RegistryError, WithdrawnError
from selftrain.evaluate.evaluation import Facts
from selftrain.evaluate.promotion import PromotionDecision
from selftrain.selflabel.lineage.descent import Recalled

LOG_TAG = "selftrain.promotion."
DECISION = "selftrain.decision"
Action = Literal["promote", "rollback", "refuse"]


class Change(Facts):
    """One line of the log: version `to` took the alias from `previous`, or was refused it."""

    number: int
    when: str
    who: str
    action: Action
    previous: int | None = Field(description="champion before")
    to: int
    why: str


def record_decision(tracking: Tracking, version: Version, decision: PromotionDecision, *, who: str) -> None:
    """Keep `decision` with `version`, where `promote` reads it; a refusal also goes into the log, once."""
    with answering(tracking):
        tracking.client.set_model_version_tag(version.name, str(version.number), DECISION, decision.model_dump_json())
    if decision.promote:
        return
    log = history(tracking, version.name)
    if any(one.action == "refuse" and one.to == version.number and one.why == decision.text for one in log):
        return
    _append(tracking, version.name, log, who, "refuse", decision.against, version.number, decision.text)


def promote(
    tracking: Tracking, name: str, number: int | None = None, *, who: str, why: str = "", force: bool = False
) -> Version:
    """Make version `number` (None: the challenger) of the model `name` the champion, and log it; returns it.

    Without `force` the version's recorded decision must allow it, against the champion there is now. With it, `why`
    must say why. Promoting the champion only finishes what a kill cut short. Raises RegistryError when there is no such
    version, or it may not be promoted: forced or not, none that is withdrawn or tainted (WithdrawnError).
    """
    version = challenger(tracking, name) if number is None else get_version(tracking, name=name, number=number)
    if version is None:
        raise RegistryError(f"{name!r} has no challenger; name a version, or run until one is registered")
    advice = "it is not promoted: promote another version, or take the recall back (selftrain recall --undo)"
    recall_log.recalled(tracking).refuse(version.descent, version.uri, advice=advice)
    present = champion(tracking, name)
    log = history(tracking, name)
    if present is not None and present.number == version.number:
        _withdraw(tracking, name, log, _half_done(log, present.number), who)
        return finish_promotion(tracking, version)
    if force and not why:
        raise RegistryError(f"promoting {version.uri} by force needs a reason; say why")
    decision = decision_on(version)
    if not force:
        _refuse_unless_allowed(version, decision, present)
    previous = present.number if present is not None else None
    begun = _half_done(log, previous)
    if begun is None or (begun.action, begun.to) != ("promote", version.number):
        log = _withdraw(tracking, name, log, begun, who)
        _append(tracking, name, log, who, "promote", previous, version.number, why or decision.text)
    return _crown(tracking, version)


def finish_promotion(tracking: Tracking, champion: Version) -> Version:
    """`champion` without the alias `challenger`, which it has still where a kill came before its promotion took it."""
    return _crown(tracking, champion) if CHALLENGER in champion.aliases else champion


def rollback(tracking: Tracking, name: str, *, who: str, why: str = "") -> Version:
    """Give the alias `champion` back to the version that had it before, and log it; returns that version.

    Repeated, it goes one champion further back each time. Champions that are withdrawn or tainted now are passed over.
    The champion is whoever has the alias: a promotion that a kill cut short of it never took effect and is withdrawn in
    the log, a rollback is carried out. Raises RegistryError when there is none to go back to, WithdrawnError where
    those there were may not be champion again.
    """
    recalled = recall_log.recalled(tracking)
    present = champion(tracking, name)
    log = history(tracking, name)
    begun = _half_done(log, present.number if present is not None else None)
    if begun is not None and begun.action == "rollback":
        version = get_version(tracking, name=name, number=begun.to)
        if recalled.cause(version.descent) is None:
            return _crown(tracking, version)
    champions = _stack([change for change in log if change is not begun])
    while champions and present is not None and champions[-1] == present.number:
        champions.pop()
    if present is None or not champions:
        now = "there is no champion" if present is None else f"version {present.number} is the first champion"
        raise RegistryError(f"{name!r} has no earlier champion to go back to ({now}); promote a version instead")
    version = _newest_trusted(tracking, name, champions, recalled)
    log = _withdraw(tracking, name, log, begun, who)
    _append(tracking, name, log, who, "rollback", present.number, version.number, why or "asked for")
    return _crown(tracking, version)


def _newest_trusted(tracking: Tracking, name: str, champions: list[int], recalled: Recalled) -> Version:
    """The last of `champions` that may be one again; WithdrawnError, which says why the last may not, for none."""
    earlier = [get_version(tracking, name=name, number=number) for number in reversed(champions)]
    for version in earlier:
        if recalled.cause(version.descent) is None:
            return version
    concern = recalled.concern(earlier[0].descent, earlier[0].uri)
    raise WithdrawnError(
        f"{name!r} has no earlier champion that may be one again: {concern}; promote another version "
        "(selftrain promote NUMBER --force --why ...), or run until one is registered"
    )


def current_user() -> str:
    """Who asks, for the log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user name
        return "unknown"


def history(tracking: Tracking, name: str) -> list[Change]:
    """Every change of the champion of the model `name`, oldest first; empty when there is no such model."""
    from mlflow.exceptions import MlflowException

    try:
        tags = tracking.client.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return []
        raise RegistryError(f"the registry does not answer for the model {name!r}: {error}") from error
    return tag_log.lines(tags, LOG_TAG, Change)


def _append(
    tracking: Tracking,
    name: str,
    log: list[Change],
    who: str,
    action: Action,
    previous: int | None,
    to: int,
    why: str,
) -> list[Change]:
    """The log with one more line."""
    number = log[-1].number + 1 if log else 1
    change = Change(number=number, when=tag_log.now(), who=who, action=action, previous=previous, to=to, why=why)
    with answering(tracking):
        tracking.client.set_registered_model_tag(name, tag_log.new_key(LOG_TAG, number), change.model_dump_json())
    return [*log, change]


def decision_on(version: Version) -> PromotionDecision:
    """What `record_decision` kept with `version`."""
    text = version.tags.get(DECISION)
    if text is None:
        return PromotionDecision(promote=False, reasons=("it was never judged on test",))
    return PromotionDecision.model_validate(json.loads(text))


def _refuse_unless_allowed(version: Version, decision: PromotionDecision, present: Version | None) -> None:
    reason = decision.text if not decision.promote else None
    now = present.number if present is not None else None
    if reason is None and decision.against != now:
        reason = f"it was compared with champion {decision.against}, and the champion is {now}"
    if reason is not None:
        raise RegistryError(f"{version.uri} is not promoted: {reason}. Run again, or force it and say why")


def _half_done(log: list[Change], present: int | None) -> Change | None:
    """The log's last move, if a kill came before its alias was set: the champion `present` is still the one before."""
    moves = [change for change in log if change.action != "refuse"]
    last = moves[-1] if moves else None
    return last if last is not None and last.to != present and last.previous == present else None


def _withdraw(tracking: Tracking, name: str, log: list[Change], begun: Change | None, who: str) -> list[Change]:
    """The log with `begun` taken back by its opposite: whoever reads it sees who was champion when."""
    if begun is None or begun.previous is None:  # of a first promotion there is no opposite
        return log
    opposite: Action = "rollback" if begun.action == "promote" else "promote"
    why = f"the {begun.action} before was cut short and never took effect"
    return _append(tracking, name, log, who, opposite, begun.to, begun.previous, why)


def _crown(tracking: Tracking, version: Version) -> Version:
    with answering(tracking):
        tracking.client.set_registered_model_alias(version.name, CHAMPION, str(version.number))
        if CHALLENGER in version.aliases:
            tracking.client.delete_registered_model_alias(version.name, CHALLENGER)
    return get_version(tracking, name=version.name, number=version.number)


def _stack(log: list[Change]) -> list[int]:
    """The champions by the log, each above the one it replaced; a rollback takes the top off."""
    champions: list[int] = []
    for change in log:
        match change.action:
            case "promote":
                if change.previous in champions:
                    del champions[champions.index(change.previous) + 1 :]
                elif change.previous is not None:
                    champions.append(change.previous)  # made champion by other means than ours
                champions.append(change.to)
            case "rollback":
                while champions and champions[-1] != change.to:
                    champions.pop()
            case "refuse":
                pass
    return champions
