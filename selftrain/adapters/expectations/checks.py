"""The checks of a manifest: the arguments for Great Expectations, and the report's words for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftrain.adapters.expectations.frames import Frames
from selftrain.config import Checks
from selftrain.data.label_map import LabelMap
from selftrain.data.store.quality import QualityReport

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


def image_row(row: Row) -> str:
    """An image: the start of its id, its origin and split, and any value at fault."""
    named = {"image_id", "origin", "split"}
    rest = "".join(f", {name.replace('_', ' ')} {_plain(row[name])}" for name in row if name not in named)
    return f"{str(row['image_id'])[:12]} ({row['origin']}, {row['split']}{rest})"


def class_row(row: Row) -> str:
    """A class and split with its count."""
    return f"{row['images']:,} of {row['class']!r} in {row['split']}"


def column_row(row: Row) -> str:
    """A column with its type and the one that it should have."""
    return f"{row['column']}: {row['found']} instead of {row['expected']}"


@dataclass(frozen=True)
class Check:
    """One expectation. The frame's columns `shown` name a row at fault, and `describe` puts them in words."""

    name: str
    expectation: str
    arguments: dict[str, Any]
    allowed: str
    observed: str
    advice: str
    shown: tuple[str, ...] = ()
    describe: Callable[[Row], str] = image_row


def schema_checks() -> list[Check]:
    pair = {"column_A": "found", "column_B": "expected"}
    return [
        Check(
            "schema",
            "ExpectColumnPairValuesToBeEqual",
            pair,
            "the columns and types of selftrain.data.manifest.SCHEMA",
            "columns and types as read",
            "Make manifests with Manifest.build, or run ingest again.",
            ("column", "expected", "found"),
            column_row,
        )
    ]


def image_checks(label_map: LabelMap, checks: Checks, tables: Frames) -> list[Check]:
    images, names = tables.images, label_map.names
    who = ("image_id", "origin", "split")
    ids, last = len(images), len(names) - 1
    shortest = int(images["short_side"].min()) if ids else 0
    longest = int(images["long_side"].max()) if ids else 0
    how = "hashes within 2 bits and close pixels" if tables.pixels_compared else "hashes alone, pixels not compared"
    no = {"value_set": [False]}
    between, in_set = "ExpectColumnValuesToBeBetween", "ExpectColumnValuesToBeInSet"
    # fmt: off
    return [
        Check("unique_ids", "ExpectColumnValuesToBeUnique", {"column": "image_id"}, "each image once",
               f"{ids:,} rows, {images['image_id'].nunique():,} images", "Run ingest again.", who),
        Check("label_set", between, {"column": "label", "min_value": 0, "max_value": last},
               f"0-{last}, the {len(names)} classes", f"labels {_span(images['label'])}",
               "Correct these labels in the source, or add the class to the training images.", (*who, "label")),
        Check("labels_present", in_set, {"column": "label_missing", **no}, "a label for every image to learn from",
               f"{int(images['label_missing'].sum()):,} without label",
               "Label these images, or move them to the unlabelled folder.", who),
        Check("human_held_out", in_set, {"column": "not_human", **no}, "human labels in validation and test",
               f"{int(images['not_human'].sum()):,} without a human label",
               "Label these images by hand, or take them out of validation and test.", who),
        Check("smallest_side", between, {"column": "short_side", "min_value": checks.min_image_side},
               f">= {checks.min_image_side} px", f"{shortest} px",
               "Remove these images, or lower checks.min_image_side.", (*who, "short_side")),
        Check("largest_side", between, {"column": "long_side", "max_value": checks.max_image_side},
               f"<= {checks.max_image_side} px", f"{longest} px",
               "Shrink or remove these images, or raise checks.max_image_side.", (*who, "long_side")),
        Check("leakage_exact", between, {"column": "splits", "max_value": 1}, "an image in one split",
               f"{int((images['splits'] > 1).sum()):,} rows of shared images",
               "Keep each image in one of the splits, and run ingest again.", who),
        Check("leakage_near", "ExpectColumnValuesToBeNull", {"column": "near_copy_of"},
               "no near-duplicate of a validation or test image in another split",
               f"near-duplicates: {int(images['near_copy_of'].notna().sum()):,} ({how})",
               "Remove the copy outside validation and test from the source, and run ingest again.",
               (*who, "near_copy_of")),
        Check("labels_agree", "ExpectColumnValuesToBeNull", {"column": "labelled_apart"},
               "images that look the same have the same label",
               f"images that look like one with another label: {int(images['labelled_apart'].notna().sum()):,}",
               "Look at both, and correct the label that is wrong, in the source or by selftrain label.",
               (*who, "labelled_apart")),
    ]
    # fmt: on


