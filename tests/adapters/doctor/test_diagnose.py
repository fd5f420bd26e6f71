"""The doctor on well and sick machines; each sickness is real, in a temporary folder."""

from __future__ import annotations

import hashlib
import http.server
import importlib.metadata
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain.adapters.doctor import diagnose, probes
from selftrain.adapters.doctor.probes import ProbeResult
from selftrain.adapters.runs import run_lock
from selftrain.files.workspace import Workspace


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


def mlflow_database(path: Path, version: str) -> None:
    """The two tables that the doctor reads."""
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values (?)", (version,))
        database.execute("create table runs (run_uuid text)")
    database.close()


def tree(root: Path) -> dict[str, str]:
    return {str(path): hashlib.md5(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


@pytest.mark.keras
def test_a_fresh_machine_is_well_and_nothing_is_made(workspace: Workspace, tmp_path: Path) -> None:
    findings = diagnose.diagnose(workspace.root)
    assert [finding.name for finding in findings if not finding.ok] == []
    assert {"python", "packages", "zenml", "mlflow", "dvc", "disk", "keras", "gpu"} <= {f.name for f in findings}
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_or_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy==1.0", "no-such-package>=2", "pydantic>=2", "moto; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    finding = diagnose.package_versions()
    assert not finding.ok
    assert "no-such-package is missing (wanted >=2)" in finding.found
    assert "(wanted ==1.0)" in finding.found
    assert "pydantic" not in finding.found
    assert "moto" not in finding.found
    assert "requirements.lock" in finding.advice


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_workspace_without_write_rights_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    finding = diagnose.writable(tmp_path / "ws")
    tmp_path.chmod(0o700)
    assert not finding.ok
    assert str(tmp_path) in finding.advice


def test_a_workspace_below_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not diagnose.writable(tmp_path / "file" / "ws").ok


def test_a_full_disk_is_found(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "LEAST_FREE_GB", shutil.disk_usage("/").total / 1e9 + 1)
    assert not diagnose.free_disk(workspace.root).ok


def test_an_mlflow_database_of_this_version_is_well_and_stays_as_it_is(workspace: Workspace) -> None:
    mlflow_database(workspace.mlflow_database, probes.mlflow_schema())
    before = tree(workspace.root)
    finding = diagnose.mlflow_store(workspace)
    assert finding.ok
    assert "0 runs" in finding.found
    assert tree(workspace.root) == before


def test_the_schema_read_from_mlflows_sources_is_one_revision() -> None:
    assert len(probes.mlflow_schema()) == 12


def test_an_mlflow_database_of_another_version_is_found(workspace: Workspace) -> None:
    mlflow_database(workspace.mlflow_database, "000000000000")
    finding = diagnose.mlflow_store(workspace)
    assert not finding.ok
    assert "mlflow db upgrade" in finding.advice


def test_a_damaged_mlflow_database_is_found(workspace: Workspace) -> None:
    workspace.mlflow_database.parent.mkdir(parents=True)
    workspace.mlflow_database.write_bytes(b"not a database" * 100)
    assert not diagnose.mlflow_store(workspace).ok


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def test_an_mlflow_server_is_asked_for_its_health(
    workspace: Workspace, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert diagnose.mlflow_store(workspace).ok


def test_an_mlflow_server_that_is_down_is_found(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    finding = diagnose.mlflow_store(workspace)
    assert not finding.ok
    assert "MLFLOW_TRACKING_URI" in finding.advice


def dvc_config(workspace: Workspace, url: str) -> None:
    path = workspace.datasets / ".dvc" / "config"
    path.parent.mkdir(parents=True)
    path.write_text(f"[core]\n    no_scm = True\n    remote = mine\n['remote \"mine\"']\n    url = {url}\n")


def test_a_local_dvc_remote_is_well(workspace: Workspace) -> None:
    dvc_config(workspace, "../../dvc-remote")
    finding = diagnose.dvc_repository(workspace)
    assert finding.ok
    assert "dvc-remote" in finding.found


def test_a_dvc_remote_whose_plugin_is_missing_is_found(workspace: Workspace) -> None:
    dvc_config(workspace, "nosuch://bucket/path")
    finding = diagnose.dvc_repository(workspace)
    assert not finding.ok
    assert "dvc-nosuch" in finding.advice


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pygtrie's, at DVC's use of it
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # DVC leaves its SQLite state to the collector
def test_the_config_that_a_snapshot_writes_is_understood(workspace: Workspace) -> None:
    from selftrain.adapters.snapshots.repository import snapshot

    dataset = workspace.ensure().dataset("digits")
    dataset.mkdir()
    (dataset / "manifest.parquet").write_bytes(b"one")
    snapshot(workspace, "digits")
    assert "dvc-remote" in diagnose.dvc_repository(workspace).found


def test_a_gpu_that_only_the_driver_sees_is_found() -> None:
    finding = diagnose.gpu(ProbeResult(values={"gpus": ""}), "NVIDIA H200")
    assert not finding.ok
    assert "NVIDIA H200" in finding.found


def test_a_gpu_that_does_not_compute_in_bfloat16_is_named() -> None:
    old = probes.without_bfloat16(["Tesla T4, 7.5", "NVIDIA A100, 8.0", "NVIDIA B200, 10.0"])
    finding = diagnose.gpu(ProbeResult(values={"gpus": "gpu:0, gpu:1, gpu:2"}), "Tesla T4, ...", old=old)
    assert finding.found.endswith("leave precision at float32: Tesla T4 does not compute in bfloat16")


def test_no_gpu_at_all_is_well_and_a_seen_one_is_named() -> None:
    assert diagnose.gpu(ProbeResult(), "").ok
    assert "2: gpu:0, gpu:1" in diagnose.gpu(ProbeResult(values={"gpus": "gpu:0, gpu:1"}), "A, B").found


def test_a_backend_that_cannot_be_imported_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "nosuch")
    finding = diagnose.keras_backend(probes.keras())
    assert not finding.ok
    assert "nosuch" in finding.found
    assert "KERAS_BACKEND" in finding.advice


def test_a_probe_that_hangs_is_an_error_not_a_wait() -> None:
    assert probes.run_probe("import time; time.sleep(60)", timeout_s=0.5).error == "no answer in 0.5 s"


def test_a_check_that_fails_is_a_finding(workspace: Workspace) -> None:
    (workspace.root / "datasets" / ".dvc").mkdir(parents=True)
    (workspace.root / "datasets" / ".dvc" / "config").write_text("no section")
    findings = diagnose.diagnose(workspace.root, ask_keras=ProbeResult)
    [finding] = [finding for finding in findings if finding.name == "dvc"]
    assert not finding.ok
    assert "could not be checked" in finding.found


def test_a_dead_run_is_found_and_a_living_one_is_not(workspace: Workspace) -> None:
    workspace.locks.mkdir(parents=True)
    (workspace.locks / "dead.lock").write_text("")
    with run_lock.hold(workspace.locks, "living"):
        finding = diagnose.dead_runs(workspace)
    assert finding.found == "1: dead"
    assert not finding.ok
    assert (workspace.locks / "dead.lock").exists()


def set_up_zenml() -> None:
    program = "from zenml.client import Client\nanswer = {'stack': Client().active_stack_model.name}"
    made = probes.run_probe(program, environment={"DISABLE_DATABASE_MIGRATION": "false"})
    assert made.error == ""


@pytest.mark.pipeline
def test_a_local_zenml_store_is_asked_without_changing_it(tmp_path: Path) -> None:
    set_up_zenml()
    before = tree(tmp_path / "zenml")
    finding = diagnose.zenml_store()
    assert finding.ok
    assert "stack 'default'" in finding.found
    assert tree(tmp_path / "zenml") == before


@pytest.mark.pipeline
def test_a_damaged_zenml_store_is_found(tmp_path: Path) -> None:
    set_up_zenml()
    [database] = (tmp_path / "zenml").rglob("*.db")
    database.write_bytes(b"not a database" * 1000)
    finding = diagnose.zenml_store()
    assert not finding.ok
    assert "zenml logout" in finding.advice
