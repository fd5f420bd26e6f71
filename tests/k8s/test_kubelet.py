"""What the kubelet of the tests does for CronJobs; its pods are tried by test_loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.k8s.api_server import ApiServer
from tests.k8s.cluster import ApiError
from tests.k8s.kubelet import CRON_JOBS, Kubelet
from tests.k8s.resources import JOBS

TEMPLATE = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "i"}]}}}}


def kubelet(tmp_path: Path, policy: str) -> Kubelet:
    server = ApiServer()
    spec = {"schedule": "0 3 * * *", "concurrencyPolicy": policy, "jobTemplate": TEMPLATE}
    server.cluster.create(CRON_JOBS, {"metadata": {"name": "night"}, "spec": spec}, "n")
    return Kubelet(server, tmp_path, {})


def end(kubelet: Kubelet, job: Any) -> None:
    ended = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    kubelet.server.cluster.replace(JOBS, job["metadata"]["name"], ended, "n", part="status")


def test_a_cron_job_starts_a_job_of_its_own_each_night(tmp_path: Path) -> None:
    nights = kubelet(tmp_path, "Forbid")
    first = nights.start("night")
    end(nights, first)
    second = nights.start("night")
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert [each["name"] for each in second["metadata"]["ownerReferences"]] == ["night"]
    assert second["spec"]["template"]["spec"] == TEMPLATE["spec"]["template"]["spec"]


def test_a_cron_job_that_forbids_two_starts_none_while_one_goes_on(tmp_path: Path) -> None:
    nights = kubelet(tmp_path, "Forbid")
    nights.start("night")
    with pytest.raises(ApiError, match="a Job of night goes on"):
        nights.start("night")
    allowing = kubelet(tmp_path, "Allow")
    allowing.start("night")
    assert allowing.start("night")["metadata"]["name"] == "night-0001"
