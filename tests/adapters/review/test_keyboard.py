"""The review page in a real Chromium, by keyboard alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftrain.data.label_log import read_log, standing
from tests.adapters.review.browser import CHROMIUM, Browser
from tests.adapters.review.served import Page
from tests.adapters.review.small_set import CLASSES
from tests.report.axe import AXE, findings

pytest.importorskip("websocket", reason="Chromium is driven over a web socket")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def test_ten_images_are_labelled_by_keyboard_and_the_log_holds_them(page: Page, tmp_path: Path) -> None:
    questions = page.queue()["questions"]
    browser = Browser(tmp_path / "profile", page.address)
    try:
        for key in "1231231":
            browser.press(key)
        browser.press("s")
        browser.press("Enter")  # the model is right
        browser.press("n")
        browser.press("2")
        browser.press("u")  # not that one
        browser.saved()
        lines = standing(read_log(tmp_path / "store"))
        ids = [each["image_id"] for each in questions]
        said = {image: CLASSES[int(key) - 1] for image, key in zip(ids, "1231231", strict=False)}
        assert lines.agreed == said | {ids[8]: questions[8]["shown"]}
        assert lines.excluded == {ids[9]}
        assert lines.retracted == {ids[10]}
        assert browser.value("find('count').textContent") == "9 of 30 answered"

        browser.press("g")
        browser.until("document.querySelectorAll('#grid li').length === 30")
        for key in ("ArrowRight", " ", "ArrowRight", " ", "3"):
            browser.press(key)
        browser.saved()
        later = standing(read_log(tmp_path / "store"))
        assert {later.agreed[each] for each in ids[11:13]} == {CLASSES[2]}
        browser.press("a")
        browser.press("Enter")
        browser.saved()
        every = standing(read_log(tmp_path / "store"))
        assert all(every.agreed[each["image_id"]] == each["shown"] for each in questions[13:])

        page.post("undo", [ids[0]], CLASSES[0])
        browser.until("state.questions[0].answer === null")  # it sees what was changed elsewhere
        assert browser.value("keysOf(['0', 'cat', 'B', 'u', '1'])") == ["0", "2", "b", "3", "1"]
        assert not browser.complaints, browser.complaints
        own = page.address.rsplit("/", 2)[0]
        assert [each for each in browser.requests if not each.startswith((own, "about:", "data:"))] == []
        assert browser.value("document.querySelectorAll('img[onerror]').length") == 0
        assert "onerror" in browser.value("find('classes').textContent")
    finally:
        browser.close()


@pytest.mark.skipif(AXE is None, reason="NOT CHECKED BY AXE: axe-playwright-python is not installed")
def test_axe_finds_nothing_serious_in_either_view(page: Page, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "profile", page.address)
    try:
        for scheme in ("light", "dark"):
            assert findings(browser, scheme=scheme) == []
        browser.press("g")
        browser.until("document.querySelectorAll('#grid li').length === 30")
        for scheme in ("light", "dark"):
            assert findings(browser, scheme=scheme) == []
    finally:
        browser.close()
