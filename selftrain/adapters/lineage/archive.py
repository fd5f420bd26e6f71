"""The label archive: every pseudo-label, and who taught whom, from ZenML's runs and the registry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.lineage.store import KeptLabels, kept_labels
from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.registry import recall_log
from selftrain.adapters.registry.references import find_version
from selftrain.adapters.registry.versions import CHALLENGER, CHAMPION, Version, all_versions
from selftrain.adapters.runs.records import has_runs
from selftrain.adapters.tracking.store import open_existing
from selftrain.errors import InputError, RegistryError, SourceError
from selftrain.learn.models.contract import file_digest
from selftrain.progress import Progress, silent
from selftrain.selflabel.lineage.descent import SHOWN, Descent, Recall, Recalled
from selftrain.selflabel.lineage.rows import (
    LabelRow,
    RoundLabels,
    check_label_file,
    matching_ids,
    rows,
    values,
    write_rows,
)

WHOLE = 64  # characters of a digest
SHORTEST = 8  # characters of a digest's beginning; a shorter number is a version
NAMED = 5


@dataclass(frozen=True)
class NamedTeacher:
    """A model that a user named: its identity, its file's sha256 (empty: unknown), and its name for the user."""

    identity: str
    file: str
    called: str

    @property
    def names(self) -> frozenset[str]:
        """Every name of the model."""
        return frozenset({self.identity, self.file} - {""})


class LabelPage(BaseModel):
    """The pseudo-labels that match a query: `total` of them, the first as `labels`, all in the file `written`.

    `gone` are the addresses of rounds whose labels are no longer in the artifact store.
    """

    model_config = ConfigDict(frozen=True)

    total: int
    labels: tuple[LabelRow, ...]
    written: Path | None = None
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Archive:
    """Every round's pseudo-labels, every registered version, and the recall log."""

    kept: tuple[KeptLabels, ...]
    gone: tuple[str, ...]
    versions: tuple[Version, ...]
    log: tuple[Recall, ...]

    @cached_property
    def descents(self) -> tuple[Descent, ...]:
        """All known models, and who taught them."""
        teachers = (Descent(frozenset({each.facts.teacher}), each.facts.lineage) for each in self.kept)
        return (*(version.descent for version in self.versions), *teachers)

    @cached_property
    def recalled(self) -> Recalled:
        """What is withdrawn now."""
        return Recalled.of(self.log, self.descents)

    def round_labels(self, kept: KeptLabels, recalled: Recalled | None = None) -> RoundLabels:
        """`kept` with its teacher's addresses, and its trust by `recalled` (None: by the whole log)."""
        model = Descent(frozenset({kept.facts.teacher}), kept.facts.lineage)
        trust = (recalled or self.recalled).trust(model)
        return RoundLabels(kept.run, kept.facts, self.addresses(model.names), trust)

    def addresses(self, names: frozenset[str]) -> str | None:
        """The registry addresses of the model that has one of `names`, comma-separated; None: unregistered."""
        uris = [version.uri for version in self.versions if not names.isdisjoint(version.descent.names)]
        return ", ".join(uris) or None

    def by(self, teacher: NamedTeacher) -> tuple[KeptLabels, ...]:
        """The rounds that `teacher` labelled."""
        return tuple(each for each in self.kept if each.facts.teacher in teacher.names)

    def teacher(self, reference: str, *, workspace: Path, model_name: str | None) -> NamedTeacher:
        """The model that `reference` names: a version's number, address or alias, or the beginning of a digest.

        Raises InputError unless it names exactly one model, and RegistryError for a version without selftrain's tags.
        """
        number = reference.isdecimal() and len(reference) < SHORTEST
        if number or reference in (CHAMPION, CHALLENGER) or reference.startswith("models:/"):
            _, version = find_version(reference, workspace=workspace, model_name=model_name)
            if not version.identity:
                raise RegistryError(f"{version.uri} was not registered by selftrain: it does not say which model it is")
            return NamedTeacher(version.identity, version.model_digest, version.uri)
        if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},{WHOLE}}}", reference):
            raise InputError(
                f"{reference!r} does not name a model: give a version's number, models:/NAME/NUMBER, champion, or at "
                f"least {SHORTEST} characters of a teacher's digest"
            )
        return self._by_digest(reference)

    def _by_digest(self, beginning: str) -> NamedTeacher:
        files = {version.model_digest: version.identity for version in self.versions}
        taught = (name for model in self.descents for name in model.lineage)
        identities = {*files.values(), *taught, *(each.facts.teacher for each in self.kept)}
        identities |= {line.identity for line in self.log}
        matches = {name for name in identities if name.startswith(beginning)}
        matches |= {identity for file, identity in files.items() if file.startswith(beginning)}
        if not matches:
            raise InputError(
                f"no model known here has a digest that begins with {beginning}: no such model labelled in a run "
                "or was registered"
            )
        if len(matches) > 1:
            listed = ", ".join(name[: max(SHOWN, len(beginning) + 4)] for name in sorted(matches)[:NAMED])
            raise InputError(
                f"{len(matches)} models have digests that begin with {beginning}: {listed}; give more characters"
            )
        (identity,) = matches
        file = next((file for file, name in files.items() if name == identity), "")
        return NamedTeacher(identity, file, self.addresses(frozenset({identity})) or f"teacher {identity[:SHOWN]}")


