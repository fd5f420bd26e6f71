"""YAML sections in braces, `{a: 1, b: 2}`: one value is changed, and all other text stays as it was."""

from __future__ import annotations

import yaml


def changed_in_braces(text: str, path: tuple[str, ...], value: str, *, reason: str = "") -> str | None:
    """`text` with `value`, itself YAML, at the keys `path`, whose innermost section is in braces.

    None where that section is not in braces, or where it or one of its values is an alias. A `reason` becomes
    a comment line above the section. It replaces an earlier one on the same key.

    >>> changed_in_braces("a: {b: 1}  # mine", ("a", "c"), "2")
    'a: {b: 1, c: 2}  # mine'
    """
    section, keys = _innermost(yaml.compose(text, Loader=yaml.SafeLoader), path)
    if not isinstance(section, yaml.MappingNode) or not section.flow_style:
        return None
    if not all(_within(section, part) for pair in section.value for part in pair):
        return None
    for key in reversed(keys[1:]):
        value = f"{{{key}: {value}}}"
    there = _at(section, keys[0])
    if there is not None:
        start, end = there.start_mark.index, there.end_mark.index
        value = value if start < end else f" {value}"
    elif section.value:
        start = end = section.value[-1][1].end_mark.index
        value = f", {keys[0]}: {value}"
    else:
        start = end = section.start_mark.index + 1
        value = f"{keys[0]}: {value}"
    above = text.rfind("\n", 0, section.start_mark.index) + 1
    head = _commented(text[:above], text[above:], ".".join(path[-2:]), reason) if reason else text[:above]
    return head + text[above:start] + value + text[end:]


def _innermost(node: yaml.Node | None, path: tuple[str, ...]) -> tuple[yaml.Node | None, tuple[str, ...]]:
    """The last mapping on `path` (None: behind an alias), and the keys that remain, at least one."""
    for taken, key in enumerate(path[:-1]):
        inner = _at(node, key)
        if not isinstance(inner, yaml.MappingNode):
            return node, path[taken:]
        if node is None or not _within(node, inner):
            return None, path[taken:]
        node = inner
    return node, path[-1:]


def _within(node: yaml.Node, part: yaml.Node) -> bool:
    """Whether the text of `part` is inside `node`. The text of an alias is at its anchor."""
    return bool(node.start_mark.index <= part.start_mark.index and part.end_mark.index <= node.end_mark.index)


def _at(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The value of the mapping `node` at `key`, or None."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _commented(head: str, line: str, name: str, reason: str) -> str:
    """`head`, the lines before `line`, with a comment on the key `name` at its end."""
    lines = head.splitlines(keepends=True)
    first = len(lines)
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    comments = [each for each in lines[first:] if not each.lstrip().startswith(f"# {name}: ")]
    indent = line[: len(line) - len(line.lstrip())]
    return "".join([*lines[:first], *comments, f"{indent}# {name}: {' '.join(reason.split())}\n"])
