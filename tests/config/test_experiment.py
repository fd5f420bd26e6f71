"""The configuration: frozen, parsed once, and clear about what is wrong with it."""

import pytest
from pydantic import ValidationError

from selftrain.config import DigitsSource, Experiment, Fixed, FolderSource, Place, Registry, Student, Teacher, parse
from selftrain.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gat": {}}, "did you mean 'gate'"),
        ({"gate": {"tagret": 0.5}}, "did you mean 'target'"),
        ({"source": {"kind": "folder", "labelled": "a"}}, "did you mean 'labeled'"),
        ({"source": {"kind": "folder"}}, "labeled"),
        ({"checks": {"severity": {"class_balanse": "warn"}}}, "did you mean 'class_balance'"),
        ({"teacher": {"backbone": "efficientnet_b00"}}, "teacher.backbone.*did you mean 'efficientnet_b0'"),
        ({"student": {"backbone": "resnet50"}}, "student.backbone.*did you mean 'ResNet50'"),
        ({"teacher": {"weights": "imagenet"}}, "efficientnet_b0_050 has no published weights"),
        ({"decoded_mb": 0}, "machine.decoded_mb"),
        ({"teacher": {"checkpoint_s": 1.0}}, "machine.checkpoint_s"),
        ({"source": {"kind": "foldr"}}, "'folder'"),
        ({"student": {"steps": 0}}, "student.steps"),
        ({"gate": {"target": 1.5}}, "gate.target"),
        ({"name": "../up"}, "name"),
        ({"inbox": "/srv/inbox"}, r"inbox is '/srv/inbox'.*write `inbox: \{url: /srv/inbox\}`"),
        ({"inbox": {"url": "in", "marker": "_SUCCESS"}}, r"inbox.marker is '_SUCCESS'.*\{name\}.done"),
        ({"inbox": {"url": "in", "marker": "{file}.done"}}, r"inbox.marker is '\{file\}.done'"),
        ({"inbox": {"url": "in", "marker": "{name!q}.done"}}, "inbox.marker"),
        ({"inbox": {"url": "in", "marker": "{name"}}, "inbox.marker"),
        ({"notify": {"command": "page 'me"}}, "notify.command.*No closing quotation"),
        ({"notify": {"command": " "}}, "notify.command is empty"),
    ],
)
def test_an_error_names_the_key_and_what_came_in(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(values)


def test_nothing_given_is_the_digits_experiment() -> None:
    assert parse({}) == Experiment()
    assert isinstance(Experiment().source, DigitsSource)


@pytest.mark.parametrize(
    ("values", "called"),
    [
        ({}, "digits"),
        ({"name": "flowers"}, "flowers"),
        ({"name": "flowers.v2", "registry": {"alpha": 0.01}}, "flowers-v2"),
        ({"name": "flowers", "registry": {"model_name": None}}, "flowers"),
        ({"name": "flowers", "registry": {"model_name": "Blüten und Blätter"}}, "Blüten und Blätter"),
        ({"name": "flowers", "registry": Registry(alpha=0.01)}, "flowers"),
    ],
)
def test_a_model_is_called_as_its_experiment_unless_it_has_a_name(values: dict[str, object], called: str) -> None:
    registry = parse(values).registry
    assert registry.model_name == called
    # what ZenML hands a step
    assert Registry.model_validate(registry.model_dump(exclude_unset=True)) == registry


@pytest.mark.parametrize(
    ("source", "augmentation"),
    [
        (None, "digits"),
        ({"kind": "digits"}, "digits"),
        (DigitsSource(), "digits"),
        ({"kind": "keras_dataset", "name": "mnist"}, "digits"),
        ({"kind": "keras_dataset", "name": "cifar10"}, "natural"),
        ({"kind": "folder", "labeled": "mnist"}, "natural"),
        (FolderSource(labeled="mnist"), "natural"),
    ],
)
def test_what_must_not_be_mirrored_is_not_however_little_of_a_recipe_is_given(
    source: object, augmentation: str
) -> None:
    values = {} if source is None else {"source": source}
    for recipe in ({}, {"steps": 9}, Teacher(steps=9)):
        teacher = parse({**values, "teacher": recipe}).teacher
        assert teacher.augmentation == parse(values).student.augmentation == augmentation
        # what ZenML hands a step
        assert Teacher.model_validate(teacher.model_dump(exclude_unset=True)) == teacher
    assert parse({**values, "teacher": {"augmentation": "none"}}).teacher.augmentation == "none"


@pytest.mark.parametrize("name", ["a/b", "a:1", "v1.2", "100%", "it's", 'say "x"', "me@home", " a", "a" * 201, "a\\b"])
def test_a_model_name_that_mlflow_would_refuse_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match=r"registry\.model_name is .*MLflow allows 200 characters"):
        parse({"registry": {"model_name": name}})


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Experiment().name = "other"  # type: ignore[misc]


def test_a_round_trip_through_json_changes_nothing() -> None:
    experiment = parse({"name": "x", "source": {"kind": "folder", "labeled": "a"}, "pseudo_label": {"targets": "hard"}})
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


def test_the_place_says_where_the_data_set_lies() -> None:
    assert parse({"name": "x", "workspace": "w"}).place == Place(workspace="w", dataset="x")


