"""Champions: which version is champion, why, and the append-only log of every change.

The log lives in the registry's own store, as tags of the registered model. Each tag is written once and never changed.
"""

from __future__ import annotations

import getpass
import json
from dataclasses import dataclass, replace

from selftrain.adapters.registry import recall_log, tag_log
from selftrain.adapters.registry.turn import champions_turn
from selftrain.adapters.registry.versions import (
    CHALLENGER,
    CHAMPION,
    Version,
    answering,
    challenger,
    champion,
    get_version,
    registered_model,
)
from selftrain.adapters.tracking.store import Tracking
from selftrain.errors import RegistryError, WithdrawnError
from selftrain.evaluate.promotion import Action, Change, PromotionDecision, champions_in_order, unfinished_move
from selftrain.files.lease import Lease
from selftrain.selflabel.lineage.descent import Recalled

LOG_TAG = "selftrain.promotion."
DECISION = "selftrain.decision"


def record_decision(tracking: Tracking, version: Version, decision: PromotionDecision, *, who: str) -> None:
    """Keep `decision` with `version`, where `promote` reads it; a refusal also goes into the log, once."""
    with answering(tracking):
        tracking.client.set_model_version_tag(version.name, str(version.number), DECISION, decision.model_dump_json())
    if decision.promote:
        return
    log = _open_log(tracking, version.name, who)
    refusals = {(line.to, line.why) for line in log.lines if line.action == "refuse"}
    if (version.number, decision.text) not in refusals:
        log.with_line("refuse", decision.against, version.number, decision.text)


def promote(
    tracking: Tracking,
    name: str,
    number: int | None = None,
    *,
    who: str,
    why: str = "",
    force: bool = False,
    turn: Lease | None = None,
) -> Version:
    """Make version `number` (None: the challenger) of the model `name` the champion, log it, and return it.

    Without `force` the version's recorded decision must allow it, against the present champion. With it, `why` must
    give a reason. Promoting the champion again only finishes a promotion that was killed. Raises RegistryError when the
    version does not exist or may not be promoted, and WithdrawnError when it is withdrawn or tainted.

    One process at a time changes the champion. `turn` is the lease of a caller whose turn it is already. Without it,
    the call waits, and raises LeaseHeldError if the other's turn does not end.
    """
    with champions_turn(tracking, name, who=who, turn=turn) as mine:
        return _promote(tracking, name, number, who=who, why=why, force=force, turn=mine)


def _promote(
    tracking: Tracking, name: str, number: int | None, *, who: str, why: str, force: bool, turn: Lease
) -> Version:
    version = challenger(tracking, name) if number is None else get_version(tracking, name=name, number=number)
    if version is None:
        raise RegistryError(f"{name!r} has no challenger; name a version, or run until one is registered")
    advice = "it is not promoted: promote another version, or take the recall back (selftrain recall --undo)"
    recall_log.recalled(tracking).refuse(version.descent, version.uri, advice=advice)
    present = champion(tracking, name)
    log = _open_log(tracking, name, who)
    unfinished = unfinished_move(log.lines, present.number if present else None)
    if present is not None and present.number == version.number:
        log.reverting(unfinished)
        return finish_promotion(tracking, version, turn)
    if force and not why:
        raise RegistryError(f"promoting {version.uri} by force needs a reason; say why")
    decision = decision_on(version)
    if not force:
        _refuse_unless_allowed(version, decision, present)
    turn.renew()  # where it was lost, nothing is logged that does not happen
    if unfinished is None or (unfinished.action, unfinished.to) != ("promote", version.number):
        previous = present.number if present else None
        log.reverting(unfinished).with_line("promote", previous, version.number, why or decision.text)
    return _crown(tracking, version, turn)


def finish_promotion(tracking: Tracking, champion: Version, turn: Lease) -> Version:
    """`champion` without the alias `challenger`, which it still has if its promotion was killed halfway."""
    return _crown(tracking, champion, turn) if CHALLENGER in champion.aliases else champion


