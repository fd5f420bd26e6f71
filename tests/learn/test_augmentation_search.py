"""The augmentation search: real trials on digits, cut off and continued; what it proposes is a valid recipe."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from selftrain import config_file
from selftrain.config import Recipe, Student, Teacher
from selftrain.errors import ConfigError
from selftrain.learn.augmentation import JOURNAL, SEARCHED, learn_augmentation, proposed

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]

CONFIG = """\
# Forty digits.
parameters:
  experiment:
    name: few
    workspace: {workspace}
    image_size: 16
    source: {{kind: digits, labeled: 40, validation: 40, test: 40}}
    teacher:
      steps: 4
      label_smoothing: 0.9   # surely too much
      augmentation: digits
"""


class Killed(Exception):  # noqa: N818
    pass


def test_a_search_that_was_cut_off_goes_on_within_its_trial_and_writes_what_is_better(tmp_path: Path) -> None:
    config = tmp_path / "few.yaml"
    config.write_text(CONFIG.format(workspace=tmp_path / "work"))
    notes: list[str] = []

    def kill(done: int, total: int, note: str = "") -> None:
        notes.append(note)
        if note.startswith("trial 2, step 3"):
            raise Killed

    with pytest.raises(Killed):
        learn_augmentation(config=config, budget_minutes=60, most_trials=2, progress=kill)
    (journal,) = (tmp_path / "work").rglob(JOURNAL)
    asked = [json.loads(line) for line in journal.read_text().splitlines()]
    cut_off = [each["user_attr"]["values"] for each in asked if "values" in each.get("user_attr", {})][-1]
    with journal.open("a") as file:
        file.write('{"op_code": 9, "half a li')  # what a kill can leave

    found = learn_augmentation(config=config, budget_minutes=60, most_trials=2)
    assert [trial.values for trial in found.trials] == [found.before.values, cut_off]
    assert found.before.values["label_smoothing"] == 0.9
    assert all(trial.loss is not None and 0 <= (trial.accuracy or 0) <= 1 for trial in found.trials)
    assert found.seconds > 0
    assert found.best == min(found.trials, key=lambda trial: trial.loss or 0)
    teacher = config_file.read(config).teacher
    assert found.written == (found.best is not found.before)
    assert {key: getattr(teacher, key) for key in SEARCHED} == found.best.values
    assert "# Forty digits." in config.read_text()
    assert ("best of 2 trials" in config.read_text()) == found.written


@pytest.mark.parametrize("recipe", [Teacher(), Student(), Student(method="fixmatch")])
def test_what_is_proposed_is_a_recipe(recipe: Recipe) -> None:
    import optuna

    found = SimpleNamespace(recipe=recipe)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = []
    for _ in range(40):
        values = proposed(study.ask(), found)
        assert set(values) == set(SEARCHED)
        checked = type(recipe).model_validate({**recipe.model_dump(), **values})
        assert {key: getattr(checked, key) for key in SEARCHED} == values
        assert json.loads(json.dumps(values)) == values
        seen.append(checked)
    assert {each.strength for each in seen} == {"weak", "strong"}
    assert any(each.mixup > 0 for each in seen) == (recipe != Student(method="fixmatch"))
    assert all(each.randaugment_magnitude is None for each in seen if not each.randaugment_operations)


def test_a_recipe_without_augmentation_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "few.yaml"
    config.write_text(CONFIG.format(workspace=tmp_path / "work").replace("augmentation: digits", "augmentation: none"))
    with pytest.raises(ConfigError, match=r"teacher\.augmentation is 'none'"):
        learn_augmentation(config=config)
