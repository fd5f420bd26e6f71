"""`selftrain stack`, `doctor --stack` and `runs reap`: what is refused before ZenML or a cluster is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Ended


def test_the_kind_of_stack_must_be_said(selftrain: Callable[..., Ended]) -> None:
    ended = selftrain("stack", "up")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == ("Error: say which stack: selftrain stack up --kubernetes, or selftrain stack up --compose\n")


def test_a_wrong_option_is_one_line(selftrain: Callable[..., Ended]) -> None:
    ended = selftrain("stack", "up", "--compose", "--s3-endpoint", "minio")
    assert ended.code == 2
    assert ended.err.startswith("Error: --s3-endpoint: 'minio' is not an address; give http://HOST:PORT")
    assert ended.err.count("\n") == 1


def test_a_key_that_is_not_there_is_named_before_anything_is_registered(
    selftrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    ended = selftrain("stack", "up", "--kubernetes", "--s3-key", "env:NO_KEY", "--s3-secret", "file:/nowhere")
    assert ended.code == 2
    assert ended.err == "Error: the secret 'env:NO_KEY' is not set; set NO_KEY in the environment of this process\n"
