"""Batch size and learning rate, measured on a real configuration and written into it."""

import re
from pathlib import Path

import pytest

from selftrain import config_file
from selftrain.learn.batch_size import BatchSearch, Speed
from selftrain.learn.optimization import learn_optimization, reasons

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square:UserWarning"),
]

CONFIG = """\
# Forty digits.
parameters:
  experiment:
    name: few
    workspace: {workspace}
    source: {{kind: digits, labeled: 40, validation: 40, test: 40}}
    teacher:
      backbone: mobilenet_v2_035  # small
      learning_rate: 0.5          # surely too high
      weight_decay: 0.0
"""


def test_what_was_measured_is_written_beside_what_was_there(tmp_path: Path) -> None:
    config = tmp_path / "few.yaml"
    config.write_text(CONFIG.format(workspace=tmp_path / "work"))
    said: list[str] = []
    found = learn_optimization(
        config=config, range_steps=30, progress=lambda done, total, note="": said.append(note.split(":")[0])
    )
    teacher = config_file.read(config).teacher
    assert teacher.batch_size == found.batch_size == 8  # forty images are four batches of ten at most
    assert teacher.learning_rate == found.learning_rate
    assert 1e-6 <= found.learning_rate < 0.5
    assert [speed.batch_size for speed in found.batches.tried] == [8]
    assert found.batches.images_per_s > 0
    assert {"ingest", "batch size", "learning rate"} <= set(said)

    text = config.read_text()
    assert "# Forty digits." in text
    assert "mobilenet_v2_035  # small" in text
    assert re.search(r"batch_size: 8 +# measured: \d+ images/s; the most that was tried", text)
    assert "range test of 30 steps" in text
    assert "surely too high" not in text


@pytest.mark.parametrize(
    ("tried", "why"),
    [
        ([(8, 100.0), (16, None)], "measured: 100 images/s; memory fails at 16"),
        ([(8, 100.0), (16, 104.0)], "measured: 100 images/s; 16 would be 4 % faster"),
        ([(4, 60.0), (8, 100.0)], "measured: 100 images/s; the most that was tried"),
    ],
)
def test_the_comment_says_why_no_larger_batch_was_taken(tried: list[tuple[int, float | None]], why: str) -> None:
    search = BatchSearch(8, tuple(Speed(*each) for each in tried))
    assert reasons("teacher", search, 100)["teacher.batch_size"] == why
