"""Settings of the data: sources, splits, ingest, checks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from selftrain.config.section import Section, Share
from selftrain.errors import ConfigError

Severity = Literal["stop", "warn"]
EXPECTATIONS: Mapping[str, Severity] = {
    "schema": "stop",
    "unique_ids": "stop",
    "label_set": "stop",
    "labels_present": "stop",
    "human_held_out": "stop",
    "class_balance": "stop",
    "images_per_class": "stop",
    "smallest_side": "warn",
    "largest_side": "warn",
    "quarantine_share": "stop",
    "unlabeled_pool": "warn",
    "image_quality": "warn",
    "leakage_exact": "stop",
    "leakage_near": "stop",
    "labels_agree": "warn",
}
"""Each expectation on the manifest, and its severity unless `checks.severity` names another."""

OBJECT_EXPECTATIONS: Mapping[str, Severity] = {
    "boxes_inside": "stop",
    "box_sides": "warn",
    "boxes_once": "warn",
    "objects_per_image": "warn",
    "objects_per_class": "warn",
    "images_without_objects": "warn",
}
"""Those on the objects of a detector's images."""


class DigitsSource(Section):
    """scikit-learn's 1,797 handwritten digits, real 8x8 scans that ship with the library."""

    kind: Literal["digits"] = "digits"
    labeled: int = Field(100, ge=10, description="human-labelled training images")
    validation: int = Field(150, ge=10, description="images held out for the gate")
    test: int = Field(400, ge=10, description="images read once, for the reported number")
    seed: int = 0


class FolderSource(Section):
    """A folder of class folders, and a folder of unlabelled images."""

    kind: Literal["folder"] = "folder"
    labeled: str = Field(description="folder with one sub-folder per class")
    unlabeled: str | None = Field(None, description="folder of images without labels, searched recursively")
    validation: str | None = Field(None, description="class folders held out for the gate; None: split off `labeled`")
    test: str | None = Field(None, description="class folders held out for the report; None: split off `labeled`")
    no_label: list[str] | None = Field(
        None,
        description="labels that mean that there is none; None: -1, NaN, NULL and their like, but no folder's name",
    )


class TableSource(Section):
    """A list of images (CSV, JSON lines, Parquet) with the columns path, label and (optionally) split and group."""

    kind: Literal["table"] = "table"
    path: str
    root: str | None = Field(None, description="folder that relative paths start from; None: the table's own")
    columns: dict[Literal["path", "label", "split", "group"], str] = Field(
        default_factory=dict, description="which column is which, where its name does not say so"
    )
    no_label: list[str] | None = Field(
        None, description="labels that mean that there is none; None: -1, NaN, NULL and their like"
    )


class KerasDatasetSource(Section):
    """A data set of `keras.datasets`. Some training images keep their labels; its test images are the test set."""

    kind: Literal["keras_dataset"] = "keras_dataset"
    name: Literal["cifar10", "cifar100", "mnist", "fashion_mnist"] = "cifar10"
    labeled: int = Field(5000, ge=10, description="training images that keep their label, validation included")
    unlabeled: int | None = Field(20000, ge=0, description="training images used without labels; None: all others")
    seed: int = 0


class CocoSource(Section):
    """Images with boxes in a COCO or in Pascal VOC files, and a folder of images without labels; `task: detection`."""

    kind: Literal["coco"] = "coco"
    annotations: str = Field(
        description="COCO JSON, folder of Pascal VOC files, YOLO's data.yaml or Label Studio's JSON; an image without "
        "objects holds none"
    )
    images: str = Field(description="folder that the file names in it start from")
    unlabeled: str | None = Field(None, description="folder of images without labels, searched recursively")
    validation: str | None = Field(None, description="COCO file held out for the gate; None: split off `annotations`")
    test: str | None = Field(None, description="COCO file held out for the report; None: split off `annotations`")
    classes: tuple[str, ...] | None = Field(None, description="the classes to find, in this order; None: all")


