"""The training curve: what training looked like at each look at validation, beside the saved model."""

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
"""A row a look; `standard_error` is the accuracy's, `kept` marks the look whose weights are the model's."""


def write_curve(curve: pa.Table, folder: Path) -> None:
    """Put `curve`, of SCHEMA, into `folder`."""
    pq.write_table(curve, folder / CURVE_FILE)


def read_curve(folder: Path) -> pa.Table:
    """The curve in a saved model's folder; without rows for a model that was brought along, not trained."""
    path = folder / CURVE_FILE
    return pq.read_table(path) if path.exists() else SCHEMA.empty_table()
