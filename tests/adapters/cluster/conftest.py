"""An API on loopback that answers as Kubernetes' does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.cluster.api_server import Api, served


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The state behind the server that KUBECONFIG leads to."""
    with served(tmp_path) as (state, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        yield state
