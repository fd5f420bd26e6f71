"""The page about a run: it answers, shows what is there and says what is missing, and no name becomes markup."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Fixed, PseudoLabel
from selftrain.data.annotations.run_lengths import mask_of
from selftrain.data.store.quality import Hint, HintedImage, HintedKind, QualityReport
from selftrain.evaluate.average_precision import Boxes
from selftrain.evaluate.coverage import HeldOut
from selftrain.evaluate.detection import evaluate_detector
from selftrain.evaluate.evaluation import evaluate
from selftrain.evaluate.statistics.forecast import ClassNeed, CurvePoint, Gain, LabelForecast
from selftrain.evaluate.wrong_answers import wrong_answers
from selftrain.report.page.run import QUESTIONS, needed_pictures, run_page, with_height
from selftrain.report.page.run_facts import LeftOutFile, MeasuredDrift, Picture, ReportedRun, Space
from selftrain.report.page.verdict import verdict
from selftrain.report.page.what_if import what_if
from selftrain.report.validation import ValidationReport
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from tests.retraining.drift.test_decision import nights

MARKUP = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b {{ 7*7 }}", "$x$'; --")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "input", "hr"}
TEACHER = Round(
    index=0, backbone="small", labeled=40, validation_accuracy=0.8, validation_metric=0.8, validation_images=100,
    calibration_error=0.02, calibration_error_uncalibrated=0.09, seconds=60, image_steps=1000, model_digest="d0",
    kept=True,
)  # fmt: skip
STUDENT = TEACHER.model_copy(
    update={
        "index": 1,
        "accepted": 50,
        "pool": 200,
        "threshold": "0.6",
        "validation_accuracy": 0.9,
        "model_digest": "d1",
    }
)


def pool(names: tuple[str, ...], *, round_index: int = 1, images: int = 200, seed: int = 0) -> PseudoLabels:
    rng = np.random.default_rng(seed)
    held_out = HeldOut(
        rng.dirichlet(np.full(len(names), 0.2), 100).astype(np.float32), rng.integers(0, len(names), 100)
    )
    ids = [f"{index:064x}" for index in range(images)]
    probs = rng.dirichlet(np.full(len(names), 0.2), images)
    settings = PseudoLabel(threshold=Fixed(value=0.6))
    return select(ids, probs, settings, round_index=round_index, teacher="t" * 64, class_names=names, held_out=held_out)


def record(**changes: object) -> RunRecord:
    facts = {
        "run_id": "r", "name": "digits", "status": "completed", "rounds": (TEACHER, STUDENT), "test_accuracy": 0.9,
        "test_interval": (0.85, 0.94), "test_images": 200, "teacher_test_accuracy": 0.8, "difference": 0.1,
        "difference_interval": (0.04, 0.16), "p_value": 0.001, "control_test_accuracy": 0.86,
        "control_difference": 0.04, "control_interval": (0.01, 0.07), "control_p_value": 0.02, "excluded": 0,
    }  # fmt: skip
    return RunRecord.model_validate(facts | changes)


def validation(origin: str) -> ValidationReport:
    """The data's report, with an image that is dark."""
    worst = (HintedImage(image_id=f"{7000:064x}", origin=origin, value="99 % of it below 20 of 255"),)
    hints = QualityReport(
        images=240, looked_at=200, too_small=9, share=0.05, kinds=(HintedKind(hint=Hint.DARK, images=12, worst=worst),)
    )
    return ValidationReport(
        manifest_digest="m", images=240, unlabeled=200, quarantine_share=0, passed=True, warnings=(), results=(),
        quality=hints,
    )  # fmt: skip


