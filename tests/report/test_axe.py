"""No page keeps people with a screen reader or low vision out: axe-core finds nothing serious on any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selftrain.report.page.runs import runs_page
from tests.adapters.review.browser import CHROMIUM, Browser
from tests.report.axe import AXE, findings
from tests.report.comparison.test_answers import run as compared
from tests.report.comparison.test_page import page as comparison
from tests.report.test_page_in_browser import NAMES, reported, run_page
from tests.report.test_runs_page import run

pytest.importorskip("websocket", reason="Chromium is driven over a web socket")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="NOT SEEN IN A BROWSER: Chromium is not installed"),
    pytest.mark.skipif(AXE is None, reason="NOT CHECKED BY AXE: axe-playwright-python is not installed"),
]
PAGES: dict[str, Callable[[], str]] = {
    "run": lambda: run_page(reported(NAMES)),
    "runs": lambda: runs_page([run(3, champion_version=2, promoted=False), run(2), run(1)], most=200),
    "comparison": lambda: comparison(compared(1), compared(2, run_id="b")),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("axe") / "profile", "about:blank", ready="true")
    yield opened
    opened.close()


def show(browser: Browser, folder: Path, page: str) -> None:
    """Show `page` with everything that can be unfolded."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    browser.call("Page.navigate", url=(folder / "page.html").as_uri())
    browser.until("document.readyState === 'complete' && location.protocol === 'file:'")
    browser.value("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found(browser: Browser, tmp_path: Path, name: str, scheme: str) -> None:
    show(browser, tmp_path, PAGES[name]())
    assert findings(browser, scheme=scheme) == []


def test_what_is_serious_would_be_found(browser: Browser, tmp_path: Path) -> None:
    barrier = "<main><img src='data:,'><p style='color: #ccc; background: #fff'>pale</p><input></main></body>"
    show(browser, tmp_path, PAGES["runs"]().replace("</body>", barrier))
    found = {each.split(":")[0] for each in findings(browser)}
    assert {"image-alt", "color-contrast", "label"} <= found
