"""Two runs' answers: joined by image id and class name, and counted as a loop counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from selftrain.evaluate.evaluation import EvaluationReport, compare, evaluate
from selftrain.evaluate.wrong_answers import all_errors
from selftrain.report.comparison.answers import (
    Answer,
    ComparedRun,
    all_known,
    confusion_changes,
    drawn,
    overall,
    per_class,
    share,
)
from tests.report.test_run_page import record

NAMES = ("cat", "dog", "eel")
IDS = [f"{index:064x}" for index in range(60)]


def probs(seed: int, images: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(len(NAMES), 0.3), images)


def labels(seed: int = 9, images: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, len(NAMES), images)


def run(
    seed: int,
    *,
    ids: Sequence[str] = IDS,
    truth: np.ndarray | None = None,
    names: tuple[str, ...] = NAMES,
    run_id: str = "a",
    whole: bool = True,
) -> ComparedRun:
    """A run whose model answers `ids` as `seed` draws it."""
    truth = labels() if truth is None else truth
    answered = probs(seed, len(ids))
    found = evaluate(truth, answered, class_names=names)
    errors = all_errors(ids, truth, answered) if whole else None
    found = found.model_copy(update={"errors": errors})
    facts = record(run_id=run_id, test_accuracy=found.accuracy, test_images=len(ids))
    return ComparedRun(facts, found, truth=dict(zip(ids, truth.tolist(), strict=True)))


def test_all_answers_follow_from_the_errors_that_are_stored() -> None:
    found = run(1)
    assert found.evaluation is not None
    assert found.evaluation.answers(found.truth) == dict(zip(IDS, probs(1).argmax(axis=1).tolist(), strict=True))
    assert all_known(found)
    again = EvaluationReport.model_validate_json(found.evaluation.model_dump_json())
    assert again.answers(found.truth) == found.evaluation.answers(found.truth)


def test_a_run_that_stored_only_some_errors_is_not_known() -> None:
    assert not all_known(run(1, whole=False))
    assert not all_known(ComparedRun(record()))


def test_two_runs_on_the_same_images_are_compared_as_their_probabilities_would_be() -> None:
    joined = share(run(1), run(2))
    assert joined.same
    assert overall(joined.answers) == compare(labels(), probs(2), probs(1))
    one, other = probs(1).argmax(axis=1), probs(2).argmax(axis=1)
    rows = list(zip(IDS, labels().tolist(), one.tolist(), other.tolist(), strict=True))
    assert [each.image_id for each in joined.gained] == [name for name, true, a, b in rows if b == true != a]
    assert [each.image_id for each in joined.lost] == [name for name, true, a, b in rows if a == true != b]
    assert joined.swapped == sum(a != b and true not in (a, b) for _, true, a, b in rows)
    assert joined.swapped > 0


def test_per_class_the_gained_and_lost_images_are_those_of_the_class() -> None:
    joined = share(run(1), run(2))
    found = per_class(joined.answers)
    assert [each.name for each in found] == list(NAMES)
    for each in found:
        assert each.won == sum(image.label == each.name for image in joined.gained)
        assert each.lost == sum(image.label == each.name for image in joined.lost)
        assert each.images == int((labels() == NAMES.index(each.name)).sum())


def test_classes_are_joined_by_name_whatever_their_order() -> None:
    turned = (2, 0, 1)  # eel, cat, dog
    names = tuple(NAMES[index] for index in turned)
    truth = np.array([turned.index(label) for label in labels()])
    found = evaluate(truth, probs(1)[:, turned], class_names=names)
    found = found.model_copy(update={"errors": all_errors(IDS, truth, probs(1)[:, turned])})
    other = ComparedRun(record(run_id="b"), found, truth=dict(zip(IDS, truth.tolist(), strict=True)))
    joined = share(run(1), other)
    assert joined.same
    assert all(each.first == each.second for each in joined.answers)


def test_only_images_of_both_test_sets_with_one_label_are_compared() -> None:
    moved = [*IDS[10:], *(f"{index:064x}" for index in range(900, 910))]
    truth = np.concatenate([labels()[10:], labels()[:10]])
    truth[0] = (truth[0] + 1) % len(NAMES)
    joined = share(run(1), run(2, ids=moved, truth=truth))
    assert (joined.only_first, joined.only_second, joined.relabelled) == (10, 10, 1)
    assert [each.image_id for each in joined.answers] == IDS[11:]
    assert not joined.same


def test_runs_without_a_common_image_have_no_difference() -> None:
    others = [f"{index:064x}" for index in range(500, 560)]
    joined = share(run(1), run(2, ids=others))
    assert joined.answers == ()
    assert overall(joined.answers) is None
    assert per_class(joined.answers) == ()


def test_confusions_are_ranked_by_how_much_they_changed() -> None:
    answers = [
        *(Answer(str(index), "cat", "dog", "cat") for index in range(3)),  # 3 fewer cats as dogs
        Answer("x", "dog", "dog", "eel"),
        Answer("y", "eel", "cat", "cat"),  # as before
    ]
    found = confusion_changes(answers, most=5)
    assert [(each.label, each.answer, each.first, each.second) for each in found] == [
        ("cat", "dog", 3, 0),
        ("dog", "eel", 0, 1),
    ]
    assert len(confusion_changes(answers, most=1)) == 1


@pytest.mark.parametrize("most", [1, 3, 100])
def test_images_are_drawn_in_turn_from_each_class(most: int) -> None:
    answers = [Answer(f"{index:02}", "cat" if index < 8 else "dog", "a", "b") for index in range(10)]
    found = drawn(answers[::-1], most=most)
    assert [each.image_id for each in found[:4]] == ["00", "08", "01", "09"][:most]
    assert len(found) == min(most, 10)
