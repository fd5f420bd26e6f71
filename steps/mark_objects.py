"""The step that brings the boxes of a COCO file beside the manifest."""

from typing import Annotated

from zenml import step

from selftrain.adapters.runs.materializers import TableMaterializer
from selftrain.config import CocoSource, Place
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.coco import CocoImages
from selftrain.data.sources.objects.labelled import DrawnBoxes
from selftrain.data.store.dataset import open_dataset


@step(enable_cache=False, output_materializers=dict.fromkeys(("objects", "test_objects"), TableMaterializer))
def mark_objects(
    manifest: Manifest, source: CocoSource, place: Place
) -> tuple[Annotated[Annotations, "objects"], Annotated[Annotations, "test_objects"], Annotated[DrawnBoxes, "drawn"]]:
    """The objects of training and validation images, and those of test images; later steps are keyed by their values.

    `drawn` counts the boxes that reached beyond their images before they were cut. All objects also lie in the data
    set's folder, so that a version of it in DVC holds its boxes.
    """
    images = CocoImages(source)
    objects = images.objects_in(manifest)
    objects.write(open_dataset(place).store.root / "annotations.parquet")
    development, test = manifest.part(Split.TRAIN, Split.VALIDATION), manifest.part(Split.TEST)
    return (
        objects.of_images(development.table["image_id"]),
        objects.of_images(test.table["image_id"]),
        images.drawn,
    )
