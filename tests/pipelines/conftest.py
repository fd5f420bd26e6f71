"""Fixtures of the pipeline tests."""

import pytest

from tests.pipelines.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Stores of a module's own."""
    return Site(tmp_path_factory.mktemp("site"))
