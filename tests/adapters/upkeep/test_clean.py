"""Clean, on a real workspace: data set versions in DVC, models in MLflow, checkpoints and decoded images."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking._tracking_service import utils

from selftrain.adapters.registry import champions, registration, versions
from selftrain.adapters.runs import run_lock
from selftrain.adapters.snapshots.repository import exists, restore, snapshot
from selftrain.adapters.tracking.runs import LoggedRun, log_run
from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.adapters.upkeep.clean import clean
from selftrain.config import Registry
from selftrain.errors import BusyError, InputError, SnapshotError
from selftrain.evaluate.promotion import PromotionDecision
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import read_contract
from selftrain.learn.training.checkpoint import Checkpoints, Position

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    # mlflow's SQL store leaves cursors to the garbage collector; so does DVC, and pygtrie warns at DVC's use of it.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

FIRST, SECOND, THIRD, FOURTH = range(1, 5)
Command = Callable[..., Any]  # tests/conftest.py, selftrain


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, colour_model: Path) -> tuple[Path, dict[int, str]]:
    """A workspace after four runs, and the data set version of each.

    Version 1 was champion, version 2 is; 3 was refused; 4 is the challenger. The third run's data set version is
    in no model: its version 3 learned from that of the first run.
    """
    workspace = Workspace(tmp_path_factory.mktemp("made") / ".selftrain").ensure()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = open_tracking(workspace.root, stack=lambda: None)
        datasets = {number: grown(workspace, number) for number in (FIRST, SECOND, THIRD, FOURTH)}
        for number, dataset in datasets.items():
            learned = datasets[FIRST] if number == THIRD else dataset
            register(tracking, workspace, colour_model, number, dataset, learned)
    finish_training(workspace, "finished", end=True)
    finish_training(workspace, "unfinished", end=False)
    np.save(workspace.decoded_cache / "some.npy", np.zeros(1000, np.uint8))
    return workspace.root, datasets


def grown(workspace: Workspace, number: int) -> str:
    """One more shard and another manifest, as an ingest leaves them."""
    folder = workspace.dataset("digits")
    for name, content in ((f"shards/{number}", os.urandom(50_000)), ("manifest.parquet", os.urandom(10_000))):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.part").write_bytes(content)
        path.with_name(f"{path.name}.part").replace(path)
    return snapshot(workspace, "digits").hash


def register(tracking: Tracking, workspace: Workspace, model: Path, number: int, dataset: str, learned: str) -> None:
    """A run and its version."""
    version = registration.register(
        tracking,
        model_folder=model,
        contract=read_contract(model),
        report=None,
        run_key=f"key {number}",
        tags={"selftrain.dataset_version": learned},
        card="# colours\n",
        settings=Registry(model_name="colours"),
        run_id=f"run {number}",
    )
    decision = PromotionDecision(
        promote=number in (FIRST, SECOND), reasons=("judged",), against=min(number - 1, SECOND) or None
    )
    champions.record_decision(tracking, version, decision, who="test")
    if decision.promote:
        champions.promote(tracking, "colours", number, who="test")
    versions.load_model_folder(tracking, version, cache=workspace.models)
    tags = {"selftrain.dataset_version": dataset, "selftrain.registered_version": str(number)}
    log_run(tracking, LoggedRun(run_id=f"run {number}", name="digits", tags=tags))


def finish_training(workspace: Workspace, key: str, *, end: bool) -> None:
    saved = Checkpoints(workspace.checkpoints / "code").of(key)
    with saved.held():
        saved.save(Position(key), [np.zeros(5000, np.float32)])
        if end:
            saved.save_best(1, [np.zeros(5000, np.float32)])
            saved.finish(Position(key))


@pytest.fixture
def workspace(made: tuple[Path, dict[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of that workspace, its links kept; ZenML was never used here."""
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = Workspace(tmp_path / ".selftrain")
    os.system(f"cp -a {made[0]} {copy.root}")
    tracking = open_tracking(copy.root, stack=lambda: None)  # the addresses in it follow
    utils._artifact_repos_cache.clear()  # MLflow keeps the old ones in the process
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    return copy


def files(workspace: Workspace) -> dict[str, int]:
    ours = (path for path in workspace.root.rglob("*") if path.is_file() and ".dvc/" not in str(path.parent) + "/")
    cached = (path for path in (workspace.datasets / ".dvc" / "cache").rglob("*") if path.is_file())
    return {
        str(path): path.stat().st_size for path in (*ours, *cached) if path.name not in ("cleaning.lock", "dvc.lock")
    }


def opened(workspace: Workspace) -> Tracking:
    return open_tracking(workspace.root, stack=lambda: None)


def can_load(workspace: Workspace, number: int) -> bool:
    """Whether the version's files can be fetched from the registry."""
    shutil.rmtree(workspace.models, ignore_errors=True)
    version = versions.get_version(opened(workspace), name="colours", number=number)
    if not versions.has_files(opened(workspace), version.source):
        return False
    folder = versions.load_model_folder(opened(workspace), version, cache=workspace.models)
    return read_contract(folder).class_names == ("blue", "green", "red")


