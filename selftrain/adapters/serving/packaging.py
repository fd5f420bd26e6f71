"""Packaging: a saved model folder becomes an MLflow model that serves raw images, without a pickle."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.serving.frozen_code import CLASSIFIER, DETECTOR, importable, requirements, write_package
from selftrain.adapters.tracking.store import quiet
from selftrain.learn.detection.saving import DetectorContract

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

    from selftrain.learn.models.contract import Contract

CARD = "model_card.md"
EXAMPLE_SIDE = 64  # pixels, of the example image for a detector


def stage(
    folder: Path,
    *,
    model_folder: Path,
    contract: Contract | DetectorContract,
    card: str,
    model_id: str | None = None,
    mlflow_run: str | None = None,
) -> None:
    """Write the MLflow model of `model_folder`, with its card, to the new folder `folder`."""
    with tempfile.TemporaryDirectory() as temporary, quiet():
        import mlflow.pyfunc
        from mlflow.models import Model

        of_boxes = isinstance(contract, DetectorContract)
        served = DETECTOR if of_boxes else CLASSIFIER
        entry, package = write_package(Path(temporary), served=served)
        model = Path(temporary) / "model"  # the artifact has this name, whatever the user's folder is called
        shutil.copytree(model_folder, model)
        with importable(package):
            mlflow.pyfunc.save_model(
                path=str(folder),
                mlflow_model=Model(run_id=mlflow_run, model_id=model_id, model_uuid=model_id),
                python_model=str(entry),
                code_paths=[str(package)],
                artifacts={"model": str(model)},
                signature=detector_signature() if of_boxes else model_signature(),
                input_example=example(EXAMPLE_SIDE if isinstance(contract, DetectorContract) else contract.image_size),
                pip_requirements=requirements(next(model.glob("*.keras")), served=served),
                metadata=_facts(contract),
            )
    for leftover in folder.rglob("__pycache__"):
        shutil.rmtree(leftover)
    (folder / CARD).write_text(card)


def model_signature() -> ModelSignature:
    """One column of images in; label, confidence, probabilities and error out, each of which may be null.

    The column is called text, so that MLflow's server hands over what a client sent, whatever the format of the
    request. As a binary column it would refuse a batch for one bad row, and leave base64 under `inputs` as it is. Bytes
    and arrays pass all the same.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    outputs = [
        ColSpec(DataType.string, "label", required=False),
        ColSpec(DataType.double, "confidence", required=False),
        ColSpec(Array(DataType.double), "probabilities", required=False),
        ColSpec(DataType.string, "error", required=False),
    ]
    return ModelSignature(inputs=Schema([ColSpec(DataType.string, "image")]), outputs=Schema(outputs))


def detector_signature() -> ModelSignature:
    """One column of images in; boxes, labels, scores, masks and error out, each of which may be null."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    run_lengths = Object([Property("size", Array(DataType.long)), Property("counts", DataType.string)])
    outputs = [
        ColSpec(Array(Array(DataType.double)), "boxes", required=False),
        ColSpec(Array(DataType.string), "labels", required=False),
        ColSpec(Array(DataType.double), "scores", required=False),
        ColSpec(Array(run_lengths), "masks", required=False),
        ColSpec(DataType.string, "error", required=False),
    ]
    return ModelSignature(inputs=Schema([ColSpec(DataType.string, "image")]), outputs=Schema(outputs))


def example(image_size: int) -> pd.DataFrame:
    """A request of one image: a grey PNG of the model's own size."""
    import pandas as pd
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (image_size, image_size), (128, 128, 128)).save(file, "PNG")
    return pd.DataFrame({"image": [file.getvalue()]})


def _facts(contract: Contract | DetectorContract) -> dict[str, object]:
    """What a client can read without loading the model, above all the order of the probabilities."""
    return {
        "class_names": list(contract.class_names),
        **_of_task(contract),
        "manifest_digest": contract.manifest_digest,
        "weights_sha256": contract.weights_sha256,
        "identity": contract.identity,
        "backbone": contract.backbone,
    }


def _of_task(contract: Contract | DetectorContract) -> dict[str, object]:
    match contract:
        case DetectorContract():
            return {"longest": contract.longest, "thresholds": contract.thresholds}
        case _:
            return {"image_size": contract.image_size, "temperature": contract.temperature}