def rollback(tracking: Tracking, name: str, *, who: str, why: str = "", turn: Lease | None = None) -> Version:
    """Give the alias `champion` back to the version that had it before, log it, and return that version.

    Repeated, it goes one champion further back each time. It passes over champions that are now withdrawn or tainted.
    The champion is the version that has the alias. If a promotion was killed before its alias was set, it never took
    effect, and the log takes it back. If a rollback was killed there, it is completed. Raises RegistryError without an
    earlier champion, WithdrawnError when all of them are withdrawn or tainted, and LeaseHeldError as `promote` does.
    """
    with champions_turn(tracking, name, who=who, turn=turn) as mine:
        return _roll_back(tracking, name, who=who, why=why, turn=mine)


def _roll_back(tracking: Tracking, name: str, *, who: str, why: str, turn: Lease) -> Version:
    recalled = recall_log.recalled(tracking)
    present = champion(tracking, name)
    log = _open_log(tracking, name, who)
    unfinished = unfinished_move(log.lines, present.number if present is not None else None)
    if unfinished is not None and unfinished.action == "rollback":
        version = get_version(tracking, name=name, number=unfinished.to)
        if recalled.cause(version.descent) is None:
            return _crown(tracking, version, turn)
    champions = champions_in_order([change for change in log.lines if change is not unfinished])
    while champions and present is not None and champions[-1] == present.number:
        champions.pop()
    if present is None or not champions:
        now = "it has no champion" if present is None else f"version {present.number} is the first champion"
        raise RegistryError(f"{name!r} has no earlier champion to go back to ({now}); promote a version instead")
    version = _newest_trusted(tracking, name, champions, recalled)
    turn.renew()
    log.reverting(unfinished).with_line("rollback", present.number, version.number, why or "asked for")
    return _crown(tracking, version, turn)


def _newest_trusted(tracking: Tracking, name: str, champions: list[int], recalled: Recalled) -> Version:
    """The last of `champions` that may be champion again; raises WithdrawnError if all are withdrawn or tainted."""
    earlier = [get_version(tracking, name=name, number=number) for number in reversed(champions)]
    for version in earlier:
        if recalled.cause(version.descent) is None:
            return version
    concern = recalled.concern(earlier[0].descent, earlier[0].uri)
    raise WithdrawnError(
        f"{name!r} has no earlier champion that may return: {concern}; promote another version "
        "(selftrain promote NUMBER --force --why ...), or run until one is registered"
    )


def current_user() -> str:
    """The user's name, for the log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user name
        return "unknown"


def history(tracking: Tracking, name: str) -> list[Change]:
    """Every change of the champion of the model `name`, oldest first; empty for an unknown model."""
    model = registered_model(tracking, name)
    return tag_log.lines(model.tags, LOG_TAG, Change) if model is not None else []


@dataclass(frozen=True)
class _Log:
    """The promotion log of the model `name`, as `who` reads it and adds to it."""

    tracking: Tracking
    name: str
    who: str
    lines: tuple[Change, ...]

    def with_line(self, action: Action, previous: int | None, to: int, why: str) -> _Log:
        """Write one more line; returns the log that has it."""
        number = self.lines[-1].number + 1 if self.lines else 1
        when = tag_log.now()
        line = Change(number=number, when=when, who=self.who, action=action, previous=previous, to=to, why=why)
        with answering(self.tracking):
            key = tag_log.new_key(LOG_TAG, number)
            self.tracking.client.set_registered_model_tag(self.name, key, line.model_dump_json())
        return replace(self, lines=(*self.lines, line))

    def reverting(self, unfinished: Change | None) -> _Log:
        """Log the opposite of `unfinished`, so that the log still says which version was champion when."""
        if unfinished is None or unfinished.previous is None:  # a first promotion has no opposite
            return self
        opposite: Action = "rollback" if unfinished.action == "promote" else "promote"
        why = f"the {unfinished.action} before was cut short and never took effect"
        return self.with_line(opposite, unfinished.to, unfinished.previous, why)


def _open_log(tracking: Tracking, name: str, who: str) -> _Log:
    return _Log(tracking, name, who, tuple(history(tracking, name)))


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


def _crown(tracking: Tracking, version: Version, turn: Lease) -> Version:
    """Move the alias to `version`, in its holder's own `turn`: renewed here, no other can have begun one."""
    turn.renew()
    with answering(tracking):
        tracking.client.set_registered_model_alias(version.name, CHAMPION, str(version.number))
        if CHALLENGER in version.aliases:
            tracking.client.delete_registered_model_alias(version.name, CHALLENGER)
    return get_version(tracking, name=version.name, number=version.number)
