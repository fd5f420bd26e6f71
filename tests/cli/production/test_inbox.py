import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import Ended


@pytest.fixture
def config(tmp_path: Path, paint: Callable[..., Path]) -> Path:
    """An experiment with two images and a broken one in its inbox."""
    paint(tmp_path / "inbox" / "a.png", "red", seed=1)
    paint(tmp_path / "inbox" / "b.png", "blue", seed=2)
    (tmp_path / "inbox" / "c.jpg").write_bytes(b"broken")
    experiment = {"name": "shop", "inbox": {"url": "inbox", "settle_s": 0}}
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump({"parameters": {"experiment": experiment}}))
    return path


def test_collect_says_what_it_took_and_what_it_could_not_use(selftrain: Callable[..., Ended], config: Path) -> None:
    would = selftrain("collect", "--config", config, "--dry-run")
    assert (would.code, would.err) == (0, "")
    assert "would take  3" in would.out

    done = selftrain("collect", "--config", config)
    assert done.code == 0
    assert "taken in     3: 2 new, 0 copies" in done.out
    assert "quarantined  1 not_an_image" in done.out

    again = json.loads(selftrain("collect", "--config", config, "--json").out)
    assert (again["listed"], again["known"], again["taken"], again["intake_rows"]) == (3, 3, 0, 3)


def test_collect_without_an_inbox_or_with_one_that_is_gone_is_one_line(
    selftrain: Callable[..., Ended], config: Path
) -> None:
    values = yaml.safe_load(config.read_text())
    values["parameters"]["experiment"]["inbox"]["url"] = "elsewhere"
    config.write_text(yaml.safe_dump(values))
    gone = selftrain("collect", "--config", config)
    assert (gone.code, gone.out, gone.err.count("\n")) == (1, "", 1)
    assert "the inbox 'elsewhere' is not there" in gone.err

    del values["parameters"]["experiment"]["inbox"]
    config.write_text(yaml.safe_dump(values))
    without = selftrain("collect", "--config", config)
    assert (without.code, without.err.count("\n")) == (2, 1)
    assert "has no section `inbox`" in without.err


def test_a_secret_that_is_missing_is_named_and_nothing_is_listed(selftrain: Callable[..., Ended], config: Path) -> None:
    values = yaml.safe_load(config.read_text())
    values["parameters"]["experiment"]["inbox"] |= {"url": "s3://shop", "secrets": {"secret": "env:NOBODY_SETS_THIS"}}
    config.write_text(yaml.safe_dump(values))
    ended = selftrain("collect", "--config", config)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "'env:NOBODY_SETS_THIS' is not set" in ended.err


def test_collect_imports_no_model_library(selftrain: Callable[..., Ended], config: Path) -> None:
    heavy = "{'tensorflow', 'keras', 'zenml', 'mlflow', 'great_expectations', 'dvc'}"
    code = (
        "import sys; from selftrain.cli.app import main; sys.argv = ['selftrain', 'collect', '-c', 'shop.yaml'];"
        f"\ntry: main()\nexcept SystemExit: pass\nprint(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=config.parent, capture_output=True, text=True, check=True)
    assert "taken in     3" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_a_dry_run_makes_no_workspace(selftrain: Callable[..., Ended], config: Path, tmp_path: Path) -> None:
    assert "would take  3" in selftrain("collect", "--config", config, "--dry-run").out
    assert "not due: 3 new images of 100" in selftrain("retrain", "--config", config, "--dry-run").out
    assert not (tmp_path / ".selftrain").exists()


def test_a_program_for_notices_that_is_missing_is_refused_before_anything_is_taken_in(
    selftrain: Callable[..., Ended], config: Path, tmp_path: Path
) -> None:
    values = yaml.safe_load(config.read_text())
    values["parameters"]["experiment"]["notify"] = {"command": "page-nobody --now", "alerter": False}
    config.write_text(yaml.safe_dump(values))
    for command in (("retrain", "--dry-run"), ("retrain",), ("schedule", "--cron", "0 3 * * *")):
        ended = selftrain(*command, "--config", config)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert "notify.command starts 'page-nobody', which is not a program on this machine" in ended.err
    (line,) = (tmp_path / ".selftrain" / "datasets" / "shop.retraining.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "failed"
    assert not (tmp_path / ".selftrain" / "datasets" / "shop").exists()