def class_checks(checks: Checks, tables: Frames) -> list[Check]:
    classes, least = tables.classes, checks.min_images_per_class
    fewest = classes.iloc[int(classes["images"].argmin())] if len(classes) else None
    observed = "no classes" if fewest is None else f"fewest: {_count(fewest)}"
    advice = "Label more images of these classes, or take the classes out; checks.min_images_per_class sets the floor."
    arguments = {"column": "images", "min_value": least}
    allowed = f">= {least} of every class in train, validation and test"
    shown = ("class", "split", "images")
    return [
        Check(
            "images_per_class", "ExpectColumnValuesToBeBetween", arguments, allowed, observed, advice, shown, class_row
        ),
    ]


def dataset_checks(checks: Checks, tables: Frames) -> list[Check]:
    totals, train = tables.dataset.iloc[0], tables.classes[tables.classes["split"] == "train"]
    present = train[train["images"] > 0]
    balance = "no training labels"
    if len(present):
        most, fewest = (present.iloc[int(row)] for row in (present["images"].argmax(), present["images"].argmin()))
        balance = f"{totals['class_ratio']:.3g} (most: {_count(most)}; fewest: {_count(fewest)})"
        if most["images"] == fewest["images"]:
            balance = f"1 ({most['images']:,} of every class)"
    ratio, share = checks.max_class_ratio, checks.max_quarantine
    between = "ExpectColumnValuesToBeBetween"
    # fmt: off
    return [
        Check("class_balance", between, {"column": "class_ratio", "max_value": ratio}, f"<= {ratio:g}", balance,
               "Label more of the small class; or raise checks.max_class_ratio and set class_weights: balanced."),
        Check("quarantine_share", between, {"column": "quarantine_share", "max_value": share},
               f"<= {share:.1%}", f"{totals['quarantine_share']:.1%} of the source files",
               "Fix or remove the files listed in the data set's quarantine.csv, or raise checks.max_quarantine."),
        Check("unlabeled_pool", between, {"column": "unlabeled", "min_value": 1}, "at least one unlabelled image",
               f"{int(totals['unlabeled']):,} unlabelled images",
               "Without unlabelled images a student learns nothing that its teacher did not; name a folder of them."),
        Check("image_quality", between, {"column": "hint_share", "max_value": checks.max_quality_hints},
               f"<= {checks.max_quality_hints:.1%}",
               f"hints at {totals['hint_share']:.1%} of the images{_kinds(tables.quality)}",
               "Look at the worst of each kind, which `selftrain report` shows; if they are as they should be, raise "
               "checks.max_quality_hints."),
    ]
    # fmt: on


def _kinds(found: QualityReport) -> str:
    told = ", ".join(f"{kind.images:,} {kind.hint}" for kind in found.kinds)
    return f": {told}" if told else ""


def _count(row: pd.Series[Any]) -> str:
    return class_row({str(name): value for name, value in row.items()})


def _span(labels: pd.Series[float]) -> str:
    return f"{labels.min():.0f}-{labels.max():.0f}" if labels.notna().any() else "none"


def _plain(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
