"""Boxes from the command line: `selftrain init --coco` and `--voc`, and `selftrain pseudo-label` with a detector."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from selftrain.cli.shared.options import print_columns, print_json
from selftrain.errors import ConfigError, WithdrawnError

if TYPE_CHECKING:
    from selftrain.adapters.registry.references import FoundModel
    from selftrain.scaffold.draft import Wishes


def held_out_in(yolo: Path | None, folders: dict[str, str | None]) -> dict[str, str | None]:
    """`folders`, with the held-out splits that the data.yaml `yolo` has; what the user gave comes first."""
    from selftrain.data.sources.objects.yolo import yolo_splits

    own = () if yolo is None else yolo_splits(yolo)
    return folders | {split: folders[split] or str(yolo) for split in own}


def drawn_in(coco: Path | None, voc: Path | None, images: str | None, *, yolo: Path | None = None) -> tuple[str, str]:
    """The file or folder of objects, and the folder of their images. Raises ConfigError for several or none."""
    from selftrain.data.sources.objects.voc import voc_folders
    from selftrain.data.sources.objects.yolo import yolo_root

    if sum(each is not None for each in (coco, voc, yolo)) > 1:
        raise ConfigError("--coco, --voc and --yolo exclude each other; give the one that holds your boxes")
    if coco is not None:
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
        raise ConfigError(f"{', '.join(given)}: the model is a detector, which reads --threshold and --materialize")


def label_objects(
    found: FoundModel, images: Path, out: Path, *, threshold: float | None, drawn: Path | None, as_json: bool
) -> None:
    """Write the boxes that the detector finds in a folder, and say what they are."""
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.process.quiet_start import start_keras
    from selftrain.autolabeling.folders.detect_files import BY_DEFAULT, check_outputs, detect_folder

    if found.concern is not None:
        raise WithdrawnError(f"{found.concern}; nothing is labelled with it: name another model")
    check_outputs(images, out, drawn)
    start_keras()
    assert found.detector is not None
    with progress("label") as show:
        done = detect_folder(found.detector, images, out, threshold=threshold, drawn=drawn, progress=show)
    if threshold is None and not found.detector.contract.thresholds:
        said = f"{found.called} was not precise enough on validation to name thresholds, so {BY_DEFAULT} was taken"
        typer.echo(f"{said}; --threshold sets another", err=True)
    if as_json:
        print_json(done)
        return
    typer.echo(
        f"{done.objects} objects in {done.images} images by {found.called}; {done.without_objects} images have none; "
        f"{done.quarantined} could not be read"
    )
    print_columns([(f"  {name}", str(n), f"from {done.thresholds[name]:.2f}") for name, n in done.by_class.items()])
    typer.echo("written: " + ", ".join(str(each) for each in (done.coco, done.quarantine, done.drawn) if each))
