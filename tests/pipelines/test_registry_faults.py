"""Faults of the registry: an MLflow server that dies between a registration and the alias."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain.retraining.journal import state_of
from tests.pipelines.mlflow_server import MlflowServer
from tests.pipelines.nights import Nights, Paint, colours_experiment
from tests.pipelines.site import Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    (tmp_path / "mlflow").mkdir()
    server = MlflowServer(tmp_path / "mlflow").start()
    yield server
    server.stop()


@pytest.fixture
def here(server: MlflowServer, colours: Path, paint: Paint, tmp_path: Path) -> Nights:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    variables = {
        "MLFLOW_TRACKING_URI": server.address,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default, MLflow tries for four minutes
    }
    return Nights(Site(tmp_path, colours_experiment(colours, inbox), variables=variables), inbox, paint)


def test_a_server_that_dies_between_registration_and_alias_costs_one_line_and_the_next_run_promotes(
    here: Nights, server: MlflowServer
) -> None:
    assert server.process is not None
    here.arrive()
    dies = (sys.executable, "tests/pipelines/dies_before_alias.py", str(server.process.pid), "champion")
    failed = here.site.run(*dies, *here.command())
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("Error: ")]
    assert server.address in line
    assert state_of(here.lines()).failures == 1

    server.start()
    facts = here.site.mlflow(server.address)
    assert list(facts["versions"]) == ["1"], "it was registered before the server died"
    here.retrain()
    facts = here.site.mlflow(server.address)
    assert list(facts["versions"]) == ["1"]
    assert here.champion() == 1
    assert {run["status"] for run in facts["runs"].values()} <= {"FINISHED", "FAILED", "KILLED"}
    here.check(server.address)