@pytest.mark.parametrize("value", [DigitsSource(), FolderSource(labeled="a"), Fixed(), Fixed(value=0.3)])
def test_a_kind_is_there_even_where_only_what_was_set_is_written(value: DigitsSource | FolderSource | Fixed) -> None:
    assert value.model_dump(exclude_unset=True)["kind"] == value.kind


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"student": {"method": "fixmatch", "pseudo_weight": 0.5}}, "student.pseudo_weight is 0.5"),
        (
            {"student": {"method": "softmatch", "min_human_share": 0.5}},
            "method is softmatch, which reads no pseudo-labels",
        ),
        ({"student": {"method": "fixmatch", "strength": "weak"}}, "which takes weak and strong views"),
        ({"student": {"consistency": {"mu": 7}}}, "method is noisy_student"),
        ({"student": {"method": "softmatch", "consistency": {"threshold": 0.9}}}, "it belongs to fixmatch"),
        (
            {"student": {"method": "fixmatch", "consistency": {"momentum": 0.9}}},
            "it belongs to freematch and softmatch",
        ),
        ({"teacher": {"randaugment_operations": 3}}, "teacher.randaugment_operations is 3, and would do nothing"),
        ({"student": {"augmentation": "none", "randaugment_magnitude": 3.0}}, "augmentation is none"),
        ({"teacher": {"head": "fitted"}}, "'fitted' without teacher.weights"),
        ({"teacher": {"steps": 0}}, "teacher.steps is 0, and nothing would be trained"),
        (
            {"teacher": {"weights": "imagenet", "backbone": "efficientnet_b0", "head": "fitted", "freeze_steps": 9}},
            "the head is fitted before the first step",
        ),
        (
            {"student": {"weights": "imagenet", "head": "fitted", "start": "student"}},
            "a student that continues keeps its teacher's head",
        ),
        (
            {"student": {"weights": "imagenet", "head": "fitted", "steps": 0, "method": "fixmatch"}},
            "student.steps is 0, and nothing would be trained",
        ),
        (
            {"student": {"weights": "imagenet", "head": "fitted", "steps": 0, "batch_size": 8}},
            "student.batch_size is 8, and would do nothing: steps is 0",
        ),
        ({"teacher": {"backbone": "keras_hub:vit"}}, "stays frozen: set teacher.head to 'fitted'"),
        (
            {"teacher": {"backbone": "keras_hub:vit", "head": "fitted", "steps": 0, "weights": "imagenet"}},
            "brings its own weights; leave weights out",
        ),
        (
            {"teacher": {"backbone": "keras_hub:vit", "head": "fitted", "steps": 0, "reduce_strides": False}},
            "a preset keeps its own strides",
        ),
        ({"teacher": {"backbone": "keras_hub:", "head": "fitted", "steps": 0}}, "names no preset"),
        ({"teacher": {"start": "zero_shot"}}, "'zero_shot' without teacher.preset"),
        ({"teacher": {"preset": "clip_vit_base_patch32"}}, "would do nothing: teacher.start is 'train'"),
        (
            {"teacher": {"start": "zero_shot", "preset": "clip", "prompts": ["a photo"]}},
            "prompt 'a photo': write {} once",
        ),
        ({"teacher": {"freeze_steps": 10}}, "without weights there is nothing to keep frozen"),
        ({"student": {"weights": "imagenet", "unfreeze_rate": 0.5}}, "would do nothing: freeze_steps is 0"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused_with_the_one_that_silences_it(
    values: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse(values)
    assert said in str(error.value)


def test_settings_that_do_something_are_taken() -> None:
    both = parse({"student": {"method": "freematch", "consistency": {"fairness": 0.1}, "randaugment_magnitude": 5.0}})
    assert both.student.consistency.fairness == 0.1
    assert parse({"teacher": {"strength": "strong", "randaugment_operations": 1}}).teacher.randaugment_operations == 1


@pytest.mark.parametrize(
    ("teacher", "student", "said"),
    [
        ({"backbone": "efficientnet_b0"}, {"backbone": "efficientnet_b1"}, "leave student.backbone out"),
        (
            {"backbone": "efficientnet_b0", "weights": "imagenet"},
            {"backbone": "efficientnet_b0"},
            "student.weights is None and teacher.weights 'imagenet'",
        ),
        (
            {"backbone": "efficientnet_b0", "reduce_strides": False},
            {"backbone": "efficientnet_b0"},
            "student.reduce_strides is True and teacher.reduce_strides False",
        ),
    ],
)
def test_a_student_starts_from_a_teacher_of_its_backbone_and_weights_alone(
    teacher: dict[str, object], student: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse({"teacher": teacher, "student": {"start": "teacher", **student}})
    assert said in str(error.value)
    alike = parse({"teacher": teacher, "student": {"start": "teacher", **teacher}})
    assert alike.student.start == "teacher"
    assert parse({"teacher": teacher, "student": student}).student.start == "new"


def test_a_student_is_a_rung_above_its_teacher_unless_it_is_told_otherwise_or_goes_on_from_it() -> None:
    assert Student().backbone_after("efficientnet_b0") == "efficientnet_b1"
    assert Student(start="teacher").backbone_after("efficientnet_b0") == "efficientnet_b0"
    assert Student(backbone="efficientnet_b3").backbone_after("efficientnet_b0") == "efficientnet_b3"
