"""The first teacher: how it is trained, or which existing model it is."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from selftrain.config.recipes import Recipe
from selftrain.errors import ConfigError


def check_prompt(prompt: str) -> None:
    """Raise ConfigError unless `prompt` has {} once, for the class, and no other brace."""
    if prompt.count("{}") != 1 or prompt.replace("{}", "").count("{") + prompt.replace("{}", "").count("}"):
        raise ConfigError(f"prompt {prompt!r}: write {{}} once, where the class goes, such as 'a photo of a {{}}.'")


_NOT_BROUGHT = ("train", "champion", "zero_shot")


class Teacher(Recipe):
    """The first teacher: trained on human labels, or a model that the user brings."""

    backbone: str = "efficientnet_b0_050"
    start: str = Field(
        "train",
        description="'train', 'champion', 'zero_shot', or the path of a .keras or .h5 file, or of a model's folder",
    )
    pixels: str | None = Field(
        None, description="pixels of your own model in `start`, such as 0..1; None: measured on the labelled images"
    )
    image_size: str | None = Field(
        None, description="height x width that your own model in `start` reads, such as 96x128; None: as it says"
    )
    preset: str | None = Field(None, description="zero_shot: a CLIP or SigLIP of KerasHub, by name or folder")
    prompts: tuple[str, ...] = Field(
        ("a photo of a {}.",), min_length=1, description="zero_shot: texts with {} for the class; their mean counts"
    )
    called: dict[str, str] = Field({}, description="zero_shot: a class's words in the prompts; else its name")

    @model_validator(mode="after")
    def _zero_shot_is_whole(self) -> Self:
        if self.start == "zero_shot" and self.preset is None:
            raise ConfigError(
                "teacher.start is 'zero_shot' without teacher.preset; name a dual encoder, such as "
                "clip_vit_base_patch32, or the folder of one"
            )
        for key in ("preset", "prompts", "called"):
            value = getattr(self, key)
            if self.start != "zero_shot" and value != type(self).model_fields[key].default:
                raise ConfigError(f"teacher.{key} is {value!r}, and would do nothing: teacher.start is {self.start!r}")
        for prompt in self.prompts:
            check_prompt(prompt)
        for key in ("pixels", "image_size"):
            if getattr(self, key) is not None and self.start in _NOT_BROUGHT:
                raise ConfigError(
                    f"teacher.{key} is {getattr(self, key)!r}, and would do nothing: teacher.start is {self.start!r}, "
                    "not a model of your own"
                )
        return self
