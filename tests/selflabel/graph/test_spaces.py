"""The spaces of a round: the networks that its first teacher and its student keep frozen."""

from selftrain.config import Experiment, PseudoLabel, Student, Teacher
from selftrain.selflabel.graph.spaces import NO_SPACES, spaces_of

FITTED = {"head": "fitted", "steps": 0, "weights": "imagenet"}
SMALL, LARGE = "mobilenet_v2_035", "mobilenet_v2_100"


def spaces(e: Experiment) -> list[tuple[str, str]]:
    return [(each.name, each.backbone) for each in spaces_of(e, e.student, LARGE).networks]


def experiment(*, labeler: str = "propagate", teacher: Teacher, student: Student) -> Experiment:
    return Experiment(teacher=teacher, student=student, pseudo_label=PseudoLabel(labeler=labeler), image_size=160)


def test_frozen_networks_of_the_first_teacher_and_the_student_are_spaces() -> None:
    e = experiment(teacher=Teacher(backbone=SMALL, **FITTED), student=Student(**FITTED))
    assert spaces(e) == [("the student's network", LARGE), ("the first teacher's network", SMALL)]
    assert {each.image_size for each in spaces_of(e, e.student, LARGE).networks} == {160}
    columns = {each.column for each in spaces_of(e, e.student, LARGE).networks}
    assert columns == {"features of the student's network", "features of the first teacher's network"}


def test_one_network_with_the_same_weights_is_one_space() -> None:
    e = experiment(teacher=Teacher(backbone=LARGE, **FITTED), student=Student(**FITTED))
    assert spaces(e) == [("the student's network", LARGE)]


def test_a_network_that_is_trained_is_no_space() -> None:
    e = experiment(teacher=Teacher(backbone=SMALL, weights="imagenet"), student=Student(weights="imagenet"))
    assert spaces(e) == []


def test_a_teacher_that_was_brought_is_no_published_network() -> None:
    e = experiment(teacher=Teacher(backbone=SMALL, start="champion", **FITTED), student=Student(**FITTED))
    assert spaces(e) == [("the student's network", LARGE)]


def test_a_preset_of_keras_hub_is_a_space_without_weights() -> None:
    teacher = Teacher(backbone="keras_hub:dinov2_small", head="fitted", steps=0)
    (_, preset) = spaces_of(experiment(teacher=teacher, student=Student(**FITTED)), Student(**FITTED), LARGE).networks
    assert (preset.backbone, preset.weights) == ("keras_hub:dinov2_small", None)


def test_there_are_none_where_labels_are_not_spread() -> None:
    e = experiment(labeler="teacher", teacher=Teacher(backbone=SMALL, **FITTED), student=Student(**FITTED))
    assert spaces_of(e, e.student, LARGE) == NO_SPACES
