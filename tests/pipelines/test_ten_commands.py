"""The ten commands of docs/production.md, as a newcomer pastes them: from a first run to a nightly retraining."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pages import commands
from tests.pipelines.site import NETWORK, ROOT, TINY, Site, copy_of_repository

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

TEN = commands((ROOT / "docs" / "production.md").read_text(encoding="utf-8"), "## Ten commands")


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A copy of the repository whose digits experiment is tiny, after its `make run`; nothing starts schedules here."""
    folder = tmp_path_factory.mktemp("ten")
    programs = folder / "programs"
    programs.mkdir()
    for name in ("systemctl", "crontab"):  # the user's own timers are never touched
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
        (programs / name).chmod(0o755)
    site = Site(folder, root=copy_of_repository(folder / "project"))
    site.variables["PATH"] = f"{programs}:{site.environment()['PATH']}"
    recipe = {"backbone": NETWORK, "steps": 24, "validate_every": 12}
    tiny = {**TINY, "name": "digits", "teacher": recipe, "student": recipe}
    tiny["registry"] = {"floors": {"accuracy": 0.01}, "first_champion": "any", "trial_images": 0}
    text = yaml.safe_dump({"parameters": {"experiment": tiny}}, default_flow_style=None, indent=2)
    (site.root / "configs" / "digits.yaml").write_text(text)
    shell(site, "selftrain run --config configs/digits.yaml")
    return site


def shell(site: Site, command: str) -> subprocess.CompletedProcess[str]:
    """A command, pasted into a shell."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=site.root,
        env=site.environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


def journal(site: Site) -> list[dict[str, Any]]:
    text = (site.root / ".selftrain" / "datasets" / "digits.retraining.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_there_are_ten_commands() -> None:
    assert len(TEN) == 10


def test_the_ten_commands_lead_from_a_first_run_to_a_nightly_retraining_that_serves(here: Site, port: int) -> None:
    config, images, collect, would, retrain, status, serve, ask, schedule, run_now = TEN
    shell(here, config)
    shell(here, images)
    inbox = here.root / "inbox"
    assert len(list(inbox.glob("*.png"))) == 300
    assert "300 images, 0 taken in before" in shell(here, collect).stdout
    assert "due: 300 new images of 200" in shell(here, would).stdout
    shell(here, retrain)
    assert "test accuracy" in shell(here, status).stdout
    assert [line["from_version"] for line in journal(here) if line["kind"] == "started"] == [1]  # the champion taught
    assert re.search("promoted|refused", (here.root / "notices.txt").read_text())

    server = subprocess.Popen(
        ["bash", "-c", f"exec {serve.removesuffix('&').strip()} --port {port}"],
        cwd=here.root,
        env=here.environment(),
        start_new_session=True,
    )
    try:
        (answer,) = json.loads(shell(here, ask.replace("8080", str(port))).stdout)["predictions"]
        assert answer["label"] in set("0123456789")
        assert answer["error"] is None
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        assert server.wait(60) == 0
    (sampled,) = (path for path in inbox.rglob("*.png") if path.parent != inbox)
    assert json.loads(Path(f"{sampled}.json").read_text())["label"] == answer["label"]

    assert "retrain --config" in shell(here, schedule).stdout
    assert "ended well" in shell(here, run_now).stderr
    assert journal(here)[-1]["reason"] == "1 new images of 200; nobody asked"
