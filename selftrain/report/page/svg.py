"""Charts within a page: SVG that takes the page's colours, light or dark, and fonts."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from selftrain.report.drawing import BLUE, GREY, INK, PALE

_VARIABLES = {
    INK: "var(--ink)",
    GREY: "var(--quiet)",
    PALE: "var(--pale)",
    BLUE: "var(--accent)",
    "#000000": "var(--ink)",
}
_HEAD = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_SIZE = re.compile(r'(<svg [^>]*?)width="[^"]*"([^>]*?)height="[^"]*"', re.DOTALL)
_REFERENCE = re.compile(r'(\bid="|href="#|url\(#)')
_FONT = re.compile(r"font: ((?:\w+ )?)([\d.]+px) [^;\"]*|font-family: [^;\"]*")


def inline(draw: Callable[[Path], object], *, name: str) -> Markup:
    """The chart that `draw` writes to the path it is given, as an SVG element whose ids begin with `name`.

    matplotlib escapes every text in it. The element is hidden from screen readers: the figure around it describes it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chart.svg"
        draw(path)
        text = path.read_text(encoding="utf-8")
    text = _METADATA.sub("", _HEAD.sub("", text, count=1))
    text = _SIZE.sub(r'\1\2aria-hidden="true" focusable="false"', text, count=1)
    text = _REFERENCE.sub(lambda found: found.group(1) + f"{name}-", text)
    text = _FONT.sub(lambda found: f"font-size: {found.group(2)}" if found.group(2) else "", text)
    for colour, variable in _VARIABLES.items():
        text = re.sub(re.escape(colour), variable, text, flags=re.IGNORECASE)
    return Markup(text)
