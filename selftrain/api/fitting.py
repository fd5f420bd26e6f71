"""Fitting: the whole loop in one call, without ZenML, MLflow and DVC, on folders, arrays or an Experiment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry.starting_models import bring_teacher, check, described_weights
from selftrain.config import Experiment, FolderSource, parse
from selftrain.config.arguments import names_of
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.ingest.report import report_ingested
from selftrain.data.inputs.images import is_path
from selftrain.data.inputs.opening import open_images
from selftrain.data.inputs.spool import SpooledImages, spooled
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import ImageSource, open_source
from selftrain.data.sources.survey import survey
from selftrain.data.store import decoded_files
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import ConfigError, SourceError
from selftrain.files.places import check_out, user_path
from selftrain.files.writing import replace
from selftrain.learn.models import divergence
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.checkpoint import Checkpoints, prune
from selftrain.progress import Progress, noting
from selftrain.scaffold.choices import Wishes, choose, has_gpu
from selftrain.selflabel.loop import LoopResult, evaluate_on_test, run_loop
from selftrain.selflabel.rounds.outcome import outcome
from selftrain.selflabel.rounds.record import RunRecord, run_record

MODEL, RECORD, LABELS, EVALUATION, EXPERIMENT = (
    "model",
    "record.json",
    "pseudo_labels.parquet",
    "evaluation.json",
    "experiment.json",
)


@dataclass(frozen=True)
class Images:
    """What a user gives: each a folder, or each arrays or a stream; None where there is none."""

    labeled: object
    unlabeled: object
    validation: object = None
    test: object = None
    class_names: tuple[str, ...] | None = None

    def roles(self) -> Iterator[tuple[str, object, str | None]]:
        """(role, images, split) of those there are; the labelled ones are split later."""
        for role, split in (("labeled", None), ("unlabeled", "unlabeled"), ("validation",) * 2, ("test",) * 2):
            images = getattr(self, str(role))
            if images is not None:
                yield str(role), images, split


def images_of_call(
    labeled: object, unlabeled: object, validation: object, test: object, class_names: Sequence[str] | None
) -> Images | None:
    """The images that `fit` was called with; None where there are none, and the source of the experiment is used.

    Raises ConfigError for images without labelled ones, and for class names without images or that are none.
    """
    named = {"unlabeled": unlabeled, "validation": validation, "test": test, "class_names": class_names}
    there = [f"{name}=" for name, value in named.items() if value is not None]
    if labeled is not None:
        names = None if class_names is None else names_of(class_names, each="each number that labels are, from 0")
        return Images(labeled, unlabeled, validation, test, names)
    if there:
        raise ConfigError(
            f"{', '.join(there)} without labeled=; give labeled= and unlabeled= too, or leave {', '.join(there)} out: "
            "an experiment= alone takes all its images and classes from its own source"
        )
    return None


@dataclass(frozen=True)
class FitResult:
    """A finished fit: its record, the folder it left, and in that the folder of the best model."""

    record: RunRecord
    out: Path

    @property
    def model(self) -> Path:
        """The best model's folder, for `selftrain predict --model` and `selftrain.autolabel(model=...)`."""
        return self.out / MODEL


def fit(
    images: Images | None,
    base: Experiment | None,
    *,
    changes: Mapping[str, Any],
    workspace: Path,
    out: Path,
    progress: Progress,
) -> FitResult:
    """Run the loop on `images` (None: the source of `base`) and leave model, record and pseudo-labels in `out`.

    Its models stay in the workspace's cache: the same fit again, or one that was killed, trains none of them anew.

    Without `base` the settings are those that `selftrain init` would choose for the images; `changes` are laid over
    them. Raises ConfigError where `out` holds anything, cannot be written, or holds the workspace, SourceError where
    copies leave nothing to label, and what the loop raises.
    """
    _refuse_filled(out)
    base = _at_home(base) if base else None
    check_out(out, workspace=Path(base.workspace) if base else workspace)
    with _opened(images, base, workspace) as (source, e):
        e = _at_home(with_changes(e, changes))
        check_out(out, workspace=Path(e.workspace))
        check(e, e.place)
        _tidy(e)
        start_keras()
        made = _ingested(source, e, noting(progress, "ingest"))
    _refuse_empty_pool(made, e)
    first_teacher = _brought(e, made.manifest)
    run_id = run_key(e, made.manifest, first_teacher)
    folder = open_dataset(e.place).workspace.models / run_id
    looped = run_loop(
        e,
        made.manifest,
        open_dataset(e.place, e.machine),
        folder=folder,
        checkpoints=Checkpoints(open_dataset(e.place).checkpoints(code_digest.train()), e.machine.checkpoint_s),
        first_teacher=first_teacher,
        progress=progress,
    )
    read = divergence.trained((looped.final, looped.models[0], looped.control))
    looks = count_looks(open_dataset(e.place).workspace.root / "looks", made.manifest.split_digest(Split.TEST), read)
    report = evaluate_on_test(e, looped)
    record = run_record(
        e,
        made.manifest,
        outcome(e.gate, looped.history),
        report,
        run_id=run_id,
        ingested=report_ingested(made, open_dataset(e.place).store.quarantine_path),
        test_looks=looks,
        warnings=source.warnings() if isinstance(source, SpooledImages) else (),
    )
    texts = {RECORD: record.model_dump_json(indent=2), EVALUATION: report.model_dump_json(indent=2)}
    texts[EXPERIMENT] = e.model_dump_json(indent=2, exclude={"source"} if isinstance(source, SpooledImages) else None)
    _leave(out, looped, texts)
    return FitResult(record, out)


