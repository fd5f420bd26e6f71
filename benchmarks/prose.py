"""How the project's prose reads: words per sentence, and phrases that a native speaker would not write.

Command: `python -m benchmarks.prose [FILE ...]`; without files, every page, docstring and message of the project.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
MEDIAN, P90 = 14, 30
"""What prose may have at most, in words per sentence."""
FOREIGN = re.compile(
    r"(?<!\b[Tt]here )\b(?:is|are|was|were) no (?!longer|more|less|better|worse|later|such)[a-z]"
    r"|\bthat (?:is|are) none\b|\banew\b|\bmind:|\bcalls? otherwise\b"
    r"|\bin the midst of\b|\bat whatever remove\b|\bin the middle\b"
)
LEAST_WORDS = 3  # of a sentence; what is shorter is a label, or the end of a list


def pages() -> list[Path]:
    """Every page that a user or a maintainer reads."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


def modules() -> list[Path]:
    """Every module of the package, the steps and the pipelines."""
    return sorted(path for top in ("selftrain", "steps", "pipelines") for path in (ROOT / top).rglob("*.py"))


def markdown_sentences(text: str) -> Iterator[str]:
    """The sentences of a Markdown page, without code, tables, headings and addresses; a bullet is a paragraph."""
    text = re.sub(r"^(```|~~~).*?^\1\s*$", "\n", text, flags=re.MULTILINE | re.DOTALL)
    lines = [("" if _is_no_prose(line) else re.sub(r"^\s*(?:[-*+]|\d+\.)\s+", "\n", line)) for line in text.split("\n")]
    for paragraph in re.split(r"\n\s*\n|\n(?=\n)", "\n".join(lines)):
        yield from _sentences(paragraph)


def docstring_sentences(source: str) -> Iterator[str]:
    """The sentences of every docstring of a module, without examples."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            prose = re.sub(r"^>>> .*?(?:\n\s*\n|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
            yield from markdown_sentences(prose)


def message_sentences(source: str) -> Iterator[str]:
    """The sentences of every message that a module raises; what is filled in counts as one word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                yield from _sentences(_text(argument))


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value) if isinstance(value, ast.Constant) else "X" for value in values)
        case _:
            return ""


def _is_no_prose(line: str) -> bool:
    return bool(re.match(r"\s*(?:\||#|!\[|    |---)", line)) and not re.match(r"\s*(?:[-*+]|\d+\.)\s", line)


def _sentences(paragraph: str) -> Iterator[str]:
    text = re.sub(r"`[^`]*`", "CODE", paragraph)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"[*_]{1,2}(\S.*?\S|\S)[*_]{1,2}", r"\1", text)
    for sentence in re.split(r"(?<=[.!?])[\"')]?\s+(?=[\"'(A-Z0-9+])|\n(?=\s*$)", text):
        words = re.findall(r"[^\W_][\w'.,%/+-]*", sentence)
        if len(words) >= LEAST_WORDS:
            yield " ".join(sentence.split())


def words(sentence: str) -> int:
    """How many words a sentence has; a figure or a piece of code is one."""
    return len(re.findall(r"[^\W_][\w'.,%/+-]*", sentence))


def figures(sentences: list[str]) -> tuple[float, float]:
    """Median and 90th percentile of the words per sentence."""
    counts = [words(sentence) for sentence in sentences] or [0]
    return float(np.median(counts)), float(np.percentile(counts, 90))


def read(path: Path) -> list[str]:
    """The sentences of a page, or of a module's docstrings and messages."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [*docstring_sentences(text), *message_sentences(text)]
    return list(markdown_sentences(text))


def main() -> None:
    """Print the figures per file, the longest sentences and the phrases to rewrite."""
    chosen = [Path(name) for name in sys.argv[1:]] or [*pages(), *modules()]
    for path in chosen:
        sentences = read(path)
        median, p90 = figures(sentences)
        mark = "" if median <= MEDIAN and p90 <= P90 else "   <- too long"
        print(f"{path}: {len(sentences)} sentences, median {median:g}, 90th percentile {p90:g}{mark}")
        for sentence in sentences:
            if FOREIGN.search(sentence):
                print(f"    foreign: {sentence}")
            elif len(sys.argv) > 1 and words(sentence) > P90:
                print(f"    {words(sentence)} words: {sentence}")
    for kind, files in (("pages", pages()), ("modules", modules())):
        median, p90 = figures([sentence for path in files for sentence in read(path)])
        print(f"all {kind}: median {median:g}, 90th percentile {p90:g}")


if __name__ == "__main__":
    main()