def test_what_is_needed_stays_and_the_rest_goes(workspace: Workspace, made: tuple[Path, dict[int, str]]) -> None:
    datasets = made[1]
    before = files(workspace)
    planned = clean(workspace.root, keep_runs=1, dry_run=True)
    assert files(workspace) == before, "a dry run changed something"
    report = clean(workspace.root, keep_runs=1)
    assert (report.freed, report.size, report.kept_runs) == (planned.freed, planned.size, 1)
    freed = {each.kind: each for each in report.freed}
    assert freed["decoded images"].files == 1
    assert freed["checkpoints of finished trainings"].size > 20_000
    assert freed["copies of superseded models"].files > 1, "version 1 and 3 have no alias"
    assert freed["files of superseded models"].files > 1
    assert not freed["models of old runs"].files
    objects = freed["data set versions"]  # the manifest of the third run and its file list, in the cache and the remote
    assert objects.files == 4
    assert 20_000 < objects.size < 25_000
    assert [can_load(workspace, number) for number in (FIRST, SECOND, THIRD, FOURTH)] == [True, True, False, True]
    for number in (FIRST, SECOND, FOURTH):
        restore(workspace, "digits", datasets[number])
        assert exists(workspace, datasets[number])
    with pytest.raises(SnapshotError, match="neither this cache nor the remote"):
        restore(workspace, "digits", datasets[THIRD])
    assert (workspace.checkpoints / "code" / "unfinished" / "state.npz").exists()
    assert clean(workspace.root, keep_runs=1).freed[-1].files == 0


def test_a_clean_that_keeps_all_runs_removes_no_data_and_no_model(
    workspace: Workspace, made: tuple[Path, dict[int, str]]
) -> None:
    report = clean(workspace.root, keep_runs=4)
    assert {each.kind for each in report.freed if each.files} == {
        "decoded images",
        "checkpoints of finished trainings",
        "copies of superseded models",
    }
    restore(workspace, "digits", made[1][THIRD])
    assert can_load(workspace, THIRD)


def test_a_rollback_after_a_clean_serves_the_champion_before(workspace: Workspace) -> None:
    clean(workspace.root, keep_runs=1)
    assert champions.rollback(opened(workspace), "colours", who="test").number == FIRST
    assert can_load(workspace, FIRST)


def test_a_run_registers_its_model_again_after_its_files_went(workspace: Workspace, colour_model: Path) -> None:
    clean(workspace.root, keep_runs=1)
    register(opened(workspace), workspace, colour_model, THIRD, "x.dir", "x.dir")
    assert can_load(workspace, THIRD)


def test_data_that_was_removed_can_be_saved_again(
    workspace: Workspace, made: tuple[Path, dict[int, str]], tmp_path: Path
) -> None:
    restore(workspace, "digits", made[1][THIRD])
    third = tmp_path / "third"
    shutil.copytree(workspace.dataset("digits"), third)
    restore(workspace, "digits", made[1][FOURTH])
    clean(workspace.root, keep_runs=1)
    shutil.rmtree(workspace.dataset("digits"))
    shutil.copytree(third, workspace.dataset("digits"))
    assert snapshot(workspace, "digits").hash == made[1][THIRD]
    assert exists(workspace, made[1][THIRD])


def test_what_the_watermark_of_the_retraining_names_stays(
    workspace: Workspace, made: tuple[Path, dict[int, str]]
) -> None:
    lines = [{"dataset_version": "0" * 32 + ".dir"}, {"dataset_version": made[1][THIRD]}, {"due": False}]
    journal = workspace.datasets / "digits.retraining.jsonl"
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"dataset_ver')
    clean(workspace.root, keep_runs=1)
    restore(workspace, "digits", made[1][THIRD])


def test_while_a_run_is_alive_nothing_is_removed(workspace: Workspace) -> None:
    before = files(workspace)
    with run_lock.hold(workspace.locks, "some-run"), pytest.raises(BusyError, match="run some-run is alive"):
        clean(workspace.root, keep_runs=1)
    assert files(workspace) == before
    (workspace.locks / "dead-run.lock").touch()
    assert clean(workspace.root, keep_runs=1).size, "the run of a dead process holds nothing up"


def test_a_clean_that_was_stopped_halfway_is_finished_by_the_next(
    workspace: Workspace, made: tuple[Path, dict[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = clean(workspace.root, keep_runs=1, dry_run=True)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            clean(workspace.root, keep_runs=1)
    clean(workspace.root, keep_runs=1)
    assert clean(workspace.root, keep_runs=1, dry_run=True).size == 0 < planned.size
    assert not list(workspace.root.rglob(".removed-*"))
    assert can_load(workspace, SECOND)
    restore(workspace, "digits", made[1][FIRST])


def test_a_needed_file_list_that_is_damaged_stops_it_before_anything_is_removed(
    workspace: Workspace, made: tuple[Path, dict[int, str]]
) -> None:
    name = made[1][FIRST]
    damaged = workspace.datasets / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
    damaged.chmod(0o644)
    damaged.write_text("{")
    before = files(workspace)
    with pytest.raises(SnapshotError, match="cannot be read"):
        clean(workspace.root, keep_runs=1)
    assert files(workspace) == before


def test_a_folder_that_is_not_a_workspace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a workspace"):
        clean(tmp_path, keep_runs=1)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_would_free_in_bytes(selftrain: Command, workspace: Workspace) -> None:
    planned = clean(workspace.root, keep_runs=1, dry_run=True)
    shown = selftrain("clean", "--keep-runs", 1, "--dry-run")
    assert shown.code == 0, shown.err
    assert f"{planned.size:,} bytes would be freed; nothing was removed; runs kept: 1" in shown.out
    answer = json.loads(selftrain("clean", "--keep-runs", 1, "--json").out)
    assert answer == {**planned.model_dump(mode="json"), "dry_run": False}
    assert selftrain("clean", "--keep-runs", 0).code == 2
