"""Reaping: which runs are dead, by the Jobs that are left of them."""

from pathlib import Path

import pytest
import yaml

from selftrain.adapters.cluster.reaping import ORCHESTRATOR, PAUSE_S, Job, jobs_in, verdict
from selftrain.errors import StackError
from tests.k8s.api_server import ApiServer
from tests.k8s.resources import JOBS

ROOT = Path(__file__).resolve().parents[3]

RUN = "8693b2ec"
PIPELINE = Job(name="b7bb-ssl-pipeline", run_id=RUN, runs_pipeline=True, ended="")
STEP = Job(name="c1-train", run_id=RUN, runs_pipeline=False, ended="")


def told(*jobs: Job, job_name: str = "", age_s: float = 2 * PAUSE_S) -> str | None:
    """The verdict on RUN."""
    return verdict(RUN, job_name, jobs, age_s=age_s)


def failed(job: Job, reason: str = "BackoffLimitExceeded") -> Job:
    return Job(job.name, job.run_id, job.runs_pipeline, "Failed", reason)


def test_a_run_lives_as_long_as_the_job_of_its_pipeline() -> None:
    assert told(PIPELINE, failed(STEP)) is None


def test_a_run_whose_job_failed_is_dead_and_the_reason_is_kubernetes_own() -> None:
    assert told(failed(PIPELINE)) == "its Job b7bb-ssl-pipeline failed: BackoffLimitExceeded"


def test_a_run_whose_job_ended_well_and_that_still_runs_for_zenml_is_dead() -> None:
    assert told(Job(PIPELINE.name, RUN, True, "Complete")) == "its Job b7bb-ssl-pipeline has ended, and did not say so"


def test_a_run_whose_job_is_gone_is_dead_even_if_a_step_still_runs() -> None:
    assert told(STEP) == "its Job is gone from the cluster"


def test_a_run_that_has_just_been_submitted_is_left_alone() -> None:
    assert told(age_s=PAUSE_S - 1) is None


def test_a_scheduled_run_is_found_by_the_name_of_its_job_which_has_no_run_in_its_labels() -> None:
    job = Job(name="nightly-123", run_id="", runs_pipeline=True, ended="")
    assert told(job, job_name="nightly-123") is None
    assert told(failed(job), job_name="nightly-123") == "its Job nightly-123 failed: BackoffLimitExceeded"
    assert told(job, job_name="nightly-122") == "its Job is gone from the cluster"
    assert told(job) == "its Job is gone from the cluster"


def test_a_job_that_another_run_has_keeps_no_run_alive() -> None:
    assert told(Job("other", "another-run", True, "")) == "its Job is gone from the cluster"


def test_jobs_with_the_failure_policy_of_our_configuration_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((ROOT / "configs" / "gpu-k8s.yaml").read_text(encoding="utf-8"))
    policy = config["steps"]["train_student"]["settings"]["orchestrator.kubernetes"]["pod_failure_policy"]
    template = {"spec": {"containers": [{"name": "main", "image": "i"}], "restartPolicy": "Never"}}
    spec = {"template": template, "podFailurePolicy": policy}
    with ApiServer() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig", "ann")))
        server.cluster.create(JOBS, {"metadata": {"name": "c1-train", "labels": {"run_id": RUN}}, "spec": spec}, "n")
        notes = {"name": "b7bb", "annotations": {ORCHESTRATOR: "kubernetes"}}
        server.cluster.create(JOBS, {"metadata": notes, "spec": {"template": template}}, "n")
        failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
        server.cluster.replace(JOBS, "b7bb", {"status": {"conditions": [failed]}}, "n", part="status")
        assert jobs_in(None, "n") == [
            Job("b7bb", "", True, "Failed", "BackoffLimitExceeded too often"),
            Job("c1-train", RUN, False, ""),
        ]
        server.may = lambda attempt: False
        with pytest.raises(StackError, match="cannot be listed"):
            jobs_in(None, "n")
