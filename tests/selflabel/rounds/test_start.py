"""The start of a run: a first teacher that was not trained here must be better than chance."""

import numpy as np
import pyarrow as pa
import pytest

from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest
from selftrain.errors import PredictionError
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.rounds.start import check_teacher


def validation(*per_class: int) -> Manifest:
    labels = np.repeat(np.arange(len(per_class), dtype=np.int32), per_class)
    table = pa.table(
        {
            "image_id": [f"{each:064x}" for each in range(len(labels))],
            "shard": ["s"] * len(labels),
            "index": np.arange(len(labels), dtype=np.int32),
            "origin": [f"{each}.png" for each in range(len(labels))],
            "width": np.full(len(labels), 8, np.int32),
            "height": np.full(len(labels), 8, np.int32),
            "phash": np.arange(len(labels), dtype=np.uint64),
            "split": ["validation"] * len(labels),
            "label": labels,
            "label_source": ["human"] * len(labels),
            "weight": np.ones(len(labels), np.float32),
        }
    )
    return Manifest.build(table, LabelMap(tuple("abcdef"[: len(per_class)])))


def scores(accuracy: float, macro_f1: float, images: int) -> Scores:
    return Scores(
        images=images,
        accuracy=accuracy,
        macro_f1=macro_f1,
        log_loss=1.0,
        calibration_error=0.0,
        calibration_error_uncalibrated=0.0,
    )


def test_a_brought_teacher_at_chance_stops_the_run_and_says_so() -> None:
    even = validation(20, 20, 20)
    with pytest.raises(PredictionError, match=r"'m\.keras', and that model is right on 20 of 60 .*\(1 in 3\)"):
        check_teacher("m.keras", scores(1 / 3, 0.33, 60), even)
    with pytest.raises(PredictionError, match="not clearly better"):
        check_teacher("champion", scores(0.4, 0.4, 60), even)  # above chance, but not clearly
    check_teacher("m.keras", scores(0.6, 0.6, 60), even)
    check_teacher("train", scores(1 / 3, 0.33, 60), even)


def test_a_teacher_that_always_answers_the_largest_class_is_not_better_than_chance() -> None:
    uneven = validation(54, 6)
    with pytest.raises(PredictionError, match="right on 54 of 60"):
        check_teacher("m.keras", scores(0.9, 2 * 0.9 / 1.9 / 2, 60), uneven)
    check_teacher("m.keras", scores(0.95, 0.86, 60), uneven)
