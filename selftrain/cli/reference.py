"""The reference page of the command line: docs/cli.md, written from the commands themselves.

`python -m selftrain.cli.reference` prints it; `python -m selftrain.cli.reference docs/cli.md` writes it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, CommandInfo, ParameterInfo, TyperInfo

from selftrain.cli.app import app

HEADER = """\
# The command line

`python -m selftrain.cli.reference docs/cli.md` writes this page from the commands; do not edit it.

`zenml pipeline run ssl_pipeline [--config FILE] [--stack NAME]` runs the same loop as `selftrain run`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed; the last line says why (`doctor`: something needs fixing) |
| 2 | the input is wrong: options, configuration, folders, files |
| 3 | only `selftrain run`: the run is complete, but it missed its gate and registered nothing |

`selftrain --version` prints the version. An expected error is one line on stderr. With `--json`, stdout holds
only JSON. Progress goes to stderr.
"""


@dataclass(frozen=True)
class _Parameter:
    """One parameter of a command, from its signature."""

    spelled: str
    help: str
    argument: bool
    required: bool
    default: str


def reference() -> str:
    """The page, in Markdown. It depends only on the commands, not on the terminal."""
    groups = [section for each in app.registered_groups for section in _group(each)]
    return "\n".join([HEADER, *(_command(each) for each in app.registered_commands), *groups])


def _group(group: TyperInfo) -> Iterator[str]:
    """The section of a command with commands of its own, then theirs."""
    inner = group.typer_instance
    if inner is None or inner.registered_callback is None:
        raise ValueError(f"the group {group.name!r} has no function")
    yield _section(str(group.name), inner.registered_callback.callback)
    for each in inner.registered_commands:
        if not each.hidden:
            yield _section(f"{group.name} {_name(each)}", each.callback, level=3)


def _command(info: CommandInfo) -> str:
    return _section(_name(info), info.callback)


def _name(info: CommandInfo) -> str:
    return info.name or getattr(info.callback, "__name__", "").replace("_", "-")


def _section(name: str, callback: Callable[..., object] | None, *, level: int = 2) -> str:
    if callback is None:
        raise ValueError(f"the command {name!r} has no function")
    parameters = [_parameter(*each) for each in _annotated(callback)]
    arguments = [each for each in parameters if each.argument]
    options = [each for each in parameters if not each.argument]
    usage = ["selftrain", name]
    usage += [each.spelled if each.required else f"[{each.spelled}]" for each in arguments]
    usage += [each.spelled for each in options if each.required]
    parts = [f"{'#' * level} {name}", inspect.cleandoc(callback.__doc__ or ""), f"    {' '.join(usage)} [OPTIONS]"]
    if arguments:
        parts.append(_table(("argument", "meaning"), [(f"`{each.spelled}`", each.help) for each in arguments]))
    rows = [(f"`{each.spelled}`", each.help, each.default) for each in options]
    return "\n\n".join([*parts, _table(("option", "meaning", "default"), rows)]) + "\n"


def _annotated(callback: Callable[..., object]) -> Iterator[tuple[inspect.Parameter, object, ParameterInfo]]:
    """Each parameter of a command, with its type and its Typer annotation; Typer's own context is none."""
    hints = get_type_hints(callback, include_extras=True)
    for parameter in inspect.signature(callback).parameters.values():
        if hints[parameter.name] is typer.Context:
            continue
        kind, info = get_args(hints[parameter.name])
        yield parameter, kind, info


def _parameter(parameter: inspect.Parameter, kind: object, info: ParameterInfo) -> _Parameter:
    argument = isinstance(info, ArgumentInfo)
    required = parameter.default is inspect.Parameter.empty
    default = "required" if required else "" if parameter.default in (None, "", False) else f"`{parameter.default}`"
    value = info.metavar or (parameter.name.upper() if argument else _metavar(kind))
    if argument:
        return _Parameter(value, info.help or "", argument, required, default)
    # Until it builds the command, Typer takes the first name in an annotation for the default.
    names = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    spelled = f"{', '.join(names)} {value}".rstrip()
    return _Parameter(spelled, info.help or "", argument, required, default)


def _metavar(kind: object) -> str:
    """The placeholder of an option's value: empty for a flag, else its type."""
    types = [each for each in (get_args(kind) or (kind,)) if each is not NoneType]
    return {bool: "", int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(types[0], "TEXT")


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    """Print the page, or write it to the file that the first argument names."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
    else:
        typer.echo(reference(), nl=False)


if __name__ == "__main__":
    main()