def open_archive(workspace: Path) -> Archive:
    """The archive of ZenML's store and of the workspace's registry; nothing is created."""
    prepare_process()
    tracking = open_existing(workspace)
    kept, gone = kept_labels()
    versions = all_versions(tracking) if tracking is not None else []
    log = recall_log.read_log(tracking) if tracking is not None else []
    return Archive(tuple(kept), tuple(gone), tuple(versions), tuple(log))


def find_labels(
    *,
    image: str | None,
    teacher: str | None,
    workspace: Path,
    model_name: str | None = None,
    limit: int,
    out: Path | None = None,
    progress: Progress = silent,
) -> LabelPage:
    """The pseudo-labels of one image (a file, or the beginning of its image_id), by one teacher, or both.

    All of them go to `out`. Raises InputError unless `image` and `teacher` name exactly one each, SourceError before
    the first run, and ConfigError for an `out` that cannot be written.
    """
    if image is None and teacher is None:
        raise InputError("say which labels: --image with an image_id or a file, --teacher with a version or a digest")
    if out is not None:
        check_label_file(out)
    prefix = _image_id(image) if image is not None else ""
    archive = open_archive(workspace)
    if not has_runs():
        raise SourceError("no run has been started yet; start one with `selftrain run`")
    chosen = archive.kept
    if teacher is not None:
        chosen = archive.by(archive.teacher(teacher, workspace=workspace, model_name=model_name))
    counts = _counted(chosen, prefix)
    chosen = tuple(each for each, count in zip(chosen, counts, strict=True) if count)
    shown: list[LabelRow] = []
    for table in all_rows(archive, chosen, prefix=prefix):
        shown += values(table.slice(0, limit - len(shown)))
        if len(shown) >= limit:
            break
    if out is not None:
        write_all(archive, chosen, out, prefix=prefix, total=sum(counts), progress=progress)
    return LabelPage(total=sum(counts), labels=tuple(shown), written=out, gone=archive.gone)


def all_rows(
    archive: Archive, chosen: Iterable[KeptLabels], *, prefix: str = "", recalled: Recalled | None = None
) -> Iterator[pa.Table]:
    """The rows of the rounds `chosen`, a group of rows at a time."""
    for each in chosen:
        with each.opened() as labels, each.manifest() as manifest:
            yield from rows(archive.round_labels(each, recalled), labels, manifest, prefix=prefix)


def write_all(
    archive: Archive,
    chosen: Sequence[KeptLabels],
    out: Path,
    *,
    prefix: str = "",
    total: int,
    recalled: Recalled | None = None,
    progress: Progress = silent,
) -> None:
    """Write the rows of the rounds `chosen` to `out`."""

    def counted() -> Iterator[pa.Table]:
        done = 0
        for table in all_rows(archive, chosen, prefix=prefix, recalled=recalled):
            yield table
            done += table.num_rows
            progress(done, total)

    names = tuple(dict.fromkeys(name for each in chosen for name in each.facts.class_names))
    write_rows(counted(), out, class_names=names)


def _image_id(image: str) -> str:
    """The image_id, or its beginning, that `image` gives. A file's is the sha256 of its bytes."""
    if Path(image).is_file():
        return file_digest(Path(image))
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},{WHOLE}}}", image):
        return image
    raise InputError(f"--image {image!r} is neither a file nor an image_id; give at least {SHORTEST} characters of one")


def _counted(chosen: Sequence[KeptLabels], prefix: str) -> list[int]:
    """How many rows of each round have an image_id that begins with `prefix`. InputError unless it is one image."""
    if not prefix:
        return [each.images for each in chosen]
    counts: list[int] = []
    ids: set[str] = set()
    for each in chosen:
        with each.opened() as file:
            matches = matching_ids(file, prefix)
        counts.append(len(matches))
        ids |= set(pc.unique(matches).slice(0, NAMED).to_pylist())
    if len(ids) > 1:
        listed = ", ".join(name[: len(prefix) + 4] for name in sorted(ids)[:NAMED])
        raise InputError(f"several images have an image_id that begins with {prefix}: {listed}; give more characters")
    if not ids and len(prefix) < WHOLE:
        raise InputError(f"no image whose image_id begins with {prefix} has a pseudo-label")
    return counts
