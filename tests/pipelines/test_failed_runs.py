"""Failed runs: what ZenML and MLflow say of a run that ended in an error."""

from __future__ import annotations

import json

import pytest

from tests.pipelines.site import TINY, Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

TOO_FAST = {"learning_rate": 1e30, "warmup": 0.0}


def test_a_teacher_that_diverges_fails_the_run_with_the_reason(site: Site) -> None:
    teacher = {**TINY["teacher"], **TOO_FAST}
    done = site.run("selftrain", "run", "--config", str(site.config(teacher=teacher)))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    newest = json.loads(site.run("selftrain", "runs", "--json").stdout)[0]
    assert newest["status"] == "failed"
    assert "lower learning_rate" in newest["error"]
    facts = site.mlflow()
    assert facts["versions"] == {}
    assert "RUNNING" not in {run["status"] for run in facts["runs"].values()}


def test_a_run_that_fails_after_its_teacher_is_failed_in_mlflow_too_with_the_reason(site: Site) -> None:
    junk = site.folder / "junk.weights.h5"
    junk.write_bytes(b"no weights")
    student = {**TINY["student"], "weights": str(junk)}
    done = site.run("selftrain", "run", "--config", str(site.config(student=student)))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    newest = json.loads(site.run("selftrain", "runs", "--json").stdout)[0]
    assert newest["status"] == "failed"
    facts = site.mlflow()
    assert facts["versions"] == {}
    logged = next(run for run in facts["runs"].values() if run["tags"]["selftrain.run_id"] == newest["run_id"])
    assert logged["status"] == "FAILED"
    assert "junk.weights.h5" in logged["tags"]["selftrain.error"]
    assert logged["tags"]["selftrain.error"] in newest["error"]
    page = site.run("selftrain", "report", newest["run_id"], "--out", str(site.folder / "failed.html"))
    assert page.returncode == 0, page.stderr
    assert "The run has not stored the evaluation on test" in page.stderr
    text = (site.folder / "failed.html").read_text()
    assert "Unknown: the run failed before its test." in text
    assert "junk.weights.h5" in text
    assert "data:image/webp" in text


def test_a_student_that_diverges_is_a_finding_and_the_run_completes_with_its_teacher(site: Site) -> None:
    student = {**TINY["student"], **TOO_FAST}
    done = site.run("selftrain", "run", "--config", str(site.config(student=student)))
    assert done.returncode == 0, done.stdout + done.stderr
    record = site.status()
    assert [each["kept"] for each in record["rounds"]] == [True, False]
    [alarm] = [each for each in record["alarms"] if each["guard"] == "nan"]
    assert alarm["action"] == "keep_teacher"
    assert "lower learning_rate" in alarm["reason"]
    assert any(alarm["reason"] in finding for finding in record["findings"])
    assert record["test_accuracy"] == record["teacher_test_accuracy"]
    run = site.mlflow()["runs"][record["run_id"]]
    assert run["status"] == "FINISHED"
    again = site.run("selftrain", "run", "--config", str(site.config(student=student)))
    assert again.returncode == 0, again.stdout + again.stderr
    assert site.steps(site.status()["run_id"])["train_student"] == "cached"


def test_a_failed_validation_leaves_no_open_run_and_no_model(site: Site) -> None:
    before = site.mlflow()["versions"]
    checks = {"min_images_per_class": 1000}
    done = site.run("selftrain", "run", "--config", str(site.config(name="checked", checks=checks)))
    assert done.returncode == 2, done.stderr
    newest = json.loads(site.run("selftrain", "runs", "--json").stdout)[0]
    assert newest["status"] == "failed"
    assert "images_per_class" in newest["error"]
    facts = site.mlflow()
    assert facts["versions"] == before
    assert "RUNNING" not in {run["status"] for run in facts["runs"].values()}