def reported(names: tuple[str, ...] = MARKUP) -> ReportedRun:
    rng = np.random.default_rng(1)
    labels, probs = rng.integers(0, len(names), 80), rng.dirichlet(np.full(len(names), 0.3), 80)
    ids = [f"{index:064x}" for index in range(1000, 1080)]
    evaluation = evaluate(labels, probs, class_names=names)
    evaluation = evaluation.model_copy(update={"wrong": wrong_answers(ids, labels, probs)})
    rounds = (pool(names), pool(names, round_index=2, seed=2))
    run = ReportedRun(
        record=record(title=names[0], findings=(names[1],), error=names[0]),
        evaluation=evaluation,
        labels=rounds,
        human_labels=(10,) * len(names),
        splits={"train": 40, "validation": 100},
        quarantine={names[1]: 3},
        left_out={
            names[1]: (LeftOutFile(names[1], names[0], "data:image/webp;base64,UklGRg=="), LeftOutFile("b", "c"))
        },
        validation=validation(names[1]),
        drift=MeasuredDrift(names[1], nights(count=7)),
        receipt=(("configuration", f'{{"name": "{names[0]}"}}'), ("seed", "0")),
        missing=(names[1],),
    )
    unlabelled = rounds[0].table["image_id"].to_pylist()[:30]
    at = tuple((x, y) for x, y in rng.random((40, 2)).tolist())
    space = Space(
        ids=(*unlabelled, *ids[:10]),
        names=(names[1],) * 40,
        labels=(*[-1] * 30, *rng.integers(0, len(names), 10).tolist()),
        counted=tuple(rng.integers(0, len(names), 40).tolist()),
        planes={"UMAP": at, "PCA": tuple((y, x) for x, y in at)},
        basis=names[0],
        rule=names[1],
        sprite="data:image/webp;base64,UklGRg==",
        across=7,
        tile=40,
    )
    run = ReportedRun(**{**vars(run), "space": space})
    pictures = {each: Picture("data:image/webp;base64,UklGRg==", names[1]) for each in needed_pictures(run)}
    return ReportedRun(**{**vars(run), "pictures": pictures})


@pytest.fixture(scope="module")
def page() -> str:
    """The page of a run whose names are markup."""
    return run_page(reported())


