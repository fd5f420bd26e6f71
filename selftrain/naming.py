"""Naming: rows and other long lists, shortened for an error message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ROWS_NAMED = 5


def name_rows(names: list[str], count: int | None = None) -> str:
    """The first few of `names`, and how many more there are. `count` is the total if `names` is not complete.

    >>> name_rows(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = (len(names) if count is None else count) - min(len(names), ROWS_NAMED)
    return ", ".join(names[:ROWS_NAMED]) + (f" and {more} more" if more else "")


def named_rows(rows: npt.NDArray[np.integer[Any]]) -> str:
    """`rows` (k,) as text for an error message.

    >>> import numpy as np
    >>> named_rows(np.array([17])), named_rows(np.arange(8))
    ('row 17', 'rows 0, 1, 2, 3, 4 and 3 more')
    """
    return f"row{'s' if len(rows) > 1 else ''} {name_rows([str(row) for row in rows.tolist()])}"
