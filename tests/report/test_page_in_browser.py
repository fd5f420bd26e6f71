"""The page about a run in a real Chromium: the space by slider and keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from selftrain.report.page.run import run_page
from selftrain.report.page.space import points, space_facts
from tests.adapters.review.browser import CHROMIUM, Browser
from tests.report.test_run_page import reported

pytest.importorskip("websocket", reason="Chromium is driven over a web socket")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NOT SEEN IN A BROWSER: Chromium is not installed")
MARKS = "[...document.querySelectorAll('.space > svg > use')]"
NAMES = ("cat", "<b>dog</b>", "eel", "fox")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The page, opened from a file."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(run_page(reported(NAMES)), encoding="utf-8")
    address = (folder / "page.html").as_uri()
    opened = Browser(folder / "profile", address, ready="document.readyState === 'complete' && !!window.document.body")
    yield opened
    opened.close()


def marks(browser: Browser) -> list[str]:
    found = browser.value(f"JSON.stringify({MARKS}.map((u) => u.getAttribute('href')))")
    return [each.removeprefix("#mark-") for each in json.loads(found)]


def moved(browser: Browser, slider: str, value: int) -> None:
    browser.value(
        f"(() => {{ const s = document.getElementById('{slider}'); s.value = {value};"
        "s.dispatchEvent(new Event('input')); })()"
    )


def test_the_slider_shows_each_rounds_labels_as_the_run_stored_them(browser: Browser) -> None:
    run = reported(NAMES)
    facts = space_facts(run)
    assert facts is not None
    last = [each.mark for each in points(run)]
    assert marks(browser) == last  # drawn without a script, and again by it
    for at in range(3):
        moved(browser, "space-round", at)
        accepted = facts["rounds"][at - 1]["accepted"] if at else [0] * 40
        people = [label >= 0 for label in facts["people"]]
        naive = ["person" if who else "taught" if yes else "left" for who, yes in zip(people, accepted, strict=True)]
        assert marks(browser) == naive
    assert set(last) == {"person", "taught", "left"}
    assert browser.value("document.querySelector('[data-round]').textContent") == "round 2"


def test_the_other_plane_moves_the_points(browser: Browser) -> None:
    facts = space_facts(reported(NAMES))
    assert facts is not None
    for place, name in enumerate(("UMAP", "PCA")):
        browser.value(
            f"(() => {{ const c = document.getElementById('space-plane'); c.value = '{name}';"
            "c.dispatchEvent(new Event('change')); })()"
        )
        drawn = browser.value(f"JSON.stringify({MARKS}.map((u) => ['x', 'y'].map((a) => +u.getAttribute(a))))")
        assert json.loads(drawn) == [list(each) for each in facts["planes"][place]["at"]]


def test_by_keyboard_each_point_is_named_with_its_picture(browser: Browser) -> None:
    moved(browser, "space-round", 2)
    moved(browser, "space-image", 38)
    browser.value("document.getElementById('space-image').focus()")
    browser.press("ArrowRight")
    told = browser.value("document.querySelector('[data-told]').textContent")
    assert told == browser.value("document.getElementById('space-image').getAttribute('aria-valuetext')")
    assert told.endswith("labelled by people: <b>dog</b>")
    assert browser.value("document.querySelectorAll('.space use.chosen').length") == 1
    position = browser.value("document.querySelector('[data-picture]').style.backgroundPosition")
    assert position == f"{-96 * (39 % 7)}px {-96 * (39 // 7)}px"


def test_it_asks_for_nothing_and_nothing_complains(browser: Browser) -> None:
    assert not browser.complaints, browser.complaints
    assert [each for each in browser.requests if not each.startswith(("file:", "data:", "about:"))] == []
    assert browser.value("document.querySelectorAll('main b b').length") == 0


def test_each_control_has_a_name(browser: Browser) -> None:
    script = "JSON.stringify([...document.querySelectorAll('input, select')].map((c) => [c.id, c.labels.length]))"
    found = json.loads(browser.value(script))
    assert len(found) == 4
    assert all(labels == 1 for _, labels in found), found
