"""The page about two runs: it answers, says what it cannot compare, and no name becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from selftrain.evaluate.average_precision import Boxes
from selftrain.evaluate.detection import evaluate_detector
from selftrain.evaluate.evaluation import evaluate
from selftrain.evaluate.wrong_answers import all_errors
from selftrain.report.comparison.answers import ComparedRun
from selftrain.report.comparison.page import MOST_IMAGES, QUESTIONS, comparison_page, shown_images
from selftrain.report.page.run_facts import Picture
from tests.report.comparison.test_answers import IDS, NAMES, labels, run
from tests.report.test_run_page import MARKUP, parsed, record

PICTURE = Picture("data:image/webp;base64,UklGRg==", MARKUP[1])


def page(first: ComparedRun, second: ComparedRun) -> str:
    return comparison_page(first, second, dict.fromkeys(shown_images(first, second), PICTURE))


def text(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup.split("<body>", 1)[1]))


def heading(markup: str) -> str:
    (found,) = re.findall(r"<h1[^>]*>([^<]*)</h1>", markup)
    return str(found)


def right_on(count: int, run_id: str = "a") -> ComparedRun:
    """A run that is right on the first `count` test images."""
    answered = np.eye(3)[(labels() + (np.arange(60) >= count)) % 3]
    found = evaluate(labels(), answered, class_names=NAMES)
    found = found.model_copy(update={"errors": all_errors(IDS, labels(), answered)})
    return ComparedRun(record(run_id=run_id), found, truth=dict(zip(IDS, labels().tolist(), strict=True)))


def test_the_page_asks_its_questions_in_order_and_is_whole() -> None:
    found = page(run(1), run(2, run_id="b"))
    structure = parsed(found)
    assert re.findall(r"<h2 [^>]*>([^<]*)</h2>", found) == [question for _, question in QUESTIONS]
    assert len(structure.ids) == len(set(structure.ids))
    assert {value[1:] for name, value in structure.called if name == "href"} <= set(structure.ids)
    assert found.count("<table") == found.count("<caption>") >= 4


def test_which_run_is_better_is_told_with_its_interval() -> None:
    better = page(right_on(30), right_on(50, "b"))
    assert heading(better) == "Run B is better than run A, by 33.3 points of test accuracy."
    assert "On 60 test images that both runs have: 20 gained, 0 lost, +33.3 points of accuracy" in better
    assert heading(page(right_on(50), right_on(30, "b"))).startswith("Run B is worse than run A, by 33.3 points")
    assert heading(page(right_on(30), right_on(31, "b"))).startswith("No difference is proven: +1.7 points")


def looked_at(compared: ComparedRun, looks: int) -> ComparedRun:
    return replace(compared, record=compared.record.model_copy(update={"test_looks": looks}))


def test_how_many_models_a_test_set_has_judged_is_told_of_each_test_set() -> None:
    once = text(page(looked_at(right_on(30), 1), looked_at(right_on(50, "b"), 1)))
    assert "1 model has been evaluated on this test set. A run that you choose" in once
    other = looked_at(run(2, ids=[each[::-1] + "x" for each in IDS[:30]] + IDS[30:], run_id="b"), 4)
    told = text(page(looked_at(right_on(30), 1), other))
    assert (
        "1 model has been evaluated on the test set of run A. 4 models have been evaluated on the test set of run B."
        in told
    )


def test_runs_that_answer_alike_are_said_to() -> None:
    alike = heading(page(right_on(30), right_on(30, "b")))
    assert alike == "Both runs give the same answer to all 60 test images that both have."


def test_gained_and_lost_images_are_shown_apart_with_both_answers() -> None:
    found = page(right_on(30), right_on(50, "b"))
    gained, lost = found.split("Gained: only run B is right")[1].split("Lost: only run A is right")
    assert "20 images" in gained
    assert gained.count("<img") == 20
    assert "There are none." in lost
    told = text("<body>" + gained)
    assert re.search(r"is cat A: dog B: cat", told)


def test_settings_that_differ_are_listed_and_the_others_are_not() -> None:
    first = replace(run(1), settings={"seed": 0, "student": {"steps": 100}}, made={"Python": "3.11"})
    second = replace(run(2, run_id="b"), settings={"seed": 0, "student": {"steps": 200}}, made={"Python": "3.12"})
    told = text(page(first, second))
    assert "Python 3.11 3.12 student.steps 100 200" in told
    assert " seed " not in told
    assert "Settings and data are the same." in page(run(1), run(2, run_id="b"))


def test_rounds_that_one_run_lacks_are_dashes() -> None:
    first, second = run(1), run(2, run_id="b")
    short = replace(second, record=second.record.model_copy(update={"rounds": second.record.rounds[:1]}))
    told = text(page(first, short))
    assert "round 1 small 50 of 200 90.0 % yes - - - -" in told


def test_other_test_images_are_told_and_what_is_shared_is_compared() -> None:
    moved = [*IDS[10:], *(f"{index:064x}" for index in range(900, 910))]
    truth = np.concatenate([labels()[10:], labels()[:10]])
    told = text(page(run(1), run(2, ids=moved, truth=truth, run_id="b")))
    assert "10 images are in that of run A alone, 10 in that of run B alone" in told
    assert "On 50 test images that both runs have" in told
    apart = page(run(1), run(2, ids=[f"{index:064x}" for index in range(500, 560)], run_id="b"))
    assert heading(apart) == "Not known: the runs have no test image in common."


def test_a_run_without_a_test_or_without_all_answers_is_named() -> None:
    untested = ComparedRun(record(run_id="b", test_accuracy=None, status="failed"))
    assert heading(page(run(1), untested)) == "Not known: run B stored no result on test."
    old = run(2, whole=False, run_id="b")
    assert heading(page(run(1), old)) == "Not known: run B did not store all answers on test."
    assert "images cannot be compared" in page(run(1), old)


def test_detectors_are_compared_by_map_alone_and_the_page_says_so() -> None:
    box, ball = np.array([[0, 0, 9, 9]], np.float32), np.array([0])
    marked = [Boxes.marked(box, ball, np.array([False]))] * 4
    found = evaluate_detector([Boxes.found(box, ball, np.ones(1, np.float32))] * 4, marked, class_names=("ball",))
    first = ComparedRun(record(metric="map", test_accuracy=0.4), detection=found)
    second = ComparedRun(record(run_id="b", metric="map", test_accuracy=0.5), detection=found)
    made = page(first, second)
    assert heading(made) == "Run B has the higher mAP: 0.500 against 0.400. Whether that is chance is not known."
    assert "they cannot be paired by image" in made
    assert "ball 1.000 1.000" in text(made)


def test_no_name_becomes_markup_and_nothing_is_loaded() -> None:
    marked, plain = (
        page(run(1, names=names), run(2, names=names, run_id="b")) for names in (MARKUP[:3], ("a", "b", "c"))
    )
    assert parsed(marked).tags == parsed(plain).tags
    assert "script" not in parsed(marked).tags
    called = parsed(marked).called
    assert all(value.startswith(("#", "data:image/")) for _, value in called)
    assert not [name for name, _ in called if name.startswith("on")]


def test_the_page_stays_small_for_a_large_test_set() -> None:
    ids = [f"{index:064x}" for index in range(600)]
    truth = np.tile(labels(), 10)
    runs = [run(seed, ids=ids, truth=truth, run_id=str(seed)) for seed in (1, 2)]
    shown = shown_images(*runs)
    assert len(shown) == 2 * MOST_IMAGES
    heavy = Picture(f"data:image/webp;base64,{'A' * 6000}", "photo.jpg")
    found = comparison_page(*runs, dict.fromkeys(shown, heavy))
    assert f"Shown: {MOST_IMAGES}; drawn by image id" in found
    assert len(found) < 10_000_000
