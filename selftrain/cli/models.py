"""The commands that use models: predict, and label folders."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.detections import label_objects, predict_objects, refuse_unused
from selftrain.cli.predictions import (
    NOTHING_READ,
    AtOnce,
    Looking,
    Table,
    asked_model,
    predict_into,
    refuse_looking,
    show_reading,
)
from selftrain.cli.shared.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    Bits,
    Classes,
    ImageSize,
    ModelNameOption,
    Pixels,
    WorkspaceOption,
    names_of,
    print_columns,
    print_json,
)
from selftrain.config import Fixed, PerClass, PseudoLabel, TargetPrecision, Threshold
from selftrain.errors import ConfigError, InputError, WithdrawnError

if TYPE_CHECKING:
    from selftrain.adapters.registry.references import LoadedModel
    from selftrain.autolabeling.folders.label_files import LabelingSummary

Sources = Annotated[
    list[str], typer.Argument(metavar="SRC...", help="Image files, and folders of them; with --out also s3://... URLs.")
]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="Version of the model. Default: the champion.")
]
SavedModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Folder of a saved model, or your own model, instead of a registered one."),
]
ModelOption = Annotated[
    str, typer.Option("--model", help="Folder of a saved model, your own model, models:/NAME@champion, or champion.")
]
Images = Annotated[Path, typer.Option("--images", help="Folder of images; its sub-folders are searched too.")]
Out = Annotated[Path, typer.Option("--out", help="CSV to write. Tables and charts go beside it.")]
MinConfidence = Annotated[
    float | None, typer.Option("--threshold", min=0, max=1, help="Lowest confidence to accept. Default: 0.9.")
]
PerClassOption = Annotated[
    list[str] | None,
    typer.Option("--per-class", metavar="CLASS=SHARE", help="Threshold of one class; can be repeated."),
]
Labeled = Annotated[
    Path | None, typer.Option("--labeled", help="Class folders of images that the model was not trained on.")
]
Precision = Annotated[
    float | None,
    typer.Option(
        "--target-precision", help="Accept labels so that this share is right, such as 0.95, as measured on --labeled."
    ),
]
BoxScore = Annotated[
    float | None,
    typer.Option(
        "--threshold", min=0, max=1, help="Lowest score of a box, with a detector. Default: what its classes need."
    ),
]
Charts = Annotated[Path | None, typer.Option("--charts", help="Folder for the charts. Default: beside --out.")]
Materialize = Annotated[
    Path | None,
    typer.Option("--materialize", help="New folder for the accepted images: one folder of links per class."),
]
Copy = Annotated[bool, typer.Option("--copy", help="Make copies instead of links in --materialize.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images that are predicted at once.")]
BoxFlips = Annotated[
    bool, typer.Option("--flips", help="With a detector: average the boxes of each image and its mirror image.")
]
Flips = Annotated[bool, typer.Option("--flips", help="Average the answers for each image and its mirror image.")]


def predict(
    sources: Sources,
    out: Table = None,
    version: VersionOption = None,
    model: SavedModelOption = None,
    classes: Classes = None,
    pixels: Pixels = None,
    image_size: ImageSize = None,
    bits: Bits = None,
    threshold: BoxScore = None,
    flips: BoxFlips = False,
    batch_size: AtOnce = None,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Label images with the champion. A file that cannot be read is an error in its row.

    With --out the rows go to a Parquet file, in batches: for folders of any size, and URLs such as s3://bucket/folder.
    A detector answers boxes, and --out may be COCO JSON or CSV too. Exit code 2: no file could be read.
    """
    from selftrain.adapters.process.console import progress
    from selftrain.learn.models.answers import answer_files, named_files

    if model is not None and version is not None:
        raise InputError(f"--model {model} and --version {version} are two models; give one of them")
    find = partial(
        asked_model,
        model,
        version,
        names_of(classes),
        workspace=workspace,
        model_name=model_name,
        pixels=pixels,
        image_size=image_size,
        bits=bits,
        sources=sources,
    )
    if out is not None:
        predict_into(out, sources, find=find, looking=Looking(threshold, flips, batch_size), as_json=as_json)
        return
    files, rows = named_files([Path(source) for source in sources])
    if files:
        found = find()
        if found.detector is not None:
            looking = Looking(threshold, flips, batch_size)
            predict_objects(found, found.detector, files, rows, looking=looking, as_json=as_json)
            return
        refuse_looking(found, Looking(threshold, flips))
        loaded = found.load()
        with progress("predict") as show:
            rows = (*answer_files(loaded.model, loaded.contract, files, progress=show), *rows)
        typer.echo(f"by {loaded.called}", err=True)
        show_reading(loaded)
        _warn(loaded.concern)
    if as_json:
        print_json(rows)
    else:
        print_columns([(row.path, row.label or "-", _percent(row.confidence), row.error or "") for row in rows])
    if all(row.error is not None for row in rows):
        raise typer.Exit(NOTHING_READ)