# Discriminated here, not where it is used: ZenML validates a step's inputs against this very name. Without the
# discriminator it would try a folder as digits, and refuse its keys.
Source = Annotated[
    DigitsSource | FolderSource | TableSource | KerasDatasetSource | CocoSource, Field(discriminator="kind")
]


class Splitting(Section):
    """How labelled images get a split where the source names none; a split never changes."""

    validation: Share = 0.2
    test: Share = 0.2
    min_per_class: int = Field(
        2, ge=1, description="fewest images that a class needs in each of the three labelled splits"
    )
    seed: int = 0
    group_from: str | None = Field(
        None,
        description="what names the group (camera, patient, video) of an image: 'parent', its folder, or a regular "
        "expression on its path; a column `group` of a table comes first",
    )
    reserve: Share = Field(
        0.0,
        description="share of the unlabelled images meant for validation and test by their hash that is kept out of "
        "the pool until they are labelled",
    )

    @field_validator("group_from")
    @classmethod
    def _pattern_is_regular(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ConfigError(
                f"splitting.group_from: {pattern!r} is not a regular expression ({error}); write 'parent' for the "
                r"folder of an image, or a pattern such as 'camera_(\d+)'"
            ) from error
        if pattern == "":
            raise ConfigError("splitting.group_from is empty; remove it, or write 'parent' or a regular expression")
        return pattern


KEPT_BY_THE_MANIFEST = frozenset({"group_from", "reserve"})
"""Keys of Splitting that show in the manifest alone: where its digest is part of a key, they are not."""


class Ingest(Section):
    """Which source files become part of the data set."""

    max_megapixels: float = Field(
        64.0, gt=0, description="larger images are quarantined by their header and not decoded"
    )
    min_side: int = Field(4, ge=1, description="shortest side allowed, pixels")
    bits: Literal[8, 10, 12, 14, 16] | None = Field(
        None,
        description="how many of 16 bits the grey pictures of this set fill, such as 12; None: all 16, and a dark "
        "picture is refused",
    )
    max_quarantine: Share = Field(0.05, description="stop before training above this share of the source files")


class Checks(Section):
    """Expectations on the manifest; each stops the run or warns."""

    min_images_per_class: int = Field(2, ge=1, description="in each labelled split")
    max_class_ratio: float = Field(20.0, ge=1, description="largest class over smallest, among training labels")
    min_image_side: int = Field(8, ge=1)
    max_image_side: int = Field(16384, ge=1)
    max_quarantine: Share = 0.05
    max_quality_hints: Share = Field(0.05, description="dark, blurred, plain or oddly shaped images, of all images")
    min_objects_per_class: int = Field(2, ge=0, description="of a detector, in each labelled split")
    max_objects_per_image: int = Field(300, ge=1, description="of a detector, which answers at most 300")
    min_box_side: float = Field(4.0, ge=0, description="longer side of a box as the network sees it, pixels")
    max_boxes_beyond: Share = Field(
        0.05, description="boxes drawn beyond their image by more than a pixel, of all boxes of a detector"
    )
    max_without_objects: Share = Field(0.5, description="annotated images without objects, of a detector")
    severity: dict[str, Severity] = Field(default_factory=dict, description="expectation name -> stop | warn")

    @field_validator("severity")
    @classmethod
    def _expectations_are_known(cls, severity: dict[str, Severity]) -> dict[str, Severity]:
        known = {**EXPECTATIONS, **OBJECT_EXPECTATIONS}
        for name in severity:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                raise ConfigError(
                    f"checks.severity names the unknown expectation {name!r}; did you mean {near!r}? "
                    f"Allowed: {', '.join(known)}"
                )
        return severity

    @property
    def severities(self) -> dict[str, Severity]:
        """The severity of every expectation: its default, or the one that `severity` names."""
        return {**EXPECTATIONS, **OBJECT_EXPECTATIONS, **self.severity}


class Place(Section):
    """Where a run's data lies: the workspace folder, and the name of the data set in it."""

    workspace: str = ".selftrain"
    dataset: str = "digits"
