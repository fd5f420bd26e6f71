"""The augmentation search: real trials on digits, cut off and continued; what it proposes is a valid recipe."""

import json
import shutil
from pathlib import Path

import pytest

from selftrain import learn_augmentation
from selftrain.config import Recipe, Student, Teacher
from selftrain.config.text.file import read_experiment
from selftrain.errors import ConfigError
from selftrain.learn.training.defaults import smoothing
from selftrain.learn.tuning.augmentation_search import (
    ACCURACY,
    JOURNAL,
    SECONDS,
    VALUES,
    proposed,
    searched,
)

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


STUDENT = """\
    student:
      method: freematch
      backbone: wide_resnet_16_1
      consistency: {{weight: {weight}, mu: 2}}
      batch_size: 4
      steps: 4
      augmentation: digits
"""


def configured(folder: Path, *, student: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "few.yaml"
    config.write_text(CONFIG.format(workspace=folder / "work") + student)
    return config


class KilledError(Exception):
    pass


@pytest.mark.slow
def test_a_search_that_was_cut_off_goes_on_within_its_trial(tmp_path: Path) -> None:
    config = configured(tmp_path)
    notes: list[str] = []

    def kill(done: int, total: int, note: str = "") -> None:
        notes.append(note)
        if note.startswith("trial 2, step 3"):
            raise KilledError

    with pytest.raises(KilledError):
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


@pytest.fixture(scope="module")
def tried_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the recipe as it is has been tried, and nothing else."""
    folder = tmp_path_factory.mktemp("tried")
    found = learn_augmentation(config=configured(folder), most_trials=1)
    assert (len(found.trials), found.written) == (1, False)
    return folder / "work"


@pytest.fixture
def tried(tried_once: Path, tmp_path: Path) -> Path:
    """A configuration of a test's own, whose recipe as it is has been tried."""
    shutil.copytree(tried_once, tmp_path / "work")
    return configured(tmp_path)


def with_a_trial(config: Path, values: dict[str, object], loss: float) -> None:
    """Adds a trial to the study of `config`, as the search keeps it."""
    import optuna

    (journal,) = (config.parent / "work").rglob(JOURNAL)
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(study_name="augmentation", storage=optuna.storages.JournalStorage(backend))
    kept = {VALUES: values, ACCURACY: 0.5, SECONDS: 1.0}
    study.add_trial(optuna.trial.create_trial(value=loss, user_attrs=kept))


OTHER = {
    "strength": "strong",
    "randaugment_operations": 2,
    "randaugment_magnitude": 7.5,
    "mixup": 0.0,
    "label_smoothing": 0.04,
}


def test_a_search_without_a_better_trial_leaves_the_file_as_it_was(tried: Path) -> None:
    before = tried.read_bytes()
    with_a_trial(tried, OTHER, loss=99.0)
    found = learn_augmentation(config=tried, most_trials=2)
    assert len(found.trials) == 2
    assert found.best == found.before
    assert not found.written
    assert tried.read_bytes() == before


def test_the_values_of_the_best_trial_are_written_and_nothing_else(tried: Path) -> None:
    before, text = read_experiment(tried), tried.read_bytes()
    with_a_trial(tried, {**OTHER, "label_smoothing": 0.06}, loss=0.002)
    with_a_trial(tried, OTHER, loss=0.001)
    assert not learn_augmentation(config=tried, most_trials=3, write=False).written
    assert tried.read_bytes() == text

    found = learn_augmentation(config=tried, most_trials=3)
    assert found.written
    assert found.best.values == OTHER
    teacher = before.teacher.model_copy(update=OTHER)
    assert read_experiment(tried) == before.model_copy(update={"teacher": teacher})
    lines = [line.strip() for line in tried.read_text().splitlines()]
    assert lines[0] == "# Forty digits."
    (smoothing,) = (line for line in lines if line.startswith("label_smoothing"))
    assert smoothing.startswith("label_smoothing: 0.04")
    assert f"validation loss 0.001, {found.before.loss:.3f} before; best of {len(found.trials)} trials" in smoothing
    assert not [line for line in lines if line.startswith("mixup")]  # it was 0 before


@pytest.mark.slow
def test_a_method_in_training_is_searched_by_the_training_of_a_run(tmp_path: Path) -> None:
    losses = []
    for weight in (0.0, 50.0):
        config = configured(tmp_path / str(weight), student=STUDENT.format(weight=weight))
        found = learn_augmentation(config=config, role="student", most_trials=1)
        assert set(found.before.values) == {"randaugment_operations", "randaugment_magnitude"}
        losses.append(found.before.loss)
    assert abs(losses[0] - losses[1]) > 1e-3  # the pool is learnt from


@pytest.mark.parametrize("recipe", [Teacher(), Student(), Student(method="fixmatch")])
def test_what_is_proposed_is_a_recipe_that_its_training_reads(recipe: Recipe) -> None:
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = []
    for _ in range(40):
        values = proposed(study.ask(), recipe)
        assert set(values) == set(searched(recipe))
        checked = type(recipe).model_validate({**recipe.model_dump(), **values})
        assert {key: getattr(checked, key) for key in values} == values
        assert json.loads(json.dumps(values)) == values
        seen.append(checked)
    assert len({each.randaugment_magnitude for each in seen}) > 5
    assert all(each.randaugment_magnitude is None for each in seen if not each.randaugment_operations)
    if recipe == Student(method="fixmatch"):
        assert {(each.strength, each.mixup, smoothing(each)) for each in seen} == {("strong", 0.0, 0.0)}
    else:
        assert {each.strength for each in seen} == {"weak", "strong"}
        assert any(each.mixup > 0 for each in seen)
        assert any(smoothing(each) > 0 for each in seen)


def test_a_recipe_without_augmentation_is_refused(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.write_text(config.read_text().replace("augmentation: digits", "augmentation: none"))
    with pytest.raises(ConfigError, match=r"teacher\.augmentation is 'none'"):
        learn_augmentation(config=config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"budget_minutes": 0.0}, "budget_minutes is 0.0; give minutes above 0"),
        ({"budget_minutes": float("inf")}, "budget_minutes is inf"),
    ],
)
def test_a_search_that_cannot_begin_or_end_is_refused(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        learn_augmentation(config=configured(tmp_path), **settings)
