"""A run that another machine takes over: the command says so, and is no missed gate."""

from __future__ import annotations

import json
import sys

import pytest

from tests.pipelines.site import ROOT, Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def test_a_run_that_was_only_submitted_is_exit_code_0_and_says_how_to_follow_it(site: Site) -> None:
    made = site.run(sys.executable, "-m", "tests.adapters.runs.later")
    assert made.returncode == 0, made.stderr
    command = ("env", f"PYTHONPATH={ROOT}", "selftrain", "run", "--stack", "later", "--json")
    done = site.run(*command, "--config", str(site.config()))
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["status"] == "provisioning"
    assert record["verdict"] is None
    assert f"submitted: run {record['run_id']} continues" in done.stderr
    assert f"follow it: selftrain status {record['run_id']}" in done.stderr
    shown = site.run("selftrain", "status", record["run_id"], "--json")
    assert json.loads(shown.stdout)["name"] == "tiny"
