"""The store's check, against a real S3 server that refuses a wrong key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from selftrain.adapters.cluster.storage import store_answers, value_of
from selftrain.errors import StackError
from tests.adapters.s3 import S3Server

pytestmark = [
    # aiobotocore's sessions are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]
KEYS = {"key": "key", "secret": "secret"}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, object]]]:
    """A bucket's folder, and the configuration that leads to its server."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data").mkdir()
    server = S3Server(folder)
    server.start("key", "secret")
    yield folder / "data", {"client_kwargs": {"endpoint_url": server.address, "region_name": "us-east-1"}}
    server.stop()


def test_a_store_is_written_read_and_left_as_it_was(bucket: tuple[Path, dict[str, object]]) -> None:
    folder, configuration = bucket
    assert store_answers("s3://data/artifacts", {**configuration, **KEYS}) > 0
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_key_that_is_refused_is_said_and_not_repeated(bucket: tuple[Path, dict[str, object]]) -> None:
    with pytest.raises(StackError, match=r"s3://data/artifacts: we cannot write .*check the bucket") as raised:
        store_answers("s3://data/artifacts", {**bucket[1], "key": "key", "secret": "wrong-word"})
    assert "wrong-word" not in raised.value.message


def test_a_bucket_that_is_not_there_is_said(bucket: tuple[Path, dict[str, object]]) -> None:
    with pytest.raises(StackError, match="s3://nowhere/x: we cannot write"):
        store_answers("s3://nowhere/x", {**bucket[1], **KEYS})


def test_a_server_that_is_gone_is_said() -> None:
    gone = {"client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}, **KEYS}
    with pytest.raises(StackError, match="s3://data/x: we cannot write"):
        store_answers("s3://data/x", gone)


def test_a_request_is_signed_for_the_region_of_the_bucket() -> None:
    signed = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            signed.append(self.headers["Authorization"])
            self.send_error(403)  # before the body, for which the client asks with "Expect: 100-continue"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        there = {"endpoint_url": f"http://127.0.0.1:{server.server_port}", "region_name": "eu-central-1"}
        with pytest.raises(StackError, match="region and key"):
            store_answers("s3://data/x", {"client_kwargs": there, **KEYS})
        server.shutdown()
    assert "/eu-central-1/s3/aws4_request" in signed[0]


def test_a_plain_setting_is_its_own_value() -> None:
    assert (value_of(None), value_of("eu-west-1")) == ("", "eu-west-1")
