"""Recall: a teacher is withdrawn, with its pseudo-labels, the models it taught, and the champions among them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.registry import recall_log
from selftrain.adapters.registry.champions import current_user, rollback
from selftrain.adapters.registry.references import ADDRESS
from selftrain.adapters.registry.versions import CHAMPION, Version, get_version
from selftrain.adapters.tracking.store import open_to_read, open_tracking
from selftrain.errors import InputError, NotRegisteredError, RegistryError, SelftrainError
from selftrain.progress import Progress, silent
from selftrain.selflabel.lineage.descent import Recall, Recalled, Trust

if TYPE_CHECKING:
    from selftrain.adapters.lineage.archive import Archive, NamedTeacher
    from selftrain.adapters.lineage.store import KeptLabels

LONGEST_REASON = 1000  # characters: each later error quotes it


class LabelCount(BaseModel):
    """Labels of one class, and how many of them were accepted."""

    model_config = ConfigDict(frozen=True)

    given: int
    accepted: int


class RoundCount(BaseModel):
    """The pseudo-labels of a withdrawn or tainted teacher in one round of one run."""

    model_config = ConfigDict(frozen=True)

    run: str
    round: int
    teacher: str
    version: str | None
    trust: Trust
    given: int
    accepted: int
    classes: dict[str, LabelCount]


class ConcernedVersion(BaseModel):
    """A registered version that is withdrawn, or that descends from a withdrawn model."""

    model_config = ConfigDict(frozen=True)

    name: str
    uri: str
    trust: Trust
    aliases: tuple[str, ...]


class RecallReport(BaseModel):
    """A recall, and all that it concerns: rounds of pseudo-labels, and registered versions.

    `new` is False if the recall was made earlier. The file `written` holds every label of the rounds. `gone` are the
    addresses of rounds whose labels have left the artifact store, and are not counted.
    """

    model_config = ConfigDict(frozen=True)

    recall: Recall
    new: bool
    rounds: tuple[RoundCount, ...]
    versions: tuple[ConcernedVersion, ...]
    written: Path | None = None
    gone: tuple[str, ...] = ()

    @property
    def champions(self) -> tuple[ConcernedVersion, ...]:
        """The versions that are champion now."""
        return tuple(version for version in self.versions if CHAMPION in version.aliases)


def withdraw(
    reference: str,
    *,
    reason: str,
    workspace: Path,
    model_name: str | None = None,
    out: Path | None = None,
    progress: Progress = silent,
) -> RecallReport:
    """Withdraw the model that `reference` names, once, and report all that this concerns; nothing is deleted.

    Every label goes to `out` too. A model that is withdrawn already is only reported. Raises InputError unless
    `reference` names exactly one model, and for a first recall without a reason. Raises ConfigError for an `out` that
    cannot be written.
    """
    from selftrain.adapters.lineage.archive import open_archive, write_all
    from selftrain.selflabel.lineage.rows import check_label_file

    if out is not None:
        check_label_file(out)
    archive = open_archive(workspace)
    teacher = archive.teacher(reference, workspace=workspace, model_name=model_name)
    earlier = archive.recalled.withdrawn.get(teacher.identity)
    line = earlier or _append(teacher, "withdraw", why=_checked(reason), workspace=workspace)
    alone = Recalled.of([line], archive.descents)
    concerned = [each for each in archive.kept if archive.round_labels(each, alone).trust is not Trust.TRUSTED]
    report = RecallReport(
        recall=line,
        new=earlier is None,
        rounds=tuple(_count(archive, each, alone) for each in concerned),
        versions=tuple(_concerned(version, alone) for version in archive.versions if alone.cause(version.descent)),
        written=out,
        gone=archive.gone,
    )
    if out is not None:
        total = sum(each.images for each in concerned)
        write_all(archive, concerned, out, total=total, recalled=alone, progress=progress)
    return report


def take_back(reference: str, *, reason: str, workspace: Path, model_name: str | None = None) -> Recall:
    """Take back the recall of the model that `reference` names. Raises InputError unless it is withdrawn."""
    from selftrain.adapters.lineage.archive import open_archive

    archive = open_archive(workspace)
    teacher = archive.teacher(reference, workspace=workspace, model_name=model_name)
    if teacher.identity not in archive.recalled.withdrawn:
        listed = ", ".join(line.called for line in archive.recalled.in_force) or "nothing"
        raise InputError(f"{teacher.called} is not withdrawn (withdrawn now: {listed})")
    return _append(teacher, "restore", why=_checked(reason or "asked for"), workspace=workspace)


def recall_history(workspace: Path) -> list[Recall]:
    """Every line of the recall log, oldest first; empty before the first run."""
    tracking = open_to_read(workspace)
    return recall_log.read_log(tracking) if tracking is not None else []


def concern_of(model_uri: str | None, workspace: Path) -> str | None:
    """Why the version that a run in `workspace` registered is not to be trusted, or None."""
    address = ADDRESS.fullmatch(model_uri or "")
    if address is None:
        return None
    try:
        tracking = recall_log.open_log(workspace)
        if tracking is None:
            return None
        version = get_version(tracking, name=address["name"], number=int(address["number"]))
        return recall_log.recalled(tracking).concern(version.descent, version.uri)
    except NotRegisteredError:
        return None  # it was deleted
    except RegistryError as error:
        return f"it is not known whether {model_uri} was withdrawn since: {error}"


def roll_back(report: RecallReport, *, workspace: Path) -> tuple[Version, ...]:
    """Replace each champion that `report` concerns with the last trusted one before it; returns the new champions.

    Raises RegistryError, after all were tried, where some have no trusted champion before them.
    """
    tracking = open_tracking(workspace)
    why = f"{report.recall.called} was recalled: {report.recall.why}"
    who = current_user()
    champions: list[Version] = []
    errors: list[SelftrainError] = []
    for version in report.champions:
        try:
            champions.append(rollback(tracking, version.name, who=who, why=why))
        except SelftrainError as error:
            errors.append(error)
    if errors and len(report.champions) == 1:
        raise errors[0]
    if errors:
        done = [f"{champion.uri} is the champion of {champion.name!r} again" for champion in champions]
        raise RegistryError("; ".join([*(error.message for error in errors), *done]))
    return tuple(champions)


def _checked(reason: str) -> str:
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise InputError(
            f"a recall needs a reason, of at most {LONGEST_REASON} characters; later errors quote it: --reason '...'"
        )
    return " ".join(reason.split())


def _append(teacher: NamedTeacher, action: Literal["withdraw", "restore"], *, why: str, workspace: Path) -> Recall:
    line = Recall(
        number=0,
        when="",
        who=current_user(),
        action=action,
        identity=teacher.identity,
        file=teacher.file,
        called=teacher.called,
        why=why,
    )
    return recall_log.append(open_tracking(workspace), line)


def _count(archive: Archive, kept: KeptLabels, recalled: Recalled) -> RoundCount:
    from selftrain.selflabel.lineage.rows import class_counts

    labels = archive.round_labels(kept, recalled)
    names = kept.facts.class_names
    with kept.opened() as file:
        counts = class_counts(file, classes=len(names)).tolist()
    return RoundCount(
        run=labels.run,
        round=kept.facts.round,
        teacher=kept.facts.teacher,
        version=labels.version,
        trust=labels.trust,
        given=sum(each for each, _ in counts),
        accepted=sum(each for _, each in counts),
        classes={name: LabelCount(given=all_, accepted=sure) for name, (all_, sure) in zip(names, counts, strict=True)},
    )


def _concerned(version: Version, recalled: Recalled) -> ConcernedVersion:
    trust = recalled.trust(version.descent)
    return ConcernedVersion(name=version.name, uri=version.uri, trust=trust, aliases=version.aliases)