def pseudo_label(
    model: ModelOption,
    images: Images,
    out: Out,
    threshold: MinConfidence = None,
    per_class: PerClassOption = None,
    labeled: Labeled = None,
    target_precision: Precision = None,
    classes: Classes = None,
    pixels: Pixels = None,
    image_size: ImageSize = None,
    bits: Bits = None,
    charts: Charts = None,
    materialize: Materialize = None,
    copy: Copy = False,
    batch_size: BatchSize = 256,
    flips: Flips = False,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Label a folder: write a CSV of path, class, confidence, acceptance and all probabilities, and draw charts.

    With a detector, --out is a COCO file of the boxes above the threshold, and --materialize a folder of drawn images.
    The images are never changed. A quarantine table beside the CSV lists the files that cannot be decoded. Images with
    known labels (--labeled) calibrate the model and measure the precision of the accepted labels.
    """
    from selftrain.adapters.process.console import progress
    from selftrain.adapters.registry.references import find_reference
    from selftrain.adapters.serving.litert import fast_predictor
    from selftrain.autolabeling.folders.label_files import image_files, label_folder, open_folder, plan_outputs
    from selftrain.autolabeling.folders.samples import known_of

    rule = _threshold(threshold, per_class or [], target_precision, labeled)
    settings = PseudoLabel(threshold=rule, flips=flips, batch_size=batch_size)
    for folder in (images, *([labeled] if labeled else [])):
        image_files(folder)  # a wrong folder is refused before the model is loaded
    names = names_of(classes)
    known = known_of(image_files(images), pixels=pixels, size=image_size, bits=bits, labeled=labeled, class_names=names)
    found = find_reference(model, workspace=workspace, model_name=model_name, class_names=names, known=known)
    if found.detector is not None:
        refuse_unused(
            copy=copy,
            per_class=per_class,
            labeled=labeled,
            classes=classes,
            pixels=pixels,
            image_size=image_size,
            bits=bits,
            charts=charts,
        )
        label_objects(
            found, found.detector, images, out, threshold=threshold, drawn=materialize, flips=flips, as_json=as_json
        )
        return
    outputs = plan_outputs(images, out, charts=charts, folders=materialize)
    with open_folder(images, found.image_size, bits=found.bits) as files, progress("label") as show:
        loaded = _trusted(found.load())
        network = fast_predictor(loaded.model)
        summary = label_folder(
            network,
            loaded.contract,
            images,
            outputs,
            settings=settings,
            files=files,
            labeled=labeled,
            copy=copy,
            progress=show,
        )
    show_reading(loaded)
    _show_labeling(summary, loaded.called, as_json=as_json)


def _trusted(loaded: LoadedModel) -> LoadedModel:
    """`loaded`. Raises WithdrawnError where it is withdrawn, or may be."""
    if loaded.concern is not None:
        raise WithdrawnError(f"{loaded.concern}; nothing is labelled with it: name another model")
    return loaded


def _show_labeling(summary: LabelingSummary, called: str, *, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    typer.echo(
        f"{summary.accepted} of {summary.labeled} images accepted by {called}, threshold {summary.threshold}; "
        f"{summary.quarantined} could not be read"
    )
    print_columns([(f"  {name}", f"{each.accepted} of {each.predicted}") for name, each in summary.classes.items()])
    if summary.measured is not None:
        low, high = summary.measured.interval
        right = (
            f"{summary.measured.right} of {summary.measured.images} held-out images that would be accepted are right"
        )
        typer.echo(f"{right}: a precision between {low:.1%} and {high:.1%}")
    for finding in summary.findings:
        typer.echo(f"note: {finding}")
    written = [summary.csv, summary.quarantine, *summary.charts, *([summary.folders] if summary.folders else [])]
    typer.echo("written: " + ", ".join(str(path) for path in written))


def _threshold(
    overall: float | None, per_class: list[str], target_precision: float | None, labeled: Path | None
) -> Threshold:
    """The rule that the options describe: --threshold with --per-class, or --target-precision."""
    if target_precision is not None:
        if labeled is None:
            raise ConfigError("--target-precision needs images with known labels; give their class folders: --labeled")
        if overall is not None or per_class:
            raise ConfigError("--target-precision finds the thresholds itself; leave out --threshold and --per-class")
        if not 0 < target_precision < 1:
            raise ConfigError(f"--target-precision {target_precision} is not between 0 and 1, such as 0.95")
        return TargetPrecision(target=target_precision)
    overall = 0.9 if overall is None else overall
    values: dict[str, float] = {}
    for text in per_class:
        name, equals, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not equals or not name or not 0 <= share <= 1:
            raise ConfigError(f"--per-class {text!r} is not CLASS=SHARE with a share from 0 to 1, such as cat=0.8")
        values[name] = share
    return PerClass(values=values, default=overall) if values else Fixed(value=overall)


def _warn(concern: str | None) -> None:
    if concern is not None:
        typer.echo(f"WARNING: {concern}", err=True)


def _percent(confidence: float | None) -> str:
    return "-" if confidence is None else f"{100 * confidence:.1f} %"
