"""Tracking: one MLflow run per pipeline run, and a count of test-set evaluations that only grows."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selftrain.adapters.tracking import store as t
from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.runs import LoggedRun, close_dead_runs, ensure_run, fail_run, find_run, log_run
from selftrain.config import Experiment
from selftrain.errors import RegistryError
from selftrain.selflabel.rounds.history import Round

# mlflow's SQL store leaves cursors to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> t.Tracking:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        return t.open_tracking(tmp_path_factory.mktemp("workspace"), stack=lambda: None)


def a_round(index: int, accuracy: float) -> Round:
    return Round(
        index=index,
        backbone="efficientnet_b0_050",
        labeled=100,
        validation_accuracy=accuracy,
        validation_metric=accuracy,
        kept=True,
        seconds=12.0,
        model_digest="ab" * 32,
    )


def test_the_embedded_store_lies_in_the_workspace_and_leaves_the_working_directory_clean(tmp_path: Path) -> None:
    here = tmp_path / "elsewhere"
    here.mkdir()
    script = (
        "import sys; from pathlib import Path\n"
        "from selftrain.adapters.tracking.store import open_tracking\n"
        "from selftrain.adapters.tracking.runs import LoggedRun, log_run\n"
        "store = open_tracking(Path(sys.argv[1]), stack=lambda: None)\n"
        "note = Path(sys.argv[1]) / 'note.txt'; note.write_text('kept')\n"
        "log_run(store, LoggedRun('r1', 'digits', artifacts=(note,)))\n"
        "print(store.uri)\n"
    )
    root = tmp_path / "workspace"
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    env |= {"PYTHONPATH": str(Path(t.__file__).parents[3]), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(root)], cwd=here, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"sqlite:///{root}/mlflow/mlflow.db"
    assert "alembic" not in done.stderr
    assert list(here.iterdir()) == []
    assert [path.read_text() for path in (root / "mlflow" / "artifacts").rglob("note.txt")] == ["kept"]


def test_the_environment_goes_before_the_stack_and_the_stack_before_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_stack, of_environment = f"sqlite:///{tmp_path}/stack.db", f"sqlite:///{tmp_path}/environment.db"
    assert t.open_tracking(tmp_path / "w", stack=lambda: of_stack).uri == of_stack
    monkeypatch.setenv("MLFLOW_TRACKING_URI", of_environment)
    assert t.open_tracking(tmp_path / "w", stack=lambda: of_stack).uri == of_environment
    assert not (tmp_path / "w").exists()


def test_opening_a_store_again_finds_the_same_experiment_even_after_it_was_deleted(tmp_path: Path) -> None:
    first = t.open_tracking(tmp_path, stack=lambda: None)
    first.client.delete_experiment(first.experiment_id)
    again = t.open_tracking(tmp_path, stack=lambda: None)
    assert again.experiment_id == first.experiment_id
    assert log_run(again, LoggedRun("r1", "digits"))


def test_a_store_that_does_not_answer_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"MLflow store at http://127.0.0.1:9 does not answer.*unset"):
        t.open_tracking(tmp_path, stack=lambda: None)


def test_logging_a_run_twice_leaves_one_run_and_one_value_a_metric_and_step(store: t.Tracking) -> None:
    logged = LoggedRun(
        "twice",
        "digits",
        config=Experiment(),
        rounds=(a_round(0, 0.8), a_round(1, 0.9)),
        metrics={"test_accuracy": 0.97},
        tags={"dataset_version": "abc.dir", "manifest_digest": "f00"},
    )
    assert log_run(store, logged) == log_run(store, logged)
    found = store.client.search_runs([store.experiment_id], "tags.`selftrain.run_id` = 'twice'")
    assert len(found) == 1
    assert found[0].info.status == "FINISHED"
    assert found[0].data.params["source.kind"] == "digits"
    assert found[0].data.params["teacher.backbone"] == "efficientnet_b0_050"
    assert found[0].data.tags["dataset_version"] == "abc.dir"
    assert found[0].data.metrics["test_accuracy"] == 0.97
    points = store.client.get_metric_history(found[0].info.run_id, "round_validation_accuracy")
    assert [(point.step, point.value) for point in points] == [(0, 0.8), (1, 0.9)]


def test_a_run_can_be_opened_first_and_filled_later(store: t.Tracking) -> None:
    opened = log_run(store, LoggedRun("later", "digits", status="RUNNING"))
    assert store.client.get_run(opened).info.status == "RUNNING"
    assert log_run(store, LoggedRun("later", "digits", metrics={"test_accuracy": math.nan})) == opened
    run = store.client.get_run(opened)
    assert run.info.status == "FINISHED"
    assert math.isnan(run.data.metrics["test_accuracy"])


def test_more_metrics_than_mlflow_takes_at_once_all_arrive(store: t.Tracking) -> None:
    many = {f"metric_{index}": float(index) for index in range(2100)}
    run = log_run(store, LoggedRun("many", "digits", metrics=many, tags={f"tag{i}": str(i) for i in range(230)}))
    data = store.client.get_run(run).data
    assert data.metrics == many
    assert data.tags["tag229"] == "229"


def test_a_param_changed_between_two_records_of_a_run_is_refused(store: t.Tracking) -> None:
    log_run(store, LoggedRun("changed", "digits", config=Experiment(seed=1)))
    with pytest.raises(RegistryError, match="changed"):
        log_run(store, LoggedRun("changed", "digits", config=Experiment(seed=2)))


def test_only_dead_runs_that_are_still_open_are_ended_as_killed(store: t.Tracking) -> None:
    dead = ensure_run(store, "dead", "digits")
    alive = ensure_run(store, "alive", "digits")
    finished = log_run(store, LoggedRun("finished", "digits"))
    assert close_dead_runs(store, ["dead", "finished", "never seen"]) == 1
    states = [store.client.get_run(run).info.status for run in (dead, alive, finished)]
    assert states == ["KILLED", "RUNNING", "FINISHED"]


def test_a_failed_run_says_why_and_a_run_that_was_never_opened_is_none(store: t.Tracking) -> None:
    opened = ensure_run(store, "failed", "digits")
    fail_run(store, "failed", "the loss is not finite at step 7")
    fail_run(store, "never opened", "a wrong configuration")
    run = store.client.get_run(opened)
    assert run.info.status == "FAILED"
    assert run.data.tags["selftrain.error"] == "the loss is not finite at step 7"
    assert find_run(store, "never opened") is None


def test_evaluations_on_a_test_set_are_counted_once_a_model_and_across_experiments(tmp_path: Path) -> None:
    digits = t.open_tracking(tmp_path, stack=lambda: None)
    other = t.open_tracking(tmp_path, experiment="other", stack=lambda: None)

    def count(store: t.Tracking, run: str, *models: str, test: str = "set") -> int:
        log = TrackedEvaluations(store, run)
        log.add(test, set(models))
        return len(log.models(test))

    assert count(digits, "r1") == 0
    assert count(digits, "r1", "m1") == 1
    assert count(digits, "r1", "m1") == 1
    assert count(digits, "r1", "m1", "m2") == 2
    assert count(digits, "r2", "m1") == 2
    assert count(other, "r3", "m1") == 2
    assert count(other, "r3", "m3") == 3
    assert count(other, "r2", "m1", test="another set") == 1
    assert TrackedEvaluations(digits, "any").models("set") == {"m1", "m2", "m3"}


STACK = """
import os
import sys
from pathlib import Path
from zenml.client import Client
from zenml.enums import StackComponentType as Kind
from selftrain.adapters.runs.launch import on_stack
from selftrain.adapters.tracking.store import open_tracking, stack_tracker_uri
from selftrain.cli.app import main
client = Client()
assert stack_tracker_uri() is None
client.create_stack_component("own", "mlflow", Kind.EXPERIMENT_TRACKER, {"tracking_uri": sys.argv[1]})
parts = {kind: found[0].name for kind, found in client.active_stack_model.components.items()}
client.create_stack("tracked", {**parts, Kind.EXPERIMENT_TRACKER: "own"})
with on_stack("tracked"):
    print("named", open_tracking(Path("workspace")).uri)
