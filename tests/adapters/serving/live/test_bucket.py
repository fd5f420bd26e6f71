"""A real S3 server: samples are written to it, and files are predicted from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selftrain.adapters.serving.live.measures import Measures
from selftrain.adapters.serving.live.samples import Sampler, open_inbox
from selftrain.autolabeling.folders.sources import list_sources
from selftrain.config import Inbox
from selftrain.errors import InboxError
from tests.adapters.s3 import S3Server

pytestmark = [
    pytest.mark.slow,
    # aiobotocore's sessions are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server over a folder; its key is in the environment."""
    (tmp_path / "s3" / "photos").mkdir(parents=True)
    server = S3Server(tmp_path / "s3")
    server.start("key", "secret")
    for name, value in {**server.environment(), "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    yield server.address
    server.stop()


def test_samples_lie_in_the_bucket_and_are_listed_for_prediction(
    endpoint: str, tmp_path: Path, paint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_SECRET", "secret")
    inbox = Inbox(
        url="s3://photos/new",
        storage={"key": "key", "client_kwargs.endpoint_url": endpoint},
        secrets={"secret": "env:THE_SECRET"},
    )
    data = paint(tmp_path / "r.png", "red").read_bytes()
    sampler = Sampler(inbox.sampling, open_inbox(inbox), Measures())
    sampler.offer(data, label="red", confidence=0.5, model_version="models:/colours/1")
    sampler.close(30)
    (image,) = list_sources(["s3://photos/new"]).images
    assert image.path.startswith("s3://photos/new/")
    assert image.read(image.path) == data
    sidecar = json.loads(image.read(f"{image.path}.json"))
    assert (sidecar["label"], sidecar["model_version"]) == ("red", "models:/colours/1")


def test_a_key_that_is_refused_is_counted_for_samples_and_named_for_prediction(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    measures = Measures()
    sampler = Sampler(Inbox(url="s3://photos/new").sampling, open_inbox(Inbox(url="s3://photos/new")), measures)
    sampler.offer(b"GIF89a", label="red", confidence=0.5, model_version="models:/colours/1")
    sampler.close(60)
    assert 'selftrain_sampled_total{outcome="failed"} 1.0' in measures.text().decode()
    with pytest.raises(InboxError, match=r"s3://photos/new.*check the key"):
        list_sources(["s3://photos/new"])