def with_changes(e: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """`e` with `changes`, sections as mappings or as those of selftrain.config, laid over it.

    Raises ConfigError naming the key.
    """
    return parse(_merged(e.model_dump(mode="json"), changes)) if changes else e


def count_looks(folder: Path, test_digest: str, models: Iterable[SavedModel]) -> int:
    """Count each of `models` as read on a test set, once a model; returns how many were ever read on it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{test_digest[:32]}.json"
    seen = set(json.loads(path.read_text())) if path.is_file() else set()
    seen |= {model.digest for model in models}
    replace(path, lambda part: part.write_text(json.dumps(sorted(seen), indent=1)))
    return len(seen)


def run_key(e: Experiment, manifest: Manifest, first_teacher: SavedModel | None) -> str:
    """Names all that the models of a loop follow from: settings, images, weights files, a brought teacher, code."""
    settings = e.model_dump_json(exclude={"title", "workspace", "machine", "source"})
    files = [str(described_weights(recipe.weights)) for recipe in (e.teacher, e.student)]
    brought = first_teacher.digest if first_teacher else "trained"
    code = code_digest.digest(["selftrain.selflabel.loop", "selftrain.data.store.dataset"])
    text = "\n".join([settings, manifest.digest, *files, brought, code])
    return f"fit-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _at_home(e: Experiment) -> Experiment:
    """`e` with ~ in its workspace for the user's home folder."""
    return e.model_copy(update={"workspace": str(user_path(e.workspace))})


@contextmanager
def _opened(
    images: Images | None, base: Experiment | None, workspace: Path
) -> Iterator[tuple[ImageSource, Experiment]]:
    """The source of the images, and the settings for it before changes."""
    if images is None:
        if base is None:
            raise ConfigError("there is nothing to fit on; give labeled= and unlabeled=, or experiment=")
        yield open_source(base.source), base
        return
    given = list(images.roles())
    folders = [role for role, one, _ in given if is_path(one)]
    if folders and len(folders) < len(given):
        others = ", ".join(role for role, _, _ in given if role not in folders)
        raise SourceError(f"{', '.join(folders)} are folders and {others} not; give all as folders, or all as arrays")
    where = {"workspace": base.workspace if base else str(workspace)}
    if folders:
        if images.class_names is not None:
            raise ConfigError("class_names= names labels that are numbers; those of folders are named by them: drop it")
        source = FolderSource.model_validate({role: str(one) for role, one, _ in given})
        e = base or choose(source, survey(source), Wishes(gpu=has_gpu())).experiment
        yield open_source(source), e.model_copy(update={"source": source, **where})
        return
    with spooled(Path(where["workspace"]), images.class_names) as spool:
        for role, one, split in given:
            opened = open_images(one, role=role, labeled=role != "unlabeled", image_rank=None, image_size=None)
            if not spool.add(opened, role=role, split=split):
                raise SourceError(f"{role} holds no image; give some")
        spool.refuse_range()
        e = base or _chosen(spool)
        yield spool, e.model_copy(update=where)


def _chosen(spool: SpooledImages) -> Experiment:
    """The settings that `selftrain init` would choose for folders of these images."""
    return choose(FolderSource(labeled="fit"), spool.survey(), Wishes(name="fit", gpu=has_gpu())).experiment


def _tidy(e: Experiment) -> None:
    """Keep the workspace from growing with every fit, as a pipeline's start does."""
    workspace = open_dataset(e.place).workspace
    prune(workspace.checkpoints)
    decoded_files.prune(workspace.decoded_cache, budget_mb=e.machine.decoded_mb)


def _ingested(source: ImageSource, e: Experiment, progress: Progress) -> IngestResult:
    return ingest(
        source,
        source.scan(),
        open_dataset(e.place).store,
        settings=e.ingest,
        splitting=e.splitting,
        workers=e.machine.workers,
        shard_mb=e.machine.shard_mb,
        progress=progress,
    )


def _refuse_empty_pool(made: IngestResult, e: Experiment) -> None:
    """Raise SourceError where a round would have nothing to label."""
    if e.gate.max_rounds and not made.manifest.rows(Split.UNLABELED).size:
        raise SourceError(
            "unlabeled: no image is left to learn from; those given are copies of labelled, validation or test images "
            f"or cannot be used, see {str(open_dataset(e.place).store.quarantine_path)!r}. Give others, or train on "
            'the labels alone with settings={"gate": {"min_rounds": 0, "max_rounds": 0}}'
        )


def _brought(e: Experiment, manifest: Manifest) -> SavedModel | None:
    """The first teacher where it is not trained."""
    if e.teacher.start == "train":
        return None
    names = manifest.label_map.names
    return bring_teacher(
        e.teacher.start, place=e.place, settings=e.registry, class_names=names, image_size=e.image_size
    )


def _leave(out: Path, looped: LoopResult, texts: Mapping[str, str]) -> None:
    """Fill `out` whole or not at all. Raises ConfigError where somebody else has filled it meanwhile."""
    place = Path(os.path.realpath(out))
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as scratch:
        part = Path(scratch) / "new"
        part.mkdir()
        shutil.copytree(looped.final.folder, part / MODEL)
        if looped.labels:
            looped.labels[-1].write(part / LABELS)
        for name, content in texts.items():
            (part / name).write_text(content + "\n", encoding="utf-8")
        _refuse_filled(out)
        part.rename(place)  # in place of an empty folder too


def _refuse_filled(out: Path) -> None:
    """Raise ConfigError where `out` is a file, or a folder that holds anything."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out={str(out)!r} is not empty; it was left as it is, give another folder")


def _merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, given in changes.items():
        change = given.model_dump(mode="json") if isinstance(given, BaseModel) else given
        before = merged.get(key)
        section = isinstance(change, Mapping) and isinstance(before, dict) and "kind" not in change
        merged[key] = _merged(before, change) if section and isinstance(before, dict) else change
    return merged