assert stack_tracker_uri() is None
gone = {"tracking_uri": "http://127.0.0.1:9", "tracking_token": "any"}
client.create_stack_component("gone", "mlflow", Kind.EXPERIMENT_TRACKER, gone)
client.create_stack("down", {**parts, Kind.EXPERIMENT_TRACKER: "gone"})
for stack in ((), ("--stack", "down"), ("--stack", "none")):
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it for the process that asked a stack's tracker
    sys.argv = ["selftrain", "retrain", "--dry-run", "--config", "looking.yaml", *stack]
    try:
        main()
    except SystemExit as end:
        print("ended", end.code)
os.environ.pop("MLFLOW_TRACKING_URI", None)
client.activate_stack("tracked")
print("found", open_tracking(Path("workspace")).uri)
"""


@pytest.mark.slow
@pytest.mark.pipeline
def test_the_tracker_of_the_active_or_named_zenml_stack_is_used(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/stack.db"
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    env |= {
        "PYTHONPATH": str(Path(t.__file__).parents[3]),
        "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    (tmp_path / "looking.yaml").write_text("parameters: {experiment: {retrain: {any_of: {performance: 0.9}}}}")
    script = tmp_path / "script.py"  # zenml wants a main module with a file
    script.write_text(STACK)
    command = [sys.executable, str(script), uri]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert f"found {uri}" in done.stdout, done.stderr[-3000:]
    assert f"named {uri}" in done.stdout
    assert not (tmp_path / "workspace").exists()
    # A retraining looks at the champion of the stack that it is given, not of the active one.
    assert "not due: no labelled production images" in done.stdout
    assert "the MLflow store at http://127.0.0.1:9 does not answer" in done.stderr
    assert "no stack is called 'none'; there are: " in done.stderr
    assert not (tmp_path / ".selftrain").exists()
