"""Batch size and learning rate, measured on a real configuration and written into it."""

import re
from pathlib import Path

import numpy as np
import pytest

from selftrain import learn_optimization
from selftrain.config.text.file import read_experiment
from selftrain.errors import ConfigError, NoFallError
from selftrain.learn.tuning.batch_and_rate import BatchAndRate, TrialSteps
from selftrain.learn.tuning.batch_size import BatchSearch, Speed
from selftrain.learn.tuning.rate_range import RateRange
from selftrain.learn.tuning.role_training import RoleTraining, open_role

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
      backbone: wide_resnet_16_1  # small
      learning_rate: 0.5          # surely too high
      weight_decay: 0.0
    student:
      method: {method}
      backbone: wide_resnet_16_1
      consistency: {{weight: {weight}, mu: 2}}
"""


def configured(folder: Path, *, method: str = "freematch", weight: float = 1.0) -> Path:
    config = folder / "few.yaml"
    config.write_text(CONFIG.format(workspace=folder / "work", method=method, weight=weight))
    return config


def test_what_was_measured_is_written_beside_what_was_there(tmp_path: Path) -> None:
    config = configured(tmp_path)
    said: list[str] = []
    found = learn_optimization(
        config=config, range_steps=100, progress=lambda done, total, note="": said.append(note.split(":")[0])
    )
    teacher = read_experiment(config).teacher
    assert teacher.batch_size == found.batch_size == 8  # forty images are four batches of ten at most
    assert teacher.learning_rate == found.learning_rate
    lowest = found.rates.rates[found.rates.smooth.argmin()]
    assert 1e-4 < lowest / 10 * 0.95 <= found.learning_rate < lowest * 1.05
    assert [speed.batch_size for speed in found.batches.tried] == [8]
    assert found.batches.images_per_s > 0
    assert {"ingest", "batch size", "learning rate"} <= set(said)

    text = config.read_text()
    assert "# Forty digits." in text
    assert "wide_resnet_16_1  # small" in text
    assert re.search(r"batch_size: 8 +# measured: \d+ images/s; the most that was tried", text)
    assert "range test of 100 steps" in text
    assert "surely too high" not in text


@pytest.mark.slow
def test_a_loss_that_falls_by_no_more_than_chance_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    config = configured(tmp_path)
    before = config.read_text()
    with pytest.raises(NoFallError, match="keep your rate, or test again with more range_steps"):
        learn_optimization(config=config, most=1, range_steps=10)  # an image a step, ten steps
    assert config.read_text() == before


@pytest.mark.slow
def test_the_step_of_a_method_in_training_is_measured_with_its_unlabelled_images(tmp_path: Path) -> None:
    def opened(weight: float) -> RoleTraining:
        return open_role(read_experiment(configured(tmp_path, weight=weight)), "student")

    found = opened(weight=1.0)
    assert found.unlabeled is not None
    assert len(found.unlabeled.rows) == 1797 - 40 - 40  # all digits but those of validation and test
    training = TrialSteps(found, 2)
    assert training.images_per_step == 2 * (1 + 2 * 2)
    assert abs(training.step_at(1e-9) - TrialSteps(opened(weight=0.0), 2).step_at(1e-9)) > 0.01
    assert open_role(found.experiment, "teacher").unlabeled is None


@pytest.mark.slow
def test_the_step_is_measured_in_the_precision_that_is_configured(tmp_path: Path) -> None:
    config = configured(tmp_path)
    first = TrialSteps(open_role(read_experiment(config), "student"), 2).step()
    config.write_text(config.read_text() + "      precision: mixed_bfloat16\n")
    lowered = TrialSteps(open_role(read_experiment(config), "student"), 2).step()
    assert lowered != first
    assert lowered == pytest.approx(first, rel=0.05)


def test_what_can_find_nothing_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with pytest.raises(ConfigError, match="most is 0; give the largest batch size to try"):
        learn_optimization(config=config, most=0)
    with pytest.raises(ConfigError, match="range_steps is 5; give 10 or more"):
        learn_optimization(config=config, range_steps=5)
    with pytest.raises(ConfigError, match="role is 'pupil'; give one of teacher, student"):
        learn_optimization(config=config, role="pupil")
    fitted = configured(tmp_path)
    weights = "weights: few.weights.h5\n      head: fitted\n     "
    fitted.write_text(fitted.read_text().replace("learning_rate: 0.5 ", weights))
    with pytest.raises(
        ConfigError, match=r"teacher\.head is 'fitted': what is measured and searched here are training"
    ):
        learn_optimization(config=fitted)
    config = configured(tmp_path)
    config.write_text(config.read_text().replace("backbone: wide_resnet_16_1", "start: teacher"))
    with pytest.raises(ConfigError, match="there is no teacher yet to start from: ask for role='teacher'"):
        learn_optimization(config=config, role="student")
    assert not (tmp_path / "work").exists()


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
    rates = RateRange(np.ones(1), np.ones(1), np.ones(1), 0.01)
    assert BatchAndRate("teacher", 8, 0.01, search, rates, 100).reasons["teacher.batch_size"] == why
