"""Boxes from the command line: `init` with a file of boxes, and `pseudo-label` and `predict` with a detector."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from selftrain.cli.predictions import NOTHING_READ, Looking
from selftrain.cli.shared.options import print_columns, print_json
from selftrain.errors import ConfigError, WithdrawnError
from selftrain.naming import name_rows

if TYPE_CHECKING:
    from selftrain.adapters.registry.references import FoundModel
    from selftrain.autolabeling.folders.found_objects import ObjectAnswer
    from selftrain.autolabeling.folders.sources import ListedSources
    from selftrain.learn.detection.saving import SavedDetector
    from selftrain.learn.models.answers import Answer
    from selftrain.scaffold.draft import Wishes


ROBOFLOW = "_annotations.coco.json"
"""The file in each folder of Roboflow's COCO export: train, valid and test."""


def held_out_in(
    yolo: Path | None, folders: dict[str, str | None], *, coco: Path | None = None
) -> dict[str, str | None]:
    """`folders`, with the held-out splits of the data.yaml `yolo` or of Roboflow's folder `coco`.

    What the user gave comes first.
    """
    from selftrain.data.sources.objects.yolo import yolo_splits

    own = {} if yolo is None else dict.fromkeys(yolo_splits(yolo), str(yolo))
    if coco is not None and coco.is_dir():
        parts = {"validation": coco / "valid" / ROBOFLOW, "test": coco / "test" / ROBOFLOW}
        own |= {split: str(file) for split, file in parts.items() if file.is_file()}
    return folders | {split: folders[split] or file for split, file in own.items()}


def _roboflow(folder: Path) -> Path:
    """The file of the training images in a folder of Roboflow's. Raises ConfigError where there is none."""
    found = next((file for part in ("train", ".") if (file := folder / part / ROBOFLOW).is_file()), None)
    if found is None:
        raise ConfigError(
            f"--coco {str(folder)!r} is a folder without train/{ROBOFLOW}, as Roboflow exports it; give the JSON file"
        )
    return found


def drawn_in(
    coco: Path | None,
    voc: Path | None,
    images: str | None,
    *,
    yolo: Path | None = None,
    label_studio: Path | None = None,
) -> tuple[str, str]:
    """The file or folder of objects, and the folder of their images. Raises ConfigError for several or none."""
    from selftrain.data.sources.objects.label_studio import holds_tasks
    from selftrain.data.sources.objects.voc import voc_folders
    from selftrain.data.sources.objects.yolo import yolo_root

    if sum(each is not None for each in (coco, voc, yolo, label_studio)) > 1:
        raise ConfigError(
            "--coco, --voc, --yolo and --label-studio exclude each other; give the one that holds your boxes"
        )
    if label_studio is not None:
        if not holds_tasks(label_studio):
            raise ConfigError(
                f"--label-studio {str(label_studio)!r} is not a list of tasks; export the project as JSON. Its COCO "
                "export goes to --coco"
            )
        return str(label_studio), images or str(label_studio.parent)
    if coco is not None:
        coco = _roboflow(coco) if coco.is_dir() else coco
        return str(coco), images or str(coco.parent)
    if yolo is not None:
        if not yolo.is_file() or yolo.suffix not in (".yaml", ".yml"):
            raise ConfigError(f"--yolo {str(yolo)!r} is not a YAML file; give the data.yaml of the data set")
        if images is not None:
            raise ConfigError("--images: a data.yaml names the folders of its images itself; leave it out")
        return str(yolo), yolo_root(yolo)
    if voc is None:
        raise ConfigError(
            "--images names the folder of the images; give their boxes too: --coco labels.json, or --voc DIR"
        )
    if not voc.is_dir():
        raise ConfigError(f"--voc {str(voc)!r} is not a folder; give the one that holds the XML files")
    files, photos = voc_folders(voc)
    return str(files), images or str(photos)


def choose(
    drawn: tuple[str, str],
    folders: Mapping[str, str | None],
    unused: Mapping[str, object],
    wishes: Wishes,
    out: Path | None,
    *,
    command: str,
    force: bool,
    as_json: bool,
) -> None:
    """Look at `drawn`, as `drawn_in` gives it, and write a configuration for a detector."""
    from selftrain.config import CocoSource
    from selftrain.scaffold.detectors import scaffold_detector

    given = [name for name, value in unused.items() if value is not None]
    if given == ["--minutes"]:
        raise ConfigError(
            "--minutes: the speed of detectors is not measured; set detection's steps in the file instead"
        )
    if given:
        raise ConfigError(
            f"--coco, --voc or --yolo and {given[0]} exclude each other: boxes name their images and classes"
        )
    if folders["unlabeled"] is None:
        raise ConfigError("give --unlabeled FOLDER: self-training learns from images without labels")
    source = CocoSource(
        annotations=drawn[0],
        images=drawn[1],
        unlabeled=folders["unlabeled"],
        validation=folders["validation"],
        test=folders["test"],
        classes=wishes.classes or None,
    )
    chosen = scaffold_detector(source, wishes, out, command=command, force=force)
    if as_json:
        print_json(chosen)
        return
    typer.echo("\n".join(chosen.lines()))
    typer.echo(f"written: {chosen.path}   next: selftrain run --config {shlex.quote(str(chosen.path))}")


