"""axe-core, which looks for what keeps people with a screen reader or low vision from a page."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from tests.adapters.review.browser import Browser

_PACKAGE = find_spec("axe_playwright_python")
AXE = Path(_PACKAGE.origin).with_name("axe.min.js") if _PACKAGE and _PACKAGE.origin else None
SERIOUS = ("serious", "critical")


def findings(browser: Browser, *, scheme: str = "light") -> list[str]:
    """What axe-core calls serious or critical on the page that `browser` shows, in the colour `scheme`."""
    assert AXE is not None
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.value(f"{AXE.read_text(encoding='utf-8')}; undefined")
    found = json.loads(browser.value("axe.run().then((done) => JSON.stringify(done.violations))"))
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
