"""The commands about one model elsewhere and two models side by side: export and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selftrain.cli.shared.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    ModelNameOption,
    WorkspaceOption,
    print_columns,
    print_json,
)
from selftrain.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from selftrain.adapters.registry.comparison import DetectorReference, ModelReference, SideBySide
    from selftrain.adapters.serving.export import Export, ExportContract
    from selftrain.adapters.serving.parity import Allowed
    from selftrain.evaluate.detail import CalibrationComparison


class FormatName(StrEnum):
    """A format that a model is exported in."""

    SAVEDMODEL = "savedmodel"
    LITERT = "litert"
    ONNX = "onnx"


class QuantizationName(StrEnum):
    """A precision that a LiteRT model is rounded to."""

    FLOAT16 = "float16"
    INT8 = "int8"


FormatOption = Annotated[FormatName, typer.Option("--format", help="Format of the new file.")]
Quantize = Annotated[
    QuantizationName | None, typer.Option("--quantize", help="Round the weights; only for --format litert.")
]
Out = Annotated[Path, typer.Option("--out", help="New folder for the model, its contract and an example.")]
Version = Annotated[int | None, typer.Option("--version", min=1, help="Version of the model. Default: the champion.")]
ModelFolder = Annotated[
    Path | None, typer.Option("--model", help="Folder of a saved model, instead of a registered model.")
]
Images = Annotated[
    Path | None, typer.Option("--images", help="Folder of images to check with. Default: the model's data set.")
]
Count = Annotated[int, typer.Option("--count", min=1, help="Images to check with.")]
Agreement = Annotated[
    float | None,
    typer.Option(
        "--min-agreement", min=0, max=1, help="Least share with the same class. Default: 1; float16 0.98, int8 0.95."
    ),
]
Difference = Annotated[
    float | None,
    typer.Option(
        "--max-difference", min=0, max=1, help="Most that a probability may differ. Default: 0.001; 0.02, 0.2."
    ),
]
ComparedModel = Annotated[
    str, typer.Argument(help="Version, champion, challenger, models:/NAME/NUMBER, or the folder of a saved model.")
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", help="Data set with the test images. Default: that of the models.")
]


def export(
    form: FormatOption,
    out: Out,
    quantize: Quantize = None,
    version: Version = None,
    model: ModelFolder = None,
    images: Images = None,
    count: Count = 64,
    min_agreement: Agreement = None,
    max_difference: Difference = None,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Write a model as a SavedModel, for LiteRT (.tflite) or as ONNX, with its contract and an example that runs it.

    The new file must answer real images as the model does. Otherwise the command fails and leaves nothing behind. A
    detector's boxes must be the same in at least 99 % of the cases, with scores that differ by .01 at most.
    """
    from selftrain.adapters.process.quiet_start import start_keras
    from selftrain.adapters.process.settings import prepare_process
    from selftrain.adapters.registry.comparison import DetectorReference, find_model
    from selftrain.adapters.serving.export import Export, check_export
    from selftrain.adapters.serving.export import export as export_model
    from selftrain.learn.models.loading import load

    reference = _reference(model, version)
    limits = {"agreement": min_agreement, "difference": max_difference}
    wanted = Export(form.value, None if quantize is None else quantize.value, out, _allowed(quantize, limits))
    check_export(wanted)
    prepare_process()
    found = find_model(reference, workspace=workspace, model_name=model_name)
    if isinstance(found, DetectorReference):
        _export_detector(found, wanted, limits, images, workspace=workspace, count=count, as_json=as_json)
    else:
        pictures = _images(found, images, workspace=workspace, count=count)
        start_keras()
        network, contract = load(found.saved.folder)
        _show_export(export_model(network, contract, pictures, wanted, called=found.called), out, as_json=as_json)
    if found.concern is not None:
        typer.echo(f"WARNING: {found.concern}", err=True)


def _reference(model: Path | None, version: int | None) -> str:
    """What the options name: a folder, a version, or else the champion. Raises InputError where they name two."""
    if model is None:
        return str(version or "champion")
    if version is not None:
        raise InputError(f"--model {model} and --version {version} are two models; give one of them")
    if not model.is_dir():
        raise InputError(f"--model {model} is not a folder; give the folder of a saved model")
    return str(model)


def compare(
    first: ComparedModel,
    second: ComparedModel,
    dataset: DatasetOption = None,
    model_name: ModelNameOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
) -> None:
    """Compare two models on the same test images: as a whole, per class, and in calibration. No champion changes.

    Each model counts as evaluated on the test set, once.
    """
    from selftrain.adapters.registry.comparison import compare_models

    found = compare_models(first, second, workspace=workspace, model_name=model_name, dataset=dataset)
    if as_json:
        print_json(found)
    else:
        _show_comparison(found)


