"""Several machines at one data set in a bucket: they meet at a Lease of Kubernetes, and each begins with the newest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoordinationV1Api

from selftrain.adapters.cluster import contenders
from selftrain.adapters.cluster.contenders import NAMESPACE_VARIABLE, STATE_VARIABLE
from selftrain.adapters.cluster.kube import api_client
from selftrain.adapters.cluster.lease import KubernetesLease
from selftrain.adapters.snapshots.carrying import carried_over, carrier_of, shared_state
from selftrain.adapters.snapshots.repository import REMOTE_VARIABLE
from selftrain.config import DigitsSource, Ingest, Place, Splitting
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import LeaseHeldError, LeaseLostError, StackError
from selftrain.files.lease import FileLease, held
from selftrain.files.workspace import Workspace
from selftrain.retraining.journal import journal_of
from tests.adapters import s3
from tests.adapters.cluster.api_server import Api, served
from tests.adapters.s3 import S3Server

pytestmark = [
    # pygtrie warns at a use of it that DVC makes; DVC leaves its SQLite state to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # aiobotocore's sessions are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:.*Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]
LEASE = "/apis/coordination.k8s.io/v1/namespaces/selftrain/leases/digits"
SMALL = DigitsSource(labeled=60, validation=60, test=60)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3.bucket(tmp_path_factory.mktemp("buckets")) as server:
        yield server


@pytest.fixture(autouse=True)
def api(bucket: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A person's machine: kubeconfig, the bucket and its key. A command waits for its turn for a second."""
    key = {"AWS_ACCESS_KEY_ID": "camera", "AWS_SECRET_ACCESS_KEY": "film"}
    places = {
        STATE_VARIABLE: f"s3://data/{tmp_path.name}/state",
        REMOTE_VARIABLE: f"s3://data/{tmp_path.name}/dvc",
        NAMESPACE_VARIABLE: "selftrain",
    }
    with served(tmp_path) as (state, kubeconfig):
        for name, value in {**bucket.environment(), **key, **places, "KUBECONFIG": str(kubeconfig)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(contenders, "BY_HAND_S", 1.0)
        yield state


def place(tmp_path: Path, machine: str) -> Place:
    return Place(workspace=str(tmp_path / machine), dataset="digits")


def night() -> KubernetesLease:
    """The lease as the pod of a nightly retraining asks for it."""
    return KubernetesLease(CoordinationV1Api(api_client(None)), "selftrain", "digits", "the night's run")


def taken_in(place: Place) -> list[str]:
    """Take the digits into the data set at `place`; the paths of the pool."""
    source, store = open_source(SMALL), open_dataset(place).store
    manifest = ingest(source, source.scan(), store, settings=Ingest(), splitting=Splitting()).manifest
    columns = (manifest.table[name].to_pylist() for name in ("origin", "split"))
    return [path for path, split in zip(*columns, strict=True) if split == "unlabeled"]


def reasons(tmp_path: Path, machine: str) -> list[str]:
    """The journal as a machine with an empty disk finds it."""
    with carried_over(place(tmp_path, machine)):
        lines = journal_of(Workspace(tmp_path / machine), "digits").lines()
    return [str(line.facts.get("reason", line.kind)) for line in lines]


def work(where: Place, reason: str) -> None:
    journal_of(Workspace(Path(where.workspace)).ensure(), "digits").append("look", reason=reason)


def test_labels_given_on_an_empty_disk_reach_the_next_night_and_wait_for_one_that_runs(
    selftrain: Callable[..., Any], api: Api, tmp_path: Path
) -> None:
    with shared_state(place(tmp_path, "first night"), "run"):
        path = taken_in(place(tmp_path, "first night"))[0]
    (tmp_path / "labels.csv").write_text(f"path,label\n{path},7\n")
    with held(night()), carried_over(place(tmp_path, "second night")):
        refused = selftrain("label", "--from", "labels.csv")
        assert (refused.code, refused.out) == (1, "")
        assert "the night's run is at it since" in refused.err
        assert len(refused.err.strip().splitlines()) == 1
        work(place(tmp_path, "second night"), "night")
    shutil.rmtree(tmp_path / ".selftrain", ignore_errors=True)
    assert selftrain("label", "--from", "labels.csv").out.startswith("added: 1 labels")
    assert LEASE not in api.objects
    shutil.rmtree(tmp_path / ".selftrain")
    listed = json.loads(selftrain("label", "--list", "--json").out)
    assert listed["labelled"] == 1
    assert reasons(tmp_path, "third night") == ["night"]


def test_a_retraining_that_had_stopped_is_resumed_from_an_empty_disk(
    selftrain: Callable[..., Any], api: Api, tmp_path: Path
) -> None:
    with shared_state(place(tmp_path, "night"), "run"):
        work(place(tmp_path, "night"), "night")
    resumed = selftrain("retrain", "--resume")
    assert resumed.code == 0, resumed.err
    assert LEASE not in api.objects
    assert reasons(tmp_path, "next night")[:2] == ["night", "resumed"]


def test_while_a_plain_run_is_at_the_data_set_a_retraining_finds_it_taken(tmp_path: Path) -> None:
    path = Workspace(tmp_path / "pod").ensure().locks / "digits.retraining"
    with shared_state(place(tmp_path, "mine"), "run"):
        lease = contenders.data_set_lease(path, "retraining")
        claim = lease.take() if lease else None
        assert claim is not None
        assert claim.holder.startswith("run (process")
    with contenders.alone_with(contenders.data_set_lease(path, "retraining")) as alone:
        assert alone
        with pytest.raises(LeaseHeldError, match="retraining"), shared_state(place(tmp_path, "mine"), "run"):
            pass


def test_a_holder_that_hung_and_was_replaced_keeps_nothing(api: Api, tmp_path: Path) -> None:
    hung, lease = place(tmp_path, "hung"), night()
    carrier = carrier_of(hung)
    assert carrier is not None
    assert lease.take() is None
    work(hung, "of the one that hung")
    api.objects[LEASE]["spec"]["holderIdentity"] = "another"
    with pytest.raises(LeaseLostError, match="no longer holds digits"):
        carrier.keep(lease)
    assert reasons(tmp_path, "next") == []


def test_without_a_cluster_it_is_one_line_that_says_what_to_do_and_nothing_is_changed(
    selftrain: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.csv").write_text("path,label\na,7\n")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    unknown = selftrain("label", "--from", "labels.csv")
    assert unknown.code == 1
    assert "set KUBECONFIG, or do it in a pod" in unknown.err
    monkeypatch.delenv(NAMESPACE_VARIABLE)
    nameless = selftrain("label", "--from", "labels.csv")
    assert f"set {NAMESPACE_VARIABLE} to the namespace of the runs" in nameless.err
    assert "Traceback" not in unknown.err + nameless.err
    assert reasons(tmp_path, "next") == []


def test_who_says_that_no_other_machine_is_at_it_needs_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv(NAMESPACE_VARIABLE, "none")
    with shared_state(place(tmp_path, "mine"), "run"):
        work(place(tmp_path, "mine"), "alone")
    assert reasons(tmp_path, "next") == ["alone"]


def test_machines_that_share_a_folder_meet_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAMESPACE_VARIABLE)
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "shared"))
    with shared_state(place(tmp_path, "one"), "run"):
        assert (tmp_path / "shared" / "digits.lease").is_file()
        with pytest.raises(LeaseHeldError, match="run"), shared_state(place(tmp_path, "two"), "label"):
            pass
    assert not (tmp_path / "shared" / "digits.lease").exists()


def test_the_address_of_a_server_says_where_to_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(NAMESPACE_VARIABLE)
    champion, mlflow = tmp_path / "champion-digits.lease", "http://mlflow.selftrain.svc:5000"
    assert isinstance(contenders.lease_for(champion, "promote", mlflow), KubernetesLease)
    assert isinstance(contenders.lease_for(champion, "promote", "https://mlflow.example.com"), FileLease)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.selftrain.svc:9000")
    assert isinstance(contenders.data_set_lease(tmp_path / "digits.retraining", "label"), KubernetesLease)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(StackError, match="may be at champion-digits too"):
        contenders.lease_for(champion, "promote", mlflow)
