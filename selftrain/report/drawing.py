"""Drawing: the style of all charts, and how a figure becomes a PNG."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib import font_manager, ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from selftrain.report.chart_mark import DRAWN_BY

# The colours of Okabe and Ito's palette stay distinct with every common colour blindness, and in print.
BLUE, ORANGE, VERMILION, INK, GREY, PALE = "#0072B2", "#E69F00", "#D55E00", "#22272B", "#6B7278", "#C9CED3"
LONGEST_NAME = 24
_SCRIPTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS")
_STYLE: dict[str, Any] = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 11,
    "font.size": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": DRAWN_BY,
    "text.color": INK,
    "xtick.color": GREY,
    "xtick.labelsize": 8,
    "ytick.color": GREY,
    "ytick.labelsize": 8,
}


@contextmanager
def figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches that becomes the PNG or SVG `path` when the block ends without error.

    It ignores the user's matplotlib settings, and the same values give the same bytes. An SVG is transparent.
    """
    with matplotlib.style.context(["default", {**_STYLE, "font.family": _families()}]), warnings.catch_warnings():
        # A class name shows boxes if no installed font has its letters; a warning would not help.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn = Figure(figsize=(width, height))
        FigureCanvasAgg(drawn)
        yield drawn
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".svg":
            drawn.savefig(path, metadata={"Date": None, "Creator": DRAWN_BY}, transparent=True)
        else:
            drawn.savefig(path, metadata={"Software": DRAWN_BY})


def title(drawn: Figure, text: str) -> None:
    """Write `text` above the whole figure, at the left."""
    drawn.suptitle(plain(text, longest=140), x=0.01, ha="left")


def plain(name: str, *, longest: int = LONGEST_NAME) -> str:
    """`name` cut to `longest` characters, with dollar signs escaped so that matplotlib reads no mathematics.

    >>> plain("5$ or 10$")
    '5\\\\$ or 10\\\\$'
    """
    short = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return short.replace("$", r"\$")


def percent_axis(axis: Any) -> None:
    """Let `axis` (of shares 0-1) show percent."""
    axis.set_major_formatter(ticker.PercentFormatter(xmax=1, decimals=0, symbol=" %"))


def count_axis(axis: Any) -> None:
    """Let `axis` show whole numbers only, with commas in the thousands."""
    axis.set_major_locator(ticker.MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    with_commas(axis)


def with_commas(axis: Any) -> None:
    """Let `axis` show its ticks as whole numbers, with commas in the thousands."""
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))


def unticked(axes: Axes) -> None:
    """Remove the ticks and the frame of `axes`; the labels stay."""
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _families() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _SCRIPTS if name in installed)]
