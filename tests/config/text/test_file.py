"""The configuration file, changed by a program and still a person's."""

from pathlib import Path

import pytest

from selftrain.config import Experiment
from selftrain.config.text.file import RUN_KEYS, change_experiment, overridden_copy, read_experiment
from selftrain.errors import ConfigError

TEXT = """\
# A header that stays.
#
# Command    selftrain run --config x.yaml

parameters:
  experiment:
    name: 'quoted'   # as it was
    source: {kind: digits, labeled: 50}
    # above the teacher
    teacher:
      steps: 100
      batch_size: 16  # a guess

      # below the batch
      learning_rate: 0.003
    gate:
      target: 0.9
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "x.yaml"
    file.write_text(TEXT)
    return file


def test_only_the_changed_lines_differ(path: Path) -> None:
    values = {"teacher.batch_size": 32, "teacher.learning_rate": 1e-5}
    experiment = change_experiment(path, values, reasons={"teacher.batch_size": "measured: 812 images/s"})
    assert (experiment.teacher.batch_size, experiment.teacher.learning_rate) == (32, 1e-5)
    assert read_experiment(path) == experiment
    assert path.read_text() == TEXT.replace("16  # a guess", "32  # measured: 812 images/s").replace(
        "learning_rate: 0.003", "learning_rate: 0.00001"
    )


def test_sections_and_keys_that_were_not_there_are_added(path: Path) -> None:
    reasons = {"teacher.weights": "pretrained"}
    changed = change_experiment(path, {"student.batch_size": 64, "teacher.weights": "a b/w.h5"}, reasons=reasons)
    assert (changed.student.batch_size, changed.teacher.weights) == (64, "a b/w.h5")
    assert all(line in path.read_text() for line in TEXT.splitlines())
    assert "# pretrained" in path.read_text()


FLOW = """\
parameters:
  experiment:
    name: lab
    # the teacher
    teacher: {backbone: wide_resnet_16_1, batch_size: 16, validate_every: 20}   # mine
    student: {weight_decay: 0.0,  # none
              steps: 40}
    gate: {target: 0.15}
"""


def test_a_section_in_braces_stays_on_its_lines_with_the_comment_above(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(FLOW)
    values = {"teacher.batch_size": 8, "teacher.learning_rate": 1e-5, "student.steps": 50}
    reasons = {"teacher.batch_size": "measured: 12 images/s", "student.steps": "measured"}
    changed = change_experiment(file, values, reasons=reasons)
    assert (changed.teacher.batch_size, changed.teacher.learning_rate, changed.student.steps) == (8, 1e-5, 50)
    assert read_experiment(file) == changed
    assert file.read_text() == FLOW.replace(
        "    teacher: {", "    # teacher.batch_size: measured: 12 images/s\n    teacher: {"
    ).replace("16, validate_every: 20}", "8, validate_every: 20, learning_rate: 0.00001}").replace(
        "    student: {", "    # student.steps: measured\n    student: {"
    ).replace("steps: 40", "steps: 50")


def test_a_second_change_in_braces_replaces_the_comment_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(FLOW)
    for why in ("first", "second"):
        reasons = {"teacher.batch_size": f"measured {why}", "teacher.steps": f"also {why}"}
        change_experiment(file, {"teacher.batch_size": 8, "teacher.steps": 9}, reasons=reasons)
    text = file.read_text()
    assert "first" not in text
    assert text.count("# teacher.batch_size: measured second\n") == text.count("# teacher.steps: also second\n") == 1
    assert "    # the teacher\n" in text


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("parameters: {experiment: {}}\n", "parameters: {experiment: {teacher: {steps: 7}}}\n"),
        (
            "parameters: {experiment: {seed: 1, }}\n",
            "parameters: {experiment: {seed: 1, teacher: {steps: 7}, }}\n",
        ),
        (
            "parameters: {experiment: {teacher: {batch_size: 8}}}\n",
            "parameters: {experiment: {teacher: {batch_size: 8, steps: 7}}}\n",
        ),
        (
            'parameters:\n  experiment:\n    teacher: {augmentation: "none"\n    }\n',
            'parameters:\n  experiment:\n    teacher: {augmentation: "none", steps: 7\n    }\n',
        ),
    ],
)
def test_a_key_that_was_not_there_is_added_within_the_braces(tmp_path: Path, text: str, changed: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    assert change_experiment(file, {"teacher.steps": 7}, reasons={}).teacher.steps == 7
    assert file.read_text() == changed


ANCHORED = """parameters:
  experiment:
    teacher: &t {steps: &n 20, batch_size: &b 16}
    student: STUDENT
    seed: 3