def refuse_unused(**options: object) -> None:
    """Raise ConfigError for an option that a classifier alone reads."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: the model is a detector, which reads --threshold, --flips and --materialize"
        )


def label_objects(
    found: FoundModel,
    detector: SavedDetector,
    images: Path,
    out: Path,
    *,
    threshold: float | None,
    drawn: Path | None,
    flips: bool,
    as_json: bool,
) -> None:
    """Write the boxes that the `detector` of the model `found` sees in a folder, and say what they are."""
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.process.quiet_start import start_keras
    from selftrain.autolabeling.folders.detect_files import check_outputs, detect_folder

    if found.concern is not None:
        raise WithdrawnError(f"{found.concern}; nothing is labelled with it: name another model")
    check_outputs(images, out, drawn)
    start_keras()
    with progress("label") as show:
        done = detect_folder(detector, images, out, threshold=threshold, drawn=drawn, flips=flips, progress=show)
    _say_default(found, threshold)
    if as_json:
        print_json(done)
        return
    typer.echo(
        f"{done.objects} objects in {done.images} images by {found.called}; {done.without_objects} images have none; "
        f"{done.quarantined} could not be read"
    )
    print_columns([(f"  {name}", str(n), f"from {done.thresholds[name]:.2f}") for name, n in done.by_class.items()])
    typer.echo("written: " + ", ".join(str(each) for each in (done.coco, done.quarantine, done.drawn) if each))


def _say_default(found: FoundModel, threshold: float | None) -> None:
    from selftrain.autolabeling.folders.found_objects import BY_DEFAULT

    if threshold is not None or found.detector is None:
        return
    known = found.detector.contract.thresholds
    never = [name for name, least in known.items() if least >= 1]
    if not known:
        said = f"{found.called} was not precise enough on validation to name thresholds, so {BY_DEFAULT} was taken"
        typer.echo(f"{said}; --threshold sets another", err=True)
    elif never:
        said = (
            f"{found.called} was not precise at any score on validation for {name_rows(never)}, so no such box counts"
        )
        typer.echo(f"{said}; --threshold shows them", err=True)


def predict_objects(
    found: FoundModel,
    detector: SavedDetector,
    files: Sequence[str],
    wrong: Sequence[Answer],
    *,
    looking: Looking,
    as_json: bool,
) -> None:
    """Print the objects in `files`; `wrong` are the rows of paths that name no file."""
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.process.quiet_start import start_keras
    from selftrain.autolabeling.folders.found_objects import BATCH, ObjectAnswer, answer_of, find_objects, lowest_scores
    from selftrain.autolabeling.folders.sources import ListedImage, read_file
    from selftrain.data.workers import cores

    start_keras(lean=True)
    contract = detector.contract
    images, lowest = [ListedImage(path, "", read_file) for path in files], lowest_scores(contract, looking.threshold)
    with progress("predict") as show:
        seen = find_objects(
            *(detector, images, lowest),
            threads=cores(),
            batch_size=looking.batch_size or BATCH,
            flips=looking.flips,
            progress=show,
        )
        rows = [answer_of(each, contract.class_names) for each in seen]
    rows += [ObjectAnswer(path=each.path, error=each.error) for each in wrong]
    typer.echo(f"by {found.called}", err=True)
    _say_default(found, looking.threshold)
    _warn(found)
    if as_json:
        print_json(rows)
    else:
        print_columns([line for row in rows for line in _lines(row)])
    if all(row.error is not None for row in rows):
        raise typer.Exit(NOTHING_READ)


def _lines(row: ObjectAnswer) -> list[tuple[str, ...]]:
    """Path, class, score and box (x, y, width, height) of each object, or one line that says why there is none."""
    if not row.boxes or not row.labels or not row.scores:
        return [(row.path, "-", "-", row.error or "no object")]
    rows = zip(row.labels, row.scores, row.boxes, strict=True)
    return [(row.path, label, f"{score:.2f}", " ".join(f"{v:.0f}" for v in box)) for label, score, box in rows]


def predict_objects_into(
    out: Path,
    listed: ListedSources,
    found: FoundModel,
    detector: SavedDetector,
    *,
    looking: Looking,
    as_json: bool,
) -> None:
    """Write the objects in the images `listed` to `out`, and say what it holds."""
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.process.quiet_start import start_keras
    from selftrain.autolabeling.folders.found_objects import BATCH
    from selftrain.autolabeling.folders.object_tables import check_object_table, write_objects

    check_object_table(out)
    start_keras(lean=True)
    with progress("predict") as show:
        done = write_objects(
            *(detector, listed, out),
            called=found.called,
            threshold=looking.threshold,
            batch_size=looking.batch_size or BATCH,
            flips=looking.flips,
            progress=show,
        )
    _say_default(found, looking.threshold)
    _warn(found)
    if as_json:
        print_json(done)
    else:
        errors = f"; {done.errors} could not be read" if done.errors else ""
        errors += f"; {done.found} were looked at before" if done.found else ""
        typer.echo(
            f"{out}: {done.objects} objects in {done.images - done.errors} images, {done.without_objects} of them "
            f"without any, by {done.model_version}{errors}"
        )
        if done.root is not None:
            typer.echo(f"file names in it are below {done.root}")
    if done.images == done.errors:
        raise typer.Exit(NOTHING_READ)


def _warn(found: FoundModel) -> None:
    if found.concern is not None:
        typer.echo(f"WARNING: {found.concern}", err=True)
