"""The recipes that calls of the API take: what they refuse."""

import pytest
from pydantic import ValidationError

from selftrain.config import Distillation, Pretraining
from selftrain.config.arguments import as_section
from selftrain.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "greater than or equal to 1"),
        ({"augmentation": "photos"}, "should be 'none', 'digits' or 'natural'"),
        ({"precision": "float16"}, "should be 'float32' or 'mixed_bfloat16'"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"temperature": float("inf")}, "finite number"),
        ({"label_weight": 1.5}, "less than or equal to 1"),
    ],
)
def test_a_distillation_names_a_setting_that_is_not_allowed(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(settings))}\n.*{message}"):
        Distillation(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "greater than or equal to 1"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"objective": "byol"}, "should be 'simclr' or 'barlow_twins'"),
    ],
)
def test_a_pretraining_names_a_setting_that_is_not_allowed(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(settings))}\n.*{message}"):
        Pretraining(**settings)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"temperature": 0}, "temperature is 0; it should be greater than 0"),
        ({"temprature": 2.0}, "unknown key 'temprature' in Distillation; did you mean 'temperature'"),
        (None, r"recipe is None; give a selftrain\.config\.Distillation, or a mapping of its keys"),
        (Pretraining(), r"give a selftrain\.config\.Distillation, or a mapping of its keys"),
    ],
)
def test_a_recipe_given_as_a_mapping_or_as_something_else_is_refused_in_one_line(recipe: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        as_section(Distillation, recipe, name="recipe")


def test_a_recipe_or_a_mapping_of_its_keys_is_taken() -> None:
    assert as_section(Distillation, {"steps": 7}, name="recipe") == Distillation(steps=7)
    assert as_section(Distillation, Distillation(steps=7), name="recipe").steps == 7


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown key 'temprature' in Distillation; did you mean 'temperature'"):
        Distillation(temprature=2.0)
