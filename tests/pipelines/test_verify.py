"""Verify: a real run holds; an image or a model that was changed since does not, and the command says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.site import Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def checks(site: Site) -> tuple[int, dict[str, str]]:
    done = site.run("selftrain", "verify", "--json")
    return done.returncode, {each["what"]: each["outcome"] for each in json.loads(done.stdout)}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_run_holds_until_its_images_or_its_model_are_changed(site: Site) -> None:
    assert site.run("selftrain", "run", "--config", str(site.config())).returncode == 0
    code, found = checks(site)
    assert code == 0, found
    assert set(found.values()) == {"holds"}
    assert {"manifest", "images", "test accuracy", "model", "the model's answers", "Python"} <= set(found)
    model = next(path for path in site.workspace.rglob("model.keras") if "artifacts" in path.parts)
    flip(model, len(model.read_bytes()) // 2)
    code, found = checks(site)
    assert (code, found["model"], found["images"]) == (1, "does not hold", "holds")
    for shard in site.workspace.rglob("*.arrayrecord"):
        for place in range(len(shard.read_bytes()) // 10, len(shard.read_bytes()), len(shard.read_bytes()) // 10):
            flip(shard, place)
    assert checks(site)[1]["images"] == "does not hold"
