"""Fixtures of the pipeline tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Stores of a module's own."""
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Path]) -> Path:
    """`labeled/` with 15 images of each of three colours, `unlabeled/` with 30 of all."""
    folder = tmp_path_factory.mktemp("images")
    for number, colour in enumerate(("red", "green", "blue")):
        for index in range(15):
            paint(folder / "labeled" / colour / f"{index}.png", colour, seed=100 * number + index)
        for index in range(15, 25):
            paint(folder / "unlabeled" / f"{colour}{index}.png", colour, seed=100 * number + index)
    return folder
