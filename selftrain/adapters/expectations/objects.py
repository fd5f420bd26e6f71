"""Expectations on objects: how many there are by image and class, how large they are to the network, where they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from selftrain.adapters.expectations.checks import Check, Row, image_row
from selftrain.adapters.expectations.frames import LABELED
from selftrain.adapters.expectations.validate import Stated, validate
from selftrain.config import Checks
from selftrain.data.annotations.table import Annotations
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.objects.labelled import DrawnBoxes
from selftrain.files.workspace import Workspace
from selftrain.report.validation import ValidationReport

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from selftrain.data.store.image_store import ImageStore

_WHO = ("image_id", "origin", "split")


def object_report_folder(
    workspace: Workspace,
    manifest: Manifest,
    objects: Annotations,
    drawn: DrawnBoxes,
    quarantine_share: float,
    checks: Checks,
    *,
    view: int,
) -> Path:
    """The folder in `workspace` for the reports on this manifest and these objects under these checks.

    `view` is the side of what the network sees, in pixels.
    """
    facts = (manifest.digest, objects.digest, drawn.model_dump_json(), quarantine_share, checks.model_dump_json(), view)
    return workspace.root / "validation" / hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()[:16]


def validate_objects(
    manifest: Manifest,
    objects: Annotations,
    drawn: DrawnBoxes,
    quarantine_share: float,
    checks: Checks,
    out_dir: Path,
    store: ImageStore | None = None,
    *,
    view: int,
) -> ValidationReport:
    """As `validate`, and check the `objects` of the labelled images too, of which so many boxes were `drawn`.

    `view` is the side in pixels of what a training sees of an image: it decides how far images are made smaller, and
    so how large a box is to the network.
    """
    images = manifest.part(*LABELED).table
    also = object_checks(images, objects, drawn, checks, view=view)
    return validate(manifest, quarantine_share, checks, out_dir, store, also=also)


def object_checks(
    images: pa.Table, objects: Annotations, drawn: DrawnBoxes, checks: Checks, *, view: int
) -> list[Stated]:
    """The checks of `objects` in the labelled `images`, each list with the frame that it reads."""
    boxes, counts = object_frame(images, objects, view=view), image_frame(images, objects)
    return [
        _of_drawn(drawn, checks),
        (_of_boxes(boxes, checks), boxes),
        (_of_images(counts, checks), counts),
        *_of_classes(boxes, objects.label_map.names, checks),
        *_of_totals(counts, checks),
    ]


def object_frame(images: pa.Table, objects: Annotations, *, view: int) -> pd.DataFrame:
    """One row per object, crowds aside: its image, class and box, and its side to the network.

    `side` is the longer side in pixels of the image as the network sees it; `double` says that another object of the
    image has the same class and box.
    """
    import pandas as pd

    from selftrain.selflabel.detection.photos import longest_for

    first, count = objects.spans(images["image_id"].cast("string"))
    image = np.repeat(np.arange(images.num_rows), count)
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, a + n) for a, n in zip(first, count, strict=True))])
    real = ~objects.crowd[rows]
    image, rows = image[real], rows[real]
    width, height = (images[name].to_numpy()[image].astype(np.float64) for name in ("width", "height"))
    box = objects.boxes[rows].astype(np.float64)
    learned = images.filter(pc.equal(images["split"].cast("string"), str(Split.TRAIN)))  # as the training looks at all
    longest = longest_for(objects, learned, name="image_id", view=view) if learned.num_rows else view
    scale = np.minimum(1.0, longest / np.maximum(width, height)) if len(rows) else np.ones(0)
    label = objects.labels[rows]
    key = np.concatenate([image[:, None], label[:, None], box], axis=1)
    return pd.DataFrame(
        {
            **_named(images, image),
            "class": np.array(objects.label_map.names, object)[label],
            "box": [" ".join(f"{value:.0f}" for value in each) for each in box.tolist()],
            "side": (box[:, 2:] - box[:, :2]).max(axis=1, initial=0.0) * scale,
            "double": pd.DataFrame(key).duplicated().to_numpy(),
        }
    )


def image_frame(images: pa.Table, objects: Annotations) -> pd.DataFrame:
    """One row per labelled image, with the number of its `objects`, crowds included."""
    import pandas as pd

    count = objects.spans(images["image_id"].cast("string"))[1]
    return pd.DataFrame({**_named(images, np.arange(images.num_rows)), "objects": count})


def _named(images: pa.Table, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.object_]]:
    return {name: np.array(images[name].cast("string").to_pylist(), object)[rows] for name in _WHO}


def box_row(row: Row) -> str:
    """A box: its image, its class and corners."""
    rest = {name: row[name] for name in row if name not in ("class", "box")}
    return f"{row['class']} at {row['box']} in {image_row(rest)}"


def _of_drawn(drawn: DrawnBoxes, checks: Checks) -> Stated:
    """The check of the boxes as they were drawn: those of the table were cut at the borders of their images."""
    import pandas as pd

    such = f", such as {'; '.join(drawn.examples)}" if drawn.examples else ""
    check = Check(
        "boxes_inside",
        "ExpectColumnValuesToBeBetween",
        {"column": "beyond", "max_value": checks.max_boxes_beyond},
        f"<= {checks.max_boxes_beyond:.0%} of the boxes reach beyond their image by more than a pixel",
        f"{drawn.beyond:,} of {drawn.boxes:,} boxes were drawn beyond their image{such}",
        "Were they drawn on images of another size, or were these cut or turned since? Correct the file. If objects "
        "are meant to reach out, raise checks.max_boxes_beyond.",
    )
    return [check], pd.DataFrame([{"beyond": drawn.beyond / max(drawn.boxes, 1)}])


def _of_boxes(boxes: pd.DataFrame, checks: Checks) -> list[Check]:
    least, shown = checks.min_box_side, (*_WHO, "class", "box")
    sides = boxes["side"].to_numpy()
    small = int((sides < least).sum())
    spread = ", ".join(f"{value:.0f}" for value in np.quantile(sides, [0.1, 0.5, 0.9])) if len(sides) else ""
    seen = f"; 10, 50 and 90 % are up to {spread} px" if spread else ""
    between = "ExpectColumnValuesToBeBetween"
    # fmt: off
    return [
        Check("box_sides", between, {"column": "side", "min_value": least},
               f">= {least:g} px as the network sees it, whose finest cells have 4",
               f"{small:,} of {len(boxes):,} boxes are smaller{seen}",
               "Such objects are hardly found: cut the images into tiles, give larger ones, or raise detection.view.",
               shown, box_row),
        Check("boxes_once", "ExpectColumnValuesToBeInSet", {"column": "double", "value_set": [False]},
               "each box of a class once in an image", f"{int(boxes['double'].sum()):,} boxes come again",
               "Remove the second of each; was an export doubled?", shown, box_row),
    ]
    # fmt: on


def _of_images(images: pd.DataFrame, checks: Checks) -> list[Check]:
    count, most = images["objects"], checks.max_objects_per_image
    observed = f"{count.mean():.3g} on average, at most {count.max():,}" if len(images) else "no labelled images"
    return [
        Check(
            "objects_per_image",
            "ExpectColumnValuesToBeBetween",
            {"column": "objects", "max_value": most},
            f"<= {most:,}, as many as a detector answers",
            observed,
            "Cut these images into tiles: objects beyond that number cannot be found.",
            (*_WHO, "objects"),
        )
    ]


def _of_classes(boxes: pd.DataFrame, names: tuple[str, ...], checks: Checks) -> list[Stated]:
    import pandas as pd

    least = checks.min_objects_per_class
    counted = boxes.groupby(["class", "split"]).size()
    rows = [(name, str(split), int(counted.get((name, str(split)), 0))) for split in LABELED for name in names]
    classes = pd.DataFrame(rows, columns=["class", "split", "objects"])
    fewest = min(rows, key=lambda row: row[2])
    check = Check(
        "objects_per_class",
        "ExpectColumnValuesToBeBetween",
        {"column": "objects", "min_value": least},
        f">= {least} of every class in train, validation and test",
        f"fewest: {fewest[2]:,} of {fewest[0]!r} in {fewest[1]}",
        "Annotate more objects of these classes, or leave the classes out (source.classes).",
        ("class", "split", "objects"),
        lambda row: f"{row['objects']:,} of {row['class']!r} in {row['split']}",
    )
    return [([check], classes)]


def _of_totals(images: pd.DataFrame, checks: Checks) -> list[Stated]:
    import pandas as pd

    without = images["objects"] == 0
    share = float(without.mean()) if len(images) else 0.0
    splits = [(split, images["split"] == str(split)) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)]
    each = ", ".join(f"{split} {int((without & own).sum()):,} of {int(own.sum()):,}" for split, own in splits)
    check = Check(
        "images_without_objects",
        "ExpectColumnValuesToBeBetween",
        {"column": "without_objects", "max_value": checks.max_without_objects},
        f"<= {checks.max_without_objects:.0%} of the annotated images",
        f"{int(without.sum()):,} of {len(images):,} annotated images have no object ({each})",
        "They teach what is not an object. If nobody looked at them, move them to the images without labels.",
    )
    return [([check], pd.DataFrame([{"without_objects": share}]))]
