"""The training curve: a row per look at validation, in a file beside the saved model."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.learn.models.contract import CURVE_FILE

SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64()),
        pa.field("loss", pa.float64()),
        pa.field("validation_loss", pa.float64()),
        pa.field("validation_accuracy", pa.float64()),
        pa.field("learning_rate", pa.float64()),
        pa.field("standard_error", pa.float64()),
        pa.field("kept", pa.bool_()),
    ]
)
"""A row per look. `standard_error` is the accuracy's; `kept` marks the look whose weights the model has."""


def write_curve(curve: pa.Table, folder: Path) -> None:
    """Write `curve`, of SCHEMA, to `folder`."""
    pq.write_table(curve, folder / CURVE_FILE)


def read_curve(folder: Path) -> pa.Table:
    """The curve in a saved model's folder. It has no rows for a model that was not trained here."""
    path = folder / CURVE_FILE
    return pq.read_table(path) if path.exists() else SCHEMA.empty_table()
