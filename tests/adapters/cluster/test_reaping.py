"""Reaping: which runs are dead, by the Jobs that are left of them."""

from selftrain.adapters.cluster.reaping import PAUSE_S, Job, verdict

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
