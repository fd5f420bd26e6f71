"""The command that makes a classifier from class names, without any label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from selftrain.cli.shared.options import AsJson, print_json
from selftrain.config import Teacher, check_prompt
from selftrain.errors import ConfigError

PROMPTS: tuple[str, ...] = Teacher.model_fields["prompts"].default
Preset = Annotated[
    str, typer.Option("--preset", help="A CLIP, SigLIP or MetaCLIP 2 of KerasHub: its name, or a folder with it.")
]
Names = Annotated[str, typer.Option("--classes", metavar="A,B,...", help="The classes, in the order of the answers.")]
Out = Annotated[Path, typer.Option("--out", help="New folder for the model.")]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", help=f"Text with {{}} for the class; repeatable. Default: {PROMPTS[0]}")
]
Called = Annotated[
    list[str] | None,
    typer.Option("--called", metavar="CLASS=WORDS", help="A class's words in the prompts; repeatable."),
]
Side = Annotated[int | None, typer.Option("--image-size", min=16, help="Pixels a side. Default: the preset's own.")]


class ZeroShotModel(BaseModel):
    """What was written, and what it is."""

    folder: str
    preset: str
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    image_size: int
    note: str = "no label taught or calibrated this model; how often it is right is not known"


def zero_shot(
    preset: Preset,
    classes: Names,
    out: Out,
    prompt: Prompts = None,
    called: Called = None,
    image_size: Side = None,
    as_json: AsJson = False,
) -> None:
    """Make a classifier from class names and a model of images and texts. No label is needed, so none checks it.

    `selftrain pseudo-label --model OUT` labels a folder with it. Measure it with --labeled before you trust it.
    """
    from selftrain.adapters.process.quiet_start import start_keras
    from selftrain.files.places import check_out
    from selftrain.learn.models.saving import check_replaceable
    from selftrain.learn.models.zero_shot import ZeroShot, save_zero_shot

    prompts = tuple(prompt or PROMPTS)
    for text in prompts:
        check_prompt(text)
    made_of = ZeroShot(preset, prompts, _words(called or []))
    check_out(out)
    check_replaceable(out, lineage=(), trained=False)
    start_keras()
    saved = save_zero_shot(made_of, class_names=_classes(classes), folder=out, image_size=image_size)
    promised = saved.contract
    made = ZeroShotModel(
        folder=str(out),
        preset=preset,
        class_names=promised.class_names,
        prompts=prompts,
        image_size=promised.image_size,
    )
    if as_json:
        print_json(made)
        return
    typer.echo(f"{out}: {len(made.class_names)} classes by {preset}, images of {made.image_size} px")
    typer.echo(f"note: {made.note}")


def _classes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"--classes {text!r}: give two or more names, all different, such as cat,dog")
    return names


def _words(pairs: list[str]) -> dict[str, str]:
    """What classes are called, from CLASS=WORDS."""
    words: dict[str, str] = {}
    for pair in pairs:
        name, equals, said = pair.partition("=")
        if not equals or not name.strip() or not said.strip():
            raise ConfigError(f"--called {pair!r} is not CLASS=WORDS, such as n02085620=chihuahua")
        words[name.strip()] = said.strip()
    return words
