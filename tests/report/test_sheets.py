"""Contact sheets: which images they show, and the rule by which they choose."""

import numpy as np

from selftrain.config import Fixed, PseudoLabel
from selftrain.report.page.sheets import MOST_IMAGES, MOST_ROUNDS, Sheet, sheets, shown
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

NAMES = ("cat", "dog", "eel")


def labelled(seed: int, *, images: int = 300, round_index: int = 1, value: float = 0.6) -> PseudoLabels:
    probs = np.random.default_rng(seed).dirichlet(np.full(3, 0.4), images)
    ids = [f"{(index * 7919) % 100_003:064x}" for index in range(images)]
    settings = PseudoLabel(threshold=Fixed(value=value))
    return select(ids, probs, settings, round_index=round_index, teacher="t", class_names=NAMES)


def by_title(labels: PseudoLabels, before: PseudoLabels | None = None) -> dict[str, Sheet]:
    return {each.title: each for each in sheets(labels, before)}


def test_accepted_and_rejected_take_turns_over_the_classes_and_count_all() -> None:
    labels = labelled(0)
    found = by_title(labels)
    assert found["Accepted"].total == labels.accepted.num_rows
    assert found["Accepted"].total + found["Rejected"].total == len(labels)
    for title in ("Accepted", "Rejected"):
        names = [each.label for each in found[title].entries]
        assert len(names) == MOST_IMAGES
        assert all(names.count(name) == MOST_IMAGES // 3 for name in NAMES)
        assert all(each.accepted == (title == "Accepted") for each in found[title].entries)


def test_borderline_shows_those_nearest_to_the_threshold_on_both_sides() -> None:
    labels = labelled(1)
    rows = labels.table.to_pylist()
    nearest = sorted(rows, key=lambda row: abs(row["confidence"] - 0.6))
    half = MOST_IMAGES // 2
    naive = {row["image_id"] for kept in (True, False) for row in [r for r in nearest if r["accepted"] is kept][:half]}
    assert {each.image_id for each in by_title(labels)["Borderline"].entries} == naive


def test_flipped_shows_both_labels_and_the_most_confident_first() -> None:
    before, labels = labelled(2), labelled(3, round_index=2)
    old = {row["image_id"]: NAMES[row["label"]] for row in before.table.to_pylist()}
    new = {row["image_id"]: NAMES[row["label"]] for row in labels.table.to_pylist()}
    sheet = by_title(labels, before)["Flipped"]
    assert sheet.total == sum(old[each] != new[each] for each in new)
    assert all((each.before, each.label) == (old[each.image_id], new[each.image_id]) for each in sheet.entries)
    confidences = [each.confidence for each in sheet.entries]
    assert confidences == sorted(confidences, reverse=True)


def test_an_empty_pool_and_one_that_is_accepted_whole_have_sheets() -> None:
    assert all(each.total == 0 for each in sheets(labelled(0, images=0)))
    assert by_title(labelled(0, images=5, value=0.0))["Rejected"].entries == ()


def test_the_newest_rounds_are_shown_and_each_is_compared_with_the_one_before() -> None:
    rounds = [labelled(index, images=20, round_index=index) for index in range(1, 8)]
    found = shown(rounds)
    assert [labels.round for labels, _ in found] == [7, 6, 5, 4][:MOST_ROUNDS]
    assert all("Flipped" in {sheet.title for sheet in each} for _, each in found)
    assert "Flipped" not in {sheet.title for sheet in shown(rounds[:1])[0][1]}
