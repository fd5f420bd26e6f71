"""Labels: marks for "no label", several labels in a cell, and spellings of one class."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.errors import SourceError

NOTHING = ("nan", "null", "none", "<na>", "n/a", "-1", "-1.0")
"""What programs write for a missing value, in lower case; -1 is scikit-learn's mark of an unlabelled example."""
DOUBTFUL = (
    *("unlabeled", "unlabelled", "unsup", "unsupervised", "unknown", "no_label", "nolabel", "no label", "unlab", "?"),
    *("-", "--", "todo", "tbd", "unassigned", "undefined"),
)
"""Names that may be a class, or mean that nobody has looked, in lower case."""
_SEPARATORS = ("|", ";", ",")
_CONTROL = "Cc"  # category of control characters in Unicode
_UNSEEN = "\u00ad\u200b\u2060\ufeff"  # soft hyphen, zero-width space, word joiner, byte order mark
_PLAIN: dict[int, int | None] = {ord(each): None for each in _UNSEEN}
_PLAIN |= {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}  # ASCII from "!" on, in full width


def without_marks(labels: pa.ChunkedArray, no_label: Collection[str] | None) -> tuple[pa.ChunkedArray, str]:
    """`labels` with null for every mark of a missing label, and what was done in words ("" for nothing).

    The marks are `no_label`, or else NOTHING. Without `no_label`, a name that may be a mark stops with a question.
    Raises SourceError.
    """
    counts = {str(each["values"].as_py()): int(each["counts"].as_py()) for each in labels.drop_null().value_counts()}
    if no_label is None:
        ask_about_doubtful(counts)
        marks = [value for value in counts if is_mark(value)]
    else:
        marks = [value for value in counts if value in set(no_label)]
    if not marks:
        return labels, ""
    rows = sum(counts[mark] for mark in marks)
    kept = pc.if_else(pc.is_in(labels, pa.array(marks)), pa.scalar(None, pa.string()), labels)
    return kept, f"{rows} rows have no label: they say {', '.join(map(repr, marks))}"


def is_mark(text: str) -> bool:
    """Whether `text` is what programs write for a missing label.

    >>> is_mark("NaN"), is_mark("-1.0"), is_mark("cat")
    (True, True, False)
    """
    return text.strip().lower() in NOTHING


def tidied(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    """`labels` without what their writer added to every one of them: a space after the comma, or `.0`."""
    values = [str(value) for value in labels.drop_null().unique().to_pylist()]
    if values and all(value.startswith(" ") for value in values):
        labels = pc.utf8_ltrim_whitespace(labels)
    if values and all(re.fullmatch(r"-?\d+\.0", value.strip()) for value in values):
        labels = pc.replace_substring_regex(labels, r"\.0$", "")
    return labels


def ask_about_doubtful(counts: dict[str, int]) -> None:
    """Raise SourceError for a label in `counts` (label -> rows) that may mean that there is none."""
    for label, rows in counts.items():
        if label.strip().lower() in DOUBTFUL:
            raise SourceError(
                f"{rows} rows have the label {label!r}: is that a class, or have they no label? If they have none, "
                f"write source.no_label: [{label}]; if it is a class, write source.no_label: [], or give --class to "
                "`selftrain init`"
            )


def refuse_several(labels: pa.ChunkedArray) -> None:
    """Raise SourceError for a cell that holds several labels: separated, and at least one of them a label itself."""
    values = [str(value) for value in labels.drop_null().unique().to_pylist()]
    known = {_normal(value) for value in values}
    for value in values:
        for mark in _SEPARATORS:
            parts = [_normal(part) for part in value.split(mark)]
            needed = len(parts) if mark == "," else 1  # a comma may be part of a name
            if len(parts) > 1 and sum(part in known for part in parts) >= needed:
                raise SourceError(
                    f"the label {value!r} names several classes; images with several labels need multi-label "
                    "classification, which selftrain does not do: keep one label per image"
                )


def refuse_two_spellings(labels: Iterable[str]) -> None:
    """Raise SourceError for two labels that differ only in letter case, spaces, the form of their characters or a `.0`.

    `1`, `1.0` and `1.00` are one number; `01` may be a code of its own. Single letters may differ in case. Characters
    that nobody sees, such as a zero-width space, and full-width ones are forms too.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        spellings[_normal(label)].append(label)
    for same in spellings.values():
        if len(same) > 1:
            raise SourceError(
                f"{' and '.join(map(repr, sorted(same)))} differ only in letter case, spaces, the form of their "
                "characters or a `.0`; write one class in one way"
            )


def refuse_bytes(labels: Iterable[str]) -> None:
    """Raise SourceError for a label with a control character, as a number in binary form has one."""
    for label in labels:
        if any(unicodedata.category(each) == _CONTROL and not each.isspace() for each in label):
            raise SourceError(
                f"the label {label!r} holds characters that are not text: where it is a number that was written as "
                "bytes, write its digits"
            )


def _normal(label: str) -> str:
    """What all spellings of a label have in common.

    >>> _normal(" Two  Words"), _normal("a"), _normal("A"), _normal("1.00")
    ('two words', 'a', 'A', '1')
    """
    text = " ".join(unicodedata.normalize("NFC", label.translate(_PLAIN)).split())
    text = re.sub(r"^(-?\d+)\.0+$", r"\1", text)  # a table that counts in floats
    return text.casefold() if len(text) > 1 else text
