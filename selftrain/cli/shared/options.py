"""What the commands share: options with one meaning everywhere, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel

if TYPE_CHECKING:
    from rich.console import RenderableType

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
WorkspaceOption = Annotated[Path, typer.Option("--workspace", help="Folder of the embedded stores.")]
ModelNameOption = Annotated[
    str | None,
    typer.Option("--model-name", help="Model in the registry. Default: the only one, or that of the latest run."),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", metavar="A,B,...", help="Classes of your own model, in the order of its outputs."),
]
Pixels = Annotated[
    str | None,
    typer.Option(
        "--pixels",
        metavar="RANGE",
        help="Pixels of your own model: 0..255, 0..1 or -1..1; also torch, caffe, 'bgr 0..1'. Default: measured on "
        "labelled images, else 0..255.",
    ),
]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits",
        min=8,
        max=16,
        help="How many of 16 bits your grey pictures fill, such as 12, with your own model: they are shown to it as 8 "
        "bits. Default: all 16, and pictures that fill fewer are refused.",
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="HxW",
        help="Height and width in pixels that your own model reads, where it does not say. Default: 224x224.",
    ),
]
DEFAULT_WORKSPACE = Path(".selftrain")


def names_of(classes: str | None) -> tuple[str, ...]:
    """The classes that --classes lists, without the brackets and quotes of a list of Python.

    >>> names_of("cat, dog"), names_of("['cat', 'dog']")
    (('cat', 'dog'), ('cat', 'dog'))
    """
    if not classes:
        return ()
    text = classes.strip()
    inside = text[1:-1] if text[0] + text[-1] in ("[]", "()") else text
    return tuple(_unquoted(name.strip()) for name in inside.split(","))


def _unquoted(name: str) -> str:
    """`name` without the quotes around it."""
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] and name[0] in "'\"" else name


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Print `value` as JSON; stdout holds nothing else."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json(indent=2))
        return
    plain = [each.model_dump(mode="json") for each in value]
    typer.echo(json.dumps(plain, indent=2))


def print_rich(value: RenderableType) -> None:
    """Print anything that Rich can show, on stdout."""
    from selftrain.adapters.process.console import plain

    plain().print(value)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as aligned columns, whatever the width of the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
