"""The commands of a section of a page, as somebody would paste them."""

from __future__ import annotations

import inspect
import re

HEREDOC = re.compile(r"<<'(\w+)'$")


def commands(page: str, heading: str) -> list[str]:
    """The commands of the section whose heading begins with `heading`, in order.

    A line that ends in a backslash goes on in the next one. What stands between << and its end belongs to the command
    before.
    """
    section = page[page.index(heading) :].split("\n## ")[0]
    lines = [line for block in re.findall(r"(?:^ {4}.*\n)+", section, re.MULTILINE) for line in _block(block)]
    found: list[str] = []
    end, goes_on = None, False
    for line in lines:
        if end is not None:
            found[-1] += f"\n{line}"
            end = None if line == end else end
            continue
        here = HEREDOC.search(line)
        end = here[1] if here else None
        if goes_on:
            found[-1] += f"\n{line}"
        else:
            found.append(line)
        goes_on = line.endswith("\\")
    return found


def _block(text: str) -> list[str]:
    return inspect.cleandoc(text).splitlines()
