"""The recipes that calls of the API take: what they refuse."""

import pytest
from pydantic import ValidationError

from selftrain.config import Distillation, Pretraining
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


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown key 'temprature' in Distillation; did you mean 'temperature'"):
        Distillation(temprature=2.0)
