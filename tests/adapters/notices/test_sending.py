"""Notices: what people get, over real HTTP and real processes, and what is recorded when nobody gets it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selftrain.adapters.notices.sending import notify
from selftrain.config.production import Notify
from tests.adapters.notices.webhook import TOKEN, Hook

FACTS = {"experiment": "pets", "version": 3, "accuracy": 0.91234, "error": None}


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Hook()
    monkeypatch.setenv("HOOK", server.url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def settings(**given: Any) -> Notify:
    return Notify.model_validate({"alerter": False, "timeout_s": 5.0, **given})


def recorded(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def failure(record: Path) -> str:
    (line,) = recorded(record)
    assert line["delivered"] is False
    return str(line["error"])


def test_a_webhook_gets_one_sentence_and_the_facts(hook: Hook, tmp_path: Path) -> None:
    notify("promoted", FACTS, settings=settings(webhook="env:HOOK"), record=tmp_path / "n.jsonl")
    ((path, sent),) = hook.asked
    assert path == f"/services/{TOKEN}"
    said = "selftrain: pets: version 3 is the new champion (experiment=pets, version=3, accuracy=0.9123)"
    assert sent["text"] == sent["summary"] == said
    assert (sent["event"], sent["facts"], sent["@type"]) == ("promoted", FACTS, "MessageCard")


def test_a_name_in_a_notice_calls_nobody_in_a_chat(hook: Hook, tmp_path: Path) -> None:
    facts = {"reason": "class '<!channel>' & more"}
    notify("refused", facts, settings=settings(webhook="env:HOOK"), record=tmp_path / "n.jsonl")
    ((_, sent),) = hook.asked
    assert "class '&lt;!channel&gt;' &amp; more" in sent["text"]
    assert sent["facts"] == facts


def test_a_delivered_notice_is_recorded_without_the_secret(hook: Hook, tmp_path: Path) -> None:
    notify("promoted", FACTS, settings=settings(webhook="env:HOOK"), record=tmp_path / "new" / "n.jsonl")
    (line,) = recorded(tmp_path / "new" / "n.jsonl")
    assert (line["channel"], line["event"], line["facts"]) == ("webhook", "promoted", FACTS)
    assert (line["delivered"], line["error"]) == (True, None)
    assert TOKEN not in json.dumps(line)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_an_answer_other_than_2xx_is_recorded_and_not_followed(hook: Hook, tmp_path: Path, status: int) -> None:
    hook.status = status
    notify("failed", FACTS, settings=settings(webhook="env:HOOK"), record=tmp_path / "n.jsonl")
    assert failure(tmp_path / "n.jsonl") == f"the webhook answered {status}"
    assert len(hook.asked) == 1
    assert TOKEN not in (tmp_path / "n.jsonl").read_text()


@pytest.mark.parametrize("slow_s", [30.0, 0.05], ids=["that is silent", "that sends a byte at a time"])
def test_a_server_is_left_after_the_time_out(hook: Hook, tmp_path: Path, slow_s: float) -> None:
    hook.slow_s = slow_s
    notify("failed", FACTS, settings=settings(webhook="env:HOOK", timeout_s=0.4), record=tmp_path / "n.jsonl")
    assert "within 0.4 s" in failure(tmp_path / "n.jsonl")


def test_a_refused_connection_is_recorded_without_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{free.getsockname()[1]}/{TOKEN}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    notify("failed", FACTS, settings=settings(webhook="env:HOOK"), record=tmp_path / "n.jsonl")
    assert failure(tmp_path / "n.jsonl") == "the webhook cannot be reached: Connection refused"


@pytest.mark.parametrize("url", [f"ftp://x/{TOKEN}", f"file:///etc/{TOKEN}", f"http://[{TOKEN}", f"http://a b/{TOKEN}"])
def test_an_address_that_is_none_is_recorded_without_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HOOK", url)
    notify("failed", FACTS, settings=settings(webhook="env:HOOK"), record=tmp_path / "n.jsonl")
    assert "the webhook" in failure(tmp_path / "n.jsonl")
    assert TOKEN not in (tmp_path / "n.jsonl").read_text()


def test_a_missing_secret_is_named_by_its_reference(tmp_path: Path) -> None:
    notify("failed", FACTS, settings=settings(webhook="env:NO_SUCH_HOOK"), record=tmp_path / "n.jsonl")
    assert "env:NO_SUCH_HOOK" in failure(tmp_path / "n.jsonl")


def test_a_command_gets_the_notice_on_its_standard_input(tmp_path: Path) -> None:
    program = f"{sys.executable} -c \"import sys; open('got.json', 'w').write(sys.stdin.read())\""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        notify("refused", FACTS, settings=settings(command=program), record=tmp_path / "n.jsonl")
    assert json.loads((tmp_path / "got.json").read_text())["facts"] == FACTS
    assert recorded(tmp_path / "n.jsonl")[0]["delivered"] is True


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("false", "the command ended with 1"),
        ("no-such-program-anywhere", "the command cannot be started: No such file or directory"),
    ],
)
def test_a_command_that_fails_is_recorded(tmp_path: Path, command: str, said: str) -> None:
    notify("failed", FACTS, settings=settings(command=command), record=tmp_path / "n.jsonl")
    assert failure(tmp_path / "n.jsonl") == said


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    script = tmp_path / "hangs"
    script.write_text(f"#!/bin/sh\n(sleep 1; touch {tmp_path}/alive) &\nsleep 60\n")
    script.chmod(0o755)
    notify("failed", FACTS, settings=settings(command=str(script), timeout_s=0.3), record=tmp_path / "n.jsonl")
    assert failure(tmp_path / "n.jsonl") == "the command did not end within 0.3 s and was ended"
    time.sleep(1.2)
    assert not (tmp_path / "alive").exists()


def test_one_channel_that_fails_does_not_keep_another_from_telling(hook: Hook, tmp_path: Path) -> None:
    hook.status = 500
    notify("failed", FACTS, settings=settings(webhook="env:HOOK", command="cat"), record=tmp_path / "n.jsonl")
    told = {line["channel"]: line["delivered"] for line in recorded(tmp_path / "n.jsonl")}
    assert told == {"webhook": False, "command": True}


def test_an_event_that_is_not_chosen_is_not_told(hook: Hook, tmp_path: Path) -> None:
    notify("due", FACTS, settings=settings(webhook="env:HOOK"), record=tmp_path / "n.jsonl")
    assert not hook.asked
    assert not (tmp_path / "n.jsonl").exists()


def test_a_number_that_json_does_not_know_is_sent_as_text(hook: Hook, tmp_path: Path) -> None:
    notify("failed", {"loss": float("nan")}, settings=settings(webhook="env:HOOK"), record=tmp_path / "n.jsonl")
    ((_, sent),) = hook.asked
    assert sent["facts"] == {"loss": "nan"}


def test_a_record_that_cannot_be_written_fails_nothing(hook: Hook, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notify("failed", FACTS, settings=settings(webhook="env:HOOK"), record=tmp_path / "file" / "n.jsonl")
    assert len(hook.asked) == 1


def test_where_zenml_was_never_used_no_alerter_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.chdir(tmp_path)
    notify("failed", FACTS, settings=settings(alerter=True), record=tmp_path / "n.jsonl")
    assert not (tmp_path / "n.jsonl").exists()
    assert not (tmp_path / "zenml").exists()
