"""Samples: which answered images go to the inbox, where they lie, and what happens when they cannot be written."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from selftrain.adapters.serving.live.measures import Measures
from selftrain.adapters.serving.live.samples import WAITING, InboxPlace, Sampler, is_sampled, open_inbox
from selftrain.config import Inbox, Sampling
from selftrain.errors import ConfigError, SecretError

RULE = Sampling(rule="low_confidence", below=0.9, control=0.0)


def counted(measures: Measures, outcome: str) -> float:
    (line,) = [
        each
        for each in measures.text().decode().splitlines()
        if each.startswith(f'selftrain_sampled_total{{outcome="{outcome}"')
    ] or ["0 0"]
    return float(line.split()[-1])


def offered(sampler: Sampler, data: bytes = b"GIF89a", confidence: float = 0.5) -> None:
    sampler.offer(data, label="cat", confidence=confidence, model_version="models:/pets/3")


def test_the_rule_keeps_unsure_answers_and_the_control_slice_a_share_of_all() -> None:
    paths = [f"in/{k}.jpg" for k in range(4000)]
    assert all(is_sampled(RULE, path, 0.89) for path in paths[:20])
    assert not any(is_sampled(RULE, path, 0.9) for path in paths)
    control = RULE.model_copy(update={"control": 0.05})
    share = sum(is_sampled(control, path, 1.0) for path in paths) / len(paths)
    assert 0.04 < share < 0.06
    assert all(is_sampled(Sampling(rule="all"), path, 1.0) for path in paths[:20])


@pytest.fixture
def memory() -> Iterator[str]:
    """fsspec's file system in memory, which is written to as a bucket is."""
    import fsspec

    yield "memory://samples"
    files = fsspec.filesystem("memory")
    if files.exists("/samples"):
        files.rm("/samples", recursive=True)


def test_a_bucket_gets_the_image_and_then_its_sidecar_and_each_image_once(memory: str) -> None:
    import fsspec

    measures = Measures()
    sampler = Sampler(RULE, open_inbox(Inbox(url=memory)), measures)
    offered(sampler)
    offered(sampler)
    offered(sampler, b"GIF89a sure", confidence=0.95)
    sampler.close(10)
    files = fsspec.filesystem("memory")
    image, sidecar = sorted(files.find("/samples"))
    assert sidecar == f"{image}.json"
    assert image.endswith(".gif")
    assert files.cat_file(image) == b"GIF89a"
    answer = json.loads(files.cat_file(sidecar))
    assert set(answer) == {"label", "confidence", "model_version", "when"}
    assert (answer["label"], answer["confidence"], answer["model_version"]) == ("cat", 0.5, "models:/pets/3")
    assert (counted(measures, "written"), counted(measures, "known")) == (1, 1)


def test_a_slow_inbox_makes_no_caller_wait_and_what_does_not_fit_is_counted() -> None:
    slow, measures = threading.Event(), Measures()
    sampler = Sampler(RULE, InboxPlace("in", lambda name, data: slow.wait(30)), measures)
    offered(sampler, b"first")
    begun = time.monotonic()
    while sampler.waiting:  # until the thread holds the first one
        assert time.monotonic() - begun < 30
    for k in range(WAITING + 5):
        offered(sampler, b"%d" % k)
    assert counted(measures, "dropped") == 5
    slow.set()
    sampler.close(30)


def test_a_sample_whose_sidecar_failed_is_written_again() -> None:
    full, written, measures = [True], [], Measures()

    def write(name: str, data: bytes) -> None:
        if full[0] and name.endswith(".json"):
            raise OSError(28, "No space left on device")
        written.append(name)

    sampler = Sampler(RULE, InboxPlace("in", write), measures)
    offered(sampler)
    begun = time.monotonic()
    while not counted(measures, "failed"):
        assert time.monotonic() - begun < 30
    full[0] = False
    offered(sampler)
    sampler.close(10)
    assert len(written) == 3  # the image twice, the sidecar once
    assert counted(measures, "written") == 1


def test_an_inbox_that_cannot_be_opened_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        open_inbox(Inbox(url="nosuch://bucket"))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(SecretError, match="env:NO_SUCH_KEY"):
        open_inbox(Inbox(url="memory://x", secrets={"key": "env:NO_SUCH_KEY"}))