def _allowed(quantize: QuantizationName | None, limits: Mapping[str, float | None]) -> Allowed:
    from selftrain.adapters.serving.parity import EXACT, ROUNDED

    return _with_limits(EXACT if quantize is None else ROUNDED[quantize.value], limits)


def _with_limits(chosen: Allowed, limits: Mapping[str, float | None]) -> Allowed:
    return chosen.model_copy(update={name: value for name, value in limits.items() if value is not None})


def _images(found: ModelReference, folder: Path | None, *, workspace: Path, count: int) -> npt.NDArray[np.uint8]:
    """The images that the export is checked with, at the model's size."""
    from selftrain.adapters.registry.comparison import opened_dataset
    from selftrain.adapters.serving.parity import images_of_folder, images_of_store

    size, bits = found.saved.contract.image_size, found.saved.contract.bits
    if folder is not None:
        return images_of_folder(folder, size, count=count, bits=bits)
    data = opened_dataset((found,), workspace=workspace)
    images = None if data is None else images_of_store(data.store, size, count=count, bits=bits)
    if images is None or len(images) == 0:
        raise _no_images(found.called, workspace)
    return images


def _no_images(called: str, workspace: Path) -> ConfigError:
    return ConfigError(f"the images of {called} are not in {workspace}; give a folder of some: --images FOLDER")


def _export_detector(
    found: DetectorReference,
    wanted: Export,
    limits: Mapping[str, float | None],
    folder: Path | None,
    *,
    workspace: Path,
    count: int,
    as_json: bool,
) -> None:
    from selftrain.adapters.process.quiet_start import start_keras
    from selftrain.adapters.registry.comparison import opened_dataset
    from selftrain.adapters.serving.detectors.export import check_detector_export, export_detector
    from selftrain.adapters.serving.detectors.parity import EXACT, ROUNDED
    from selftrain.adapters.serving.parity import pixels_of_folder, pixels_of_store

    check_detector_export(wanted)
    data = None if folder is not None else opened_dataset((found,), workspace=workspace)
    if folder is not None:
        pictures = pixels_of_folder(folder, None, count=count)
    else:
        pictures = [] if data is None else pixels_of_store(data.store, None, count=count)
    if not pictures:
        raise _no_images(found.called, workspace)
    start_keras()
    allowed = _with_limits(EXACT if wanted.quantize is None else ROUNDED, limits)
    made = export_detector(found.saved, pictures, replace(wanted, allowed=allowed), called=found.called)
    if as_json:
        print_json(made)
        return
    parity = made.parity
    typer.echo(
        f"{made.model} as {made.format}{f' ({made.quantize})' if made.quantize else ''}: {parity.agreement:.1%} of the "
        f"objects in {parity.images} images are found by both, scores differ by up to {parity.largest_difference:.2g}"
    )
    if found.saved.contract.masks:
        typer.echo("the new file answers boxes alone; outlines come from `selftrain serve` and `selftrain predict`")
    typer.echo(f"written: {', '.join(str(wanted.out / name) for name in (made.file, 'contract.json', 'example.py'))}")


def _show_export(made: ExportContract, out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    parity = made.parity
    typer.echo(
        f"{made.model} as {made.format}{f' ({made.quantize})' if made.quantize else ''}: {parity.agreement:.1%} of "
        f"{parity.images} images have the same class, probabilities differ by up to {parity.largest_difference:.2g}"
    )
    typer.echo(f"written: {', '.join(str(out / name) for name in (made.file, 'contract.json', 'example.py'))}")


def _show_comparison(found: SideBySide) -> None:
    overall, calibration = found.comparison.overall, found.comparison.calibration
    low, high = overall.difference_interval
    typer.echo(
        f"{found.model} {found.accuracy:.1%}, {found.reference} {overall.reference:.1%} on {found.images} test images: "
        f"{100 * overall.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), {overall.counts}, "
        f"p = {overall.p_value:.2g}: {overall.finding}"
    )
    if found.comparison.earlier is not None:
        typer.echo(found.comparison.earlier.text)
    rows = [("class", "images", "first", "second", "difference", "won", "lost", "p (Holm)")]
    for each in found.comparison.per_class:
        shares = (f"{each.recall:.1%}", f"{each.reference:.1%}", f"{100 * each.difference:+.1f}")
        rows.append((each.name, str(each.images), *shares, str(each.won), str(each.lost), f"{each.p_value:.2g}"))
    print_columns(rows)
    if calibration is not None:
        _show_calibration(calibration)
    typer.echo(f"evaluations of this test set so far: {found.test_looks}")


def _show_calibration(calibration: CalibrationComparison) -> None:
    low, high = calibration.difference_interval
    typer.echo(
        f"confidence minus accuracy: {100 * calibration.gap:+.1f} and {100 * calibration.reference_gap:+.1f} points; "
        f"the first is {100 * calibration.difference:+.1f} further off ({100 * low:+.1f} to {100 * high:+.1f})"
    )
