"""The ladder's rungs and their order."""

import itertools

import pytest

from selftrain.errors import BackboneError
from selftrain.ladder import APPLICATIONS, LADDERS, next_rung, resolve


def test_each_rung_is_followed_by_the_next_and_the_top_by_itself() -> None:
    for rungs in LADDERS.values():
        names = [rung.name for rung in rungs]
        assert [next_rung(name) for name in names] == [*names[1:], names[-1]]


def test_efficientnet_rungs_grow_in_width_depth_and_resolution() -> None:
    rungs = LADDERS["efficientnet"]
    for below, above in itertools.pairwise(rungs):
        assert below.width <= above.width
        assert below.depth <= above.depth
        assert below.resolution < above.resolution


def test_an_unknown_backbone_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BackboneError, match="did you mean 'efficientnet_b0'"):
        resolve("EfficientNet-B0")
    with pytest.raises(BackboneError, match="did you mean 'ResNet50'"):
        resolve("resnet50")


@pytest.mark.keras
def test_the_applications_are_those_of_keras() -> None:
    import keras

    classes = {name for name in vars(keras.applications) if name[0].isupper()}
    assert set(APPLICATIONS) == classes
