"""The model card: the numbers are the report's, and no name breaks the page."""

import numpy as np
import numpy.typing as npt
import pytest

from selftrain.evaluate.evaluation import EvaluationReport, evaluate
from selftrain.learn.models.contract import Contract
from selftrain.report.cards.head import TrainedOn
from selftrain.report.cards.model_card import model_card
from selftrain.selflabel.rounds.history import History, Round

pytestmark = pytest.mark.keras
TRAINED_ON = TrainedOn("pets: the 2nd", "my pets", {"train": 1100, "validation": 50, "test": 20, "unlabeled": 1134})


def answers(predicted: list[int], classes: int) -> npt.NDArray[np.float64]:
    return np.full((len(predicted), classes), 0.2 / classes) + 0.8 * np.eye(classes)[predicted]


def contract(*names: str) -> Contract:
    return Contract(backbone="efficientnet_b0_070", image_size=32, class_names=names, weights_sha256="abc123")


def rounds() -> tuple[Round, ...]:
    teacher = Round(
        index=0,
        backbone="efficientnet_b0_050",
        labeled=100,
        validation_accuracy=0.9,
        validation_metric=0.9,
        seconds=60,
        model_digest="first",
    )
    student = teacher.model_copy(
        update={"index": 1, "accepted": 1017, "pool": 1134, "threshold": "0.9", "validation_metric": 0.95}
    )
    return History().with_round(teacher).with_round(student).rounds


def card_of(made: Contract, report: EvaluationReport, finished: tuple[Round, ...]) -> str:
    return model_card(made, report, finished, TRAINED_ON)


def compared(right: int, teacher_right: int, images: int = 20) -> EvaluationReport:
    model, teacher = ([0] * good + [1] * (images - good) for good in (right, teacher_right))
    return evaluate([0] * images, answers(model, 2), class_names=("cat", "dog"), reference_probs=answers(teacher, 2))


def test_the_card_tells_the_numbers_of_the_report_and_the_rounds() -> None:
    card = card_of(contract("cat", "dog"), compared(19, 12), rounds())
    assert "| accuracy | 95.0 % (95 % interval 76.4 to 99.1) |" in card
    assert "The unlabelled images helped." in card
    assert "60.0 %" in card
    assert "7 images won, 0 lost" in card
    assert "| 1 | `efficientnet_b0_050` | 100 | 1,017 of 1,134 | 0.9 | 90.0 % | yes |" in card
    assert "weights sha256 `abc123`" in card
    assert "its identity as a teacher is `abc123`" in card


def test_the_card_of_a_student_in_training_claims_no_pseudo_labels() -> None:
    teacher, student = rounds()
    untaught = student.model_copy(update={"method": "fixmatch", "accepted": 0, "threshold": None})
    card = card_of(contract("cat", "dog"), compared(19, 12), (teacher, untaught))
    assert "| 1 | `efficientnet_b0_050` | 100 | in training (fixmatch) | - | 90.0 % | yes |" in card
    assert "labels the unlabelled images it is sure of" not in card
    assert "without pseudo-labels from the teacher" in card


def test_the_card_names_a_student_that_diverged() -> None:
    teacher, student = rounds()
    lost = student.model_copy(update={"diverged": "the loss became nan", "validation_accuracy": float("nan")})
    card = card_of(contract("cat", "dog"), compared(12, 12), (teacher, lost.model_copy(update={"kept": False})))
    assert "| 1,017 of 1,134 | 0.9 | diverged | no |" in card


@pytest.mark.parametrize(
    ("right", "teacher_right", "sentence"),
    [(12, 19, "made it worse"), (13, 12, "remains undecided"), (12, 12, "remains undecided")],
)
def test_the_card_claims_no_gain_that_was_not_shown(right: int, teacher_right: int, sentence: str) -> None:
    card = card_of(contract("cat", "dog"), compared(right, teacher_right), rounds())
    assert sentence in card
    assert "helped." not in card


def test_a_first_teacher_that_no_student_beat_is_called_one() -> None:
    card = card_of(contract("cat", "dog"), compared(12, 12), rounds()[:1])
    assert "This is the first teacher" in card
    assert "McNemar" not in card


def test_the_card_names_classes_that_test_says_nothing_about() -> None:
    report = evaluate([0, 0], answers([0, 0], 3), class_names=("cat", "dog", "elk"))
    card = card_of(contract("cat", "dog", "elk"), report, rounds())
    assert "No test image shows dog, elk" in card
    assert "It never answered dog, elk on test" in card


def test_class_names_cannot_break_the_table() -> None:
    name = "a|b\n## c <script> *d* _e_ f_g"
    card = card_of(contract(name, "e"), evaluate([0], answers([0], 2), class_names=(name, "e")), rounds())
    assert "| a\\|b ## c \\<script> \\*d\\* \\_e\\_ f_g | 1 | 1.000 | 1.000 | 1.000 |" in card
    assert "\n## c" not in card


def test_of_many_classes_the_worst_are_shown() -> None:
    names = tuple(f"class {index}" for index in range(40))
    labels = list(range(40))
    predicted = [*labels[:39], 0]
    card = card_of(contract(*names), evaluate(labels, answers(predicted, 40), class_names=names), rounds())
    assert "The 30 classes of 40 with the lowest F1" in card
    assert "| class 39 | 1 | - | 0.000 | 0.000 |" in card
    assert "| class 38 | 1 |" not in card
    assert "and 10 more." in card


def test_an_overconfident_model_is_called_one() -> None:
    wrong = evaluate([1] * 10, answers([0] * 10, 2), class_names=("cat", "dog"))
    assert "Its confidence is off by 90.0 %" in card_of(contract("cat", "dog"), wrong, rounds())


def test_the_card_names_its_data_and_how_many_images_each_split_has() -> None:
    card = card_of(contract("cat", "dog"), compared(19, 12), rounds())
    assert "Data set `my pets`" in card
    assert "1,100 to train on, 50 for validation, 20 for the test. Images without: 1,134." in card
