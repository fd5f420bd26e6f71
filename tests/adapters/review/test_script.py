"""The page's script, run by Node with a stand-in for a browser: two chunks of a queue, a dead server, another name."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from selftrain.adapters.review import app

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node")


def outcome(scenario: str) -> object:
    command = [str(NODE), str(Path(__file__).with_name("stand_in.js")), str(app.HERE / "page.js"), scenario]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_chunk_that_is_under_way_is_waited_for_and_asked_for_once() -> None:
    assert outcome("slow") == [300, 200, 1]


def test_a_server_that_is_gone_is_asked_a_few_times_and_the_next_key_goes_on_when_it_is_back() -> None:
    tries, place = outcome("down")
    assert tries <= 3
    assert place == 200


def test_an_undo_is_sent_under_the_name_that_answered() -> None:
    assert outcome("renamed") == [["answer", "anna", "dog"], ["undo", "anna", "dog"]]
