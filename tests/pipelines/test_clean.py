"""A workspace after a clean: kept runs come from the cache, others train again, a rollback finds its model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.pipelines.site import Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

FETCH = """
import json
from pathlib import Path
from selftrain.adapters.registry.references import find_version
from selftrain.adapters.registry.versions import load_model_folder
opened, version = find_version("champion", workspace=Path({workspace!r}))
folder = load_model_folder(opened.tracking, version, cache=opened.cache)
print(json.dumps([version.number, sorted(path.name for path in folder.iterdir())]))
"""


def ran(site: Site, seed: int) -> dict[str, str]:
    """The steps of a run with this seed."""
    done = site.run("selftrain", "run", "--config", str(site.config(seed=seed)))
    assert done.returncode == 0, done.stdout + done.stderr
    return site.steps(site.status()["run_id"])


def freed(site: Site, *options: str) -> dict[str, int]:
    done = site.run("selftrain", "clean", "--keep-runs", "1", "--workspace", str(site.workspace), "--json", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {each["kind"]: each["size"] for each in found["freed"]}


def test_after_a_clean_runs_go_on_and_a_rollback_finds_its_model(site: Site) -> None:
    ran(site, 1)
    ran(site, 2)
    second = site.status()
    by_hand = ("--force", "--why", "by hand", "--workspace", str(site.workspace))
    assert site.run("selftrain", "promote", "2", *by_hand).returncode == 0
    planned = freed(site, "--dry-run")
    assert freed(site) == planned
    assert planned["models of old runs"] > 100_000, "the first run's teacher and student"
    assert planned["decoded images"] > 0
    assert not planned["files of superseded models"], "one is champion, the other was"

    again = ran(site, 2)
    assert {again[name] for name in ("ingest", "train_teacher", "train_student", "read_test")} == {"cached"}
    assert site.status()["test_accuracy"] == second["test_accuracy"]

    assert site.run("selftrain", "rollback", "--workspace", str(site.workspace)).returncode == 0
    number, files = site.ask(FETCH.format(workspace=str(site.workspace)))
    assert number == 1
    assert "model.keras" in files

    anew = ran(site, 1)
    assert (anew["ingest"], anew["train_teacher"], anew["train_student"]) == ("cached", "completed", "completed")