"""


@pytest.mark.parametrize("student", ["{validate_every: 50, steps: *n}", "{steps: 40, batch_size: *b}", "{<<: *t}"])
def test_a_section_in_braces_that_names_an_anchor_is_changed_in_its_own_place(tmp_path: Path, student: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(ANCHORED.replace("STUDENT", student))
    before = read_experiment(file)
    changed = change_experiment(file, {"student.validate_every": 7}, reasons={})
    assert (changed.student.validate_every, changed.teacher) == (7, before.teacher)


def test_a_section_that_is_another_one_by_its_anchor_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(ANCHORED.replace("STUDENT", "*t"))
    with pytest.raises(ConfigError, match="too unusual to be changed by a program"):
        change_experiment(file, {"student.validate_every": 7}, reasons={})
    assert file.read_text() == ANCHORED.replace("STUDENT", "*t")


def test_a_copy_with_other_values_lasts_as_long_as_its_block_and_the_file_stays(path: Path) -> None:
    with overridden_copy(path, {"control": "supervised"}) as copy:
        assert read_experiment(copy) == read_experiment(path).model_copy(update={"control": "supervised"})
        assert copy.name == path.name
    assert not copy.exists()
    assert path.read_text() == TEXT
    with overridden_copy(None, {"control": "supervised"}) as copy:
        assert read_experiment(copy) == Experiment(control="supervised")
    with pytest.raises(ConfigError, match="control"), overridden_copy(path, {"control": "some"}):
        pass


@pytest.mark.parametrize("given", ["5", "[]", "digits", "0"])
def test_an_experiment_that_is_no_mapping_is_refused_with_its_key(tmp_path: Path, given: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"parameters:\n  experiment: {given}\n")
    with pytest.raises(ConfigError, match=r"x\.yaml: experiment: must be a mapping .*got") as error:
        read_experiment(file)
    assert "\n" not in error.value.message


def test_a_name_too_long_to_write_beside_gives_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 250 + ".yaml")
    file.write_text(TEXT)
    with pytest.raises(ConfigError, match=r"cannot be written \(.*set .* in it yourself"):
        change_experiment(file, {"teacher.batch_size": 32}, reasons={})
    assert file.read_text() == TEXT


def test_an_empty_configuration_takes_values(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("parameters:\n  experiment:\n")
    assert change_experiment(file, {"teacher.label_smoothing": 0.0}, reasons={}).teacher.label_smoothing == 0.0
    assert read_experiment(file).teacher.label_smoothing == 0.0


@pytest.mark.parametrize("values", [{"teacher.batch_size": 0}, {"teacher.batchsize": 8}])
def test_what_is_not_allowed_leaves_the_file_as_it_was(path: Path, values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"teacher|batch"):
        change_experiment(path, values, reasons={})
    assert path.read_text() == TEXT
    assert [each.name for each in path.parent.iterdir()] == ["x.yaml"]


def test_an_alias_that_a_change_would_spread_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    shared = "parameters:\n  experiment:\n    teacher: &t {steps: 9}\n    student: *t\n"
    file.write_text(shared)
    with pytest.raises(ConfigError, match="too unusual"):
        change_experiment(file, {"teacher.steps": 8, "student.steps": 7}, reasons={})
    assert file.read_text() == shared


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("- 1", "no `parameters:`"), ("parameters: {experiment: {x: 1}}", "did")],
)
def test_what_is_no_configuration_is_said(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_experiment(file)
    with pytest.raises(ConfigError, match="is not a file"):
        read_experiment(tmp_path / "y.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("paramters:\n  experiment: {}\n", "unknown key 'paramters' at the top; did you mean 'parameters'"),
        ("parameters:\n  experimnt: {}\n", "unknown key 'experimnt' under `parameters`; did you mean 'experiment'"),
    ],
)
def test_an_unknown_key_above_the_experiment_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_experiment(file)


def test_the_keys_at_the_top_are_those_that_zenml_reads() -> None:
    from zenml.config.pipeline_run_configuration import PipelineRunConfiguration

    assert set(PipelineRunConfiguration.model_fields) == RUN_KEYS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parameters:\n  experiment:\n    name: a\n    gate: {}\n    name: b\n", "'name' in line 5 stands in line 3"),
        ("parameters:\n  experiment:\n    gate: {target: 0.5, target: 0.9}\n", "'target' in line 3 stands in line 3"),
        ("parameters: {}\nparameters:\n  experiment: {}\n", "'parameters' in line 2 stands in line 1"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_experiment(path)


def test_a_mapping_that_an_alias_repeats_is_no_repeated_key(tmp_path: Path) -> None:
    path = tmp_path / "alias.yaml"
    path.write_text(
        "parameters:\n  experiment:\n    teacher: &recipe {steps: 7}\n    student: {<<: *recipe, batch_size: 8}\n"
    )
    student = read_experiment(path).student
    assert (student.steps, student.batch_size) == (7, 8)