class Structure(HTMLParser):
    """The elements of a page: which are open, which ids they have, and what their attributes call."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.called: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            self.called += [(name, value or "")] if name in ("src", "href", "xlink:href") or name[:2] == "on" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Structure:
    structure = Structure()
    structure.feed(page)
    assert structure.open == []
    return structure


def test_the_page_asks_its_questions_in_order(page: str) -> None:
    asked = [question for _, question in QUESTIONS]
    assert re.findall(r"<h2 [^>]*>([^<]*)</h2>", page) == asked
    without = run_page(ReportedRun(record()))
    assert re.findall(r"<h2 [^>]*>([^<]*)</h2>", without) == [each for each in asked if each != "Drift"]
    assert 'href="#drift"' not in without


def test_no_name_becomes_markup(page: str) -> None:
    harmless, marked = parsed(run_page(reported(("aaaa", "bbbb", "cccc", "dddd")))), parsed(page)
    assert marked.tags.count("script") == harmless.tags.count("script")
    assert marked.tags.count("img") == harmless.tags.count("img")
    assert not [name for name, _ in marked.called if name.startswith("on")]


def test_the_page_calls_nothing_outside_itself(page: str) -> None:
    structure = parsed(page)
    assert all(value.startswith(("#", "data:image/")) for _, value in structure.called)
    assert "default-src 'none'" in page
    assert "@import" not in page


def test_ids_are_unique_and_links_lead_to_them(page: str) -> None:
    structure = parsed(page)
    assert len(structure.ids) == len(set(structure.ids))
    links = {value[1:] for name, value in structure.called if name == "href"}
    assert links <= set(structure.ids)


def test_the_drift_of_a_retraining_is_shown_with_the_numbers_that_were_stored(page: str) -> None:
    section = page[page.index('id="drift">') : page.index('id="receipt">')]
    windows = nights(count=7)
    decided = windows[-1].decision
    assert decided.distance is not None
    assert decided.threshold is not None
    assert all(f'<td class="n">{each.value:.3f}</td>' in section for each in windows[-1].distances)
    assert f'<td class="n">{decided.distance:.3f}</td><td class="n">{decided.threshold:.3f}</td>' in section
    assert section.count("<td>none yet</td>") == 5
    assert section.count("<td>no drift</td>") == 2
    alone = run_page(ReportedRun(record(), drift=MeasuredDrift("drift was not measured: there is no champion")))
    assert "drift was not measured: there is no champion" in alone


def test_images_in_doubt_and_files_left_out_are_shown_with_their_reason(page: str) -> None:
    assert f"{7000:064x}" in needed_pictures(reported())
    doubt = re.search(
        r"<summary>12 dark</summary>\s*<ul class=\"sheet\"><li><img src=\"data:image/webp[^>]*>.*?</li>", page, re.S
    )
    assert doubt is not None
    assert "99 % of it below 20 of 255" in doubt.group()
    assert "200 of 240 images were decoded for this, drawn by image id." in page
    left_out = page[page.index(": 2 of 3 files</summary>") :]
    assert "what is left of &#34;&gt;&lt;img" in left_out
    assert '<span class="gone">no picture</span><b>b</b>c</li>' in left_out


def test_every_table_has_a_caption_and_scoped_headings(page: str) -> None:
    assert page.count("<table") == page.count("<caption>") > 4
    assert not re.findall(r"<th(?! scope)[^e]", page)


@pytest.mark.parametrize(
    ("changes", "begin"),
    [
        ({}, "Yes: the unlabelled images added 4.0 points"),
        ({"control_p_value": 0.4}, "It is not proven"),
        ({"control_difference": -0.04}, "No: the unlabelled images cost 4.0 points"),
        ({"rounds": (TEACHER, STUDENT.model_copy(update={"kept": False}))}, "No: no student was better"),
        ({"rounds": (TEACHER,)}, "Unknown: no student was trained"),
        ({"status": "failed", "test_accuracy": None, "error": "no images"}, "Unknown: the run failed"),
        ({"status": "running", "test_accuracy": None}, "Not known yet: the run is running"),
    ],
)
def test_the_verdict_is_told_against_what_the_labels_alone_gave(changes: dict[str, object], begin: str) -> None:
    assert verdict(record(**changes)).sentence.startswith(begin)


def test_without_its_control_the_answer_is_not_known() -> None:
    told = verdict(record(), control_failed="the loss became nan")
    assert told.sentence.startswith("Unknown: the training of the control failed")
    assert told.basis == "the loss became nan"


def test_it_says_how_many_labels_would_help_and_which_classes_need_them() -> None:
    needs = (ClassNeed(name=MARKUP[0], labels=5, recall=0.25), ClassNeed(name="eel", labels=7, recall=0.75))
    points = tuple(CurvePoint(labels=n, accuracy=0.5 + n / 400, low=0.4, high=0.9) for n in (20, 40, 80))
    gains = (Gain(more=50, low=0.0, middle=0.01, high=0.02), Gain(more=100, low=0.01, middle=0.025, high=0.06))
    told = LabelForecast(labels=80, points=points, gains=gains, classes=needs)
    page = run_page(replace(reported(), forecast=told))
    parsed(page)
    assert "100 more labels would add +1.0 to +6.0 points, the middle being +2.5." in page
    assert "+0.0 to +2.0" in page
    assert page.index('&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</th><td class="n">5</td>') > 0
    unknown = run_page(replace(reported(), forecast=LabelForecast(labels=9, unknown="9 labels are too few")))
    assert "That cannot be said: 9 labels are too few." in unknown


def test_a_run_that_stored_nothing_has_a_page_that_says_so() -> None:
    run = ReportedRun(
        RunRecord(run_id="r", name="n", status="failed", error="no disk"), missing=("The run has no end.",)
    )
    page = run_page(run)
    parsed(page)
    assert "Unknown: the run failed" in page
    assert "no disk" in page
    assert "The run has no end." in page


def test_the_slider_counts_what_a_loop_counts() -> None:
    labels = pool(("cat", "dog", "eel"))
    facts = what_if(labels)
    assert facts is not None
    rows = labels.table.to_pylist()
    for at in (0, facts.chosen, len(facts.cutoffs) - 1):
        reaching = [row for row in rows if row["confidence"] >= facts.cutoffs[at]]
        assert facts.accepted[at] == len(reaching)
        assert facts.mix[at] == tuple(sum(row["label"] == index for row in reaching) for index in range(3))
    assert labels.curve is not None
    assert facts.held_out == labels.curve.images


def test_the_page_stays_small_for_a_large_pool_with_many_classes() -> None:
    names = tuple(f"class {index}" for index in range(40))
    labels = tuple(pool(names, round_index=index, images=1000, seed=index) for index in range(1, 9))
    run = ReportedRun(record(), labels=labels, human_labels=(10,) * 40)
    heavy = Picture(f"data:image/webp;base64,{'A' * 6000}", "photo.jpg")
    page = run_page(ReportedRun(**{**vars(run), "pictures": dict.fromkeys(needed_pictures(run), heavy)}))
    assert len(page) < 10_000_000


def test_a_page_for_a_dashboard_has_a_height_of_its_own() -> None:
    plain = run_page(ReportedRun(record()))
    assert "height: 60rem" in with_height(plain, "60rem")
    assert "height: 60rem" not in plain


@pytest.mark.skipif(CHROMIUM is None, reason="NOT SEEN IN A BROWSER: Chromium is not installed")
def test_in_a_browser_the_slider_moves_its_numbers_and_names_stay_inert(tmp_path: Path, page: str) -> None:
    facts = what_if(pool(MARKUP, round_index=2, seed=2))
    assert facts is not None
    moved = (
        "<script>const s = document.querySelector('input[type=range]'); s.value = s.max;"
        "s.dispatchEvent(new Event('input'));"
        "const told = document.createElement('pre'); told.id = 'told'; told.textContent = JSON.stringify({"
        "accepted: document.querySelector('[data-accepted]').textContent,"
        "requests: performance.getEntriesByType('resource').filter((r) => !r.name.startsWith('data:')).length,"
        "text: s.getAttribute('aria-valuetext')}); document.body.append(told);</script></body>"
    )
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", moved), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
               f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r'<pre id="told">(.*?)</pre>', shown)
    assert found is not None
    told = json.loads(found.group(1).replace("&gt;", ">"))
    assert told["accepted"] == f"{facts.accepted[0]} ({100 * facts.accepted[0] / facts.pool:.1f} %)"
    assert told["requests"] == 0
    assert told["text"] == f"threshold {facts.cutoffs[0]:.3f}, {facts.accepted[0]} images accepted"


@pytest.mark.parametrize(
    ("promoted", "champion", "said"), [(True, 2, "champion"), (False, 2, "champion"), (False, 1, "challenger")]
)
def test_a_version_that_is_champion_already_is_called_so(promoted: bool, champion: int, said: str) -> None:
    page = run_page(ReportedRun(record(registered_version=2, promoted=promoted, champion_version=champion)))
    assert f"version 2, {said}" in page


def test_a_detectors_page_has_the_interval_of_outlines() -> None:
    (mask,) = np.empty((1, 1), object)
    mask[0] = {"size": [9, 9], "counts": mask_of(np.ones((9, 9), np.bool_))}
    box, ball = np.array([[0, 0, 9, 9]], np.float32), np.array([0])
    marked = [Boxes.marked(box, ball, np.array([False]), mask)] * 4
    found = [Boxes.found(box, ball, np.ones(1, np.float32), mask)] * 4
    report = evaluate_detector(found, marked, class_names=("ball",), draws=20)
    page = run_page(ReportedRun(record(metric="map"), detection=report))
    assert "Outlines of 4 objects: mAP 1.000 (1.000 to 1.000), AP50 1.000." in page


def test_the_rounds_of_a_detector_are_named_by_the_gates_metric() -> None:
    page = run_page(ReportedRun(record(metric="map", validated_by="ap50")))
    assert "Validation AP50 of each model" in page
    assert '<th scope="col" class="n">Validation AP50</th>' in page
    assert "Validation mAP" not in page
    assert "Test mAP" in page
    assert "Validation mAP of each model" in run_page(ReportedRun(record(metric="map")))


def test_a_detectors_page_speaks_of_map() -> None:
    page = run_page(ReportedRun(record(metric="map")))
    assert "mAP 0.900 on 200 test images" in page
    assert "are right" not in page
